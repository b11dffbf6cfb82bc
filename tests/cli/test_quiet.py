"""What ``lgn fit`` prints holds no advertisement and no number that means nothing."""

from __future__ import annotations

import csv
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from lgn_lightning.cli.quiet import hush
from tests.cli.conftest import SMALL

NOISE = ("Tip", "litlogger", "v_num", "FLOPs", "sync_dist", "0.00it/s", "TPU", "already configured", "many workers")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_fit_says_what_counts(processes: int, tmp_path: Path) -> None:
    options = [option for option in SMALL if "summary" not in option]
    options += [f"--trainer.devices={processes}", "--trainer.log_every_n_steps=50"]
    options += ["--trainer.strategy=ddp"] if processes > 1 else []
    lgn = [sys.executable, "-m", "lgn_lightning", "fit", "digits", "--trainer.accelerator=cpu", *options]
    done = subprocess.run(lgn, capture_output=True, text=True, cwd=tmp_path, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert [word for word in NOISE if word in printed] == []
    assert "LogicMLP: 600 gates" in printed
    assert "val/acc_hard: " in printed
    assert "Result on the test split" in printed
    with (tmp_path / "runs" / "digits" / "version_0" / "metrics.csv").open() as file:
        logged = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert len(logged) == 10, "a run of 30 steps logs its loss, though every 50th step would be the first"
    assert float(logged[0]["train/lr"]) == pytest.approx(0.1, rel=0.1)
    assert float(logged[-1]["train/lr"]) < 0.01


def test_warnings_about_what_others_log_stay() -> None:
    text = "It is recommended to use `self.log({!r}, ..., sync_dist=True)` when logging on epoch level"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hush()
        for name in ("val/acc_hard", "gate_entropy/mean", "mine/score"):
            warnings.warn(text.format(name), UserWarning, stacklevel=1)
    assert ["mine" in str(warning.message) for warning in caught] == [True]
