"""What release 0.1 wrote still opens: a finished run, a killed one, checkpoints of a plain Trainer, circuit files.

``data_0_1/`` was written by that release: ``runs/digits`` by `lgn fit`, ``plain`` by a Trainer with a
``ModelCheckpoint``, whose checkpoints name the class ``lgn_lightning.tree_net.LogicTreeNet``; ``scores.json`` holds the
scores of ``x.pt``.
"""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lgn_lightning import Circuit, LogicClassifier, load_net
from lgn_lightning.circuit import LoopedCircuit, load_circuit
from lgn_lightning.cli.main import main
from lgn_lightning.runs.checkpoints import read_checkpoint

DATA = Path(__file__).parent / "data_0_1"
RUN = Path("runs/digits/version_0")


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    images: torch.Tensor = torch.load(DATA / "x.pt", weights_only=True)
    return images


@pytest.fixture(scope="module")
def scores() -> dict[str, Any]:
    """The scores that each file gave for `x`."""
    values: dict[str, Any] = json.loads((DATA / "scores.json").read_text())
    return values


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with the files."""
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nets_of_a_plain_trainer(x: torch.Tensor, scores: dict[str, Any]) -> None:
    best = DATA / "plain" / "epoch=0-step=20.ckpt"
    nets = [load_net(best), load_net(DATA / "plain"), LogicClassifier.load_from_checkpoint(best).net.eval()]
    assert [net(x).tolist() for net in nets] == [scores["tree"]] * 3


def test_circuit_files(x: torch.Tensor, scores: dict[str, Any]) -> None:
    looped = load_circuit(DATA / "looped.lgn")
    assert isinstance(looped, LoopedCircuit)
    assert looped.scores(x.numpy()).tolist() == scores["looped"]
    assert Circuit.load(DATA / "flat.lgn").scores(x.numpy()).tolist() == scores["flat"]


@pytest.mark.parametrize("source", ["plain", "flat.lgn", "looped.lgn"])
def test_commands_on_circuits_and_a_plain_trainer_s_run(
    source: str, folder: Path, scores: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("x.npy", torch.load("x.pt", weights_only=True).numpy())
    assert main(["predict", source, "x.npy", "--scores"]) == 0
    [_, *rows] = csv.reader(io.StringIO(capsys.readouterr().out))
    assert [[int(score) for score in row[3:]] for row in rows] == scores["flat"]
    assert main(["export", source, "--out", "out", "--format", "c,circuit"]) == 0
    assert load_circuit(Path("out/lgn_net.lgn")).scores(np.load("x.npy")).tolist() == scores["flat"]
    assert main(["verify", source, "--no-proof", "--samples", "200"]) == 0


def test_all_commands_take_the_checkpoint_that_validation_chose(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = "epoch=0-step=20.ckpt (chosen by validation"
    for command, options in (
        ("export", ["--out", "out"]),
        ("predict", ["--data", "digits"]),
        ("verify", ["--no-proof", "--samples", "20"]),
        ("bench", ["--samples", "20", "--rounds", "1"]),
        ("report", []),
    ):
        assert main([command, "plain", *options]) == 0
        assert chosen in "".join(capsys.readouterr()), command
    assert json.loads(Path("out/manifest.json").read_text())["checkpoint"] == "epoch=0-step=20.ckpt"
    assert chosen in Path("plain/report.html").read_text()


def test_a_run_is_measured_exported_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(RUN)]) == 0
    [row] = csv.DictReader((RUN / "test.csv").read_text().splitlines())
    accuracy = json.loads((RUN / "result.json").read_text())["accuracy_hard"]
    assert float(row["test/acc_hard"]) == pytest.approx(accuracy)
    assert main(["verify", str(RUN), str(RUN / "circuits" / "best" / "lgn_net.c"), "--samples", "200"]) == 0
    assert main(["export", str(RUN), "--out", "out", "--format", "c,verilog,circuit"]) == 0
    assert main(["report", str(RUN)]) == 0
    assert "best.ckpt" in (RUN / "report.html").read_text()


def test_a_killed_run_is_resumed(folder: Path) -> None:
    run = Path("runs/digits/killed")
    before = (run / "metrics.csv").read_text().splitlines()
    resumed_at = read_checkpoint(run / "checkpoints" / "resume.ckpt")["global_step"]
    assert main(["fit", "--resume", str(run), "--trainer.enable_progress_bar=false"]) == 0
    assert 0 < resumed_at < json.loads((run / "result.json").read_text())["steps"] == 400
    rows = (run / "metrics.csv").read_text().splitlines()
    assert len(rows) > len(before) > 1
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["model"]["net"]["class_path"] == "lgn_lightning.models.LogicMLP"


def test_a_training_starts_from_a_checkpoint(folder: Path) -> None:
    shutil.copy(RUN / "config.yaml", "digits.yaml")
    checkpoint = RUN / "checkpoints" / "best.ckpt"
    assert main(["fit", "digits.yaml", "--trainer.max_steps=310", f"--ckpt_path={checkpoint}"]) == 0
    assert read_checkpoint(Path("runs/digits/version_1/checkpoints/last.ckpt"))["global_step"] == 310
