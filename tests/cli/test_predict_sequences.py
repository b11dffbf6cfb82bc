"""``lgn predict`` by nets of sequences, and where it finds a test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lgn_lightning.cli.main import main
from tests.cli.conftest import error_of

SMALL = [
    "--model.net.state=40",
    "--model.net.width=80",
    "--model.net.out=80",
    "--trainer.max_steps=2",
    "--trainer.val_check_interval=2",
    "--trainer.enable_progress_bar=false",
]
STEPS = ["--data.id=id", "--data.target=high", "--data.task=steps", "--model.target=steps"]
STEPS += ["--model.net.readout=every"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs: of an .npz file, and with a class a step of a table, by its root alone."""
    folder = tmp_path_factory.mktemp("sequences")
    x = np.random.default_rng(0).normal(size=(40, 6, 2)).astype(np.float32)
    rows = [{"id": i, "a": a, "b": b, "high": int(a > 0)} for i, steps in enumerate(x) for a, b in steps]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.savez("x.npz", x=x, y=np.arange(40) % 2)
        np.save("x.npy", np.concatenate([x, np.diff(x, axis=1, prepend=x[:, :1])], 2))
        pd.DataFrame(rows).to_csv("steps.csv", index=False)
        fit = ["fit", "japanese-vowels", *SMALL, "--data.batch_size=16"]
        assert main([*fit, "--data.path=x.npz", "--run_name=npz"]) == 0
        assert main([*fit, "--data.path=null", "--data.root=steps.csv", *STEPS, "--run_name=steps"]) == 0
    return folder


@pytest.fixture
def here(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(runs)
    return runs


@pytest.mark.parametrize("file", ["x.npz", "steps.csv"])
def test_files_that_are_no_array_are_refused_with_what_is_taken(
    file: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "runs/japanese-vowels/npz", file]) == 1
    said = error_of(capsys)
    channels = "channel_0, channel_1, channel_0_delta, channel_1_delta"
    assert f"{file} is no .npy array, and this net takes sequences" in said
    assert f"give one of numbers [N, steps, 4], the channels {channels}, or" in said
    assert "--data.root <that file>" in said


def test_an_array_and_the_file_of_the_training_are_taken(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "runs/japanese-vowels/npz", "x.npy", "--out", "all.csv"]) == 0
    assert len(Path("all.csv").read_text().splitlines()) == 1 + 40
    assert main(["predict", "runs/japanese-vowels/npz", "--data.root", "x.npz"]) == 0
    assert "accuracy: " in error_of(capsys)


@pytest.mark.parametrize("run", ["npz", "steps"])
def test_data_that_are_nowhere(run: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", f"runs/japanese-vowels/{run}"]) == 1
    said = error_of(capsys)
    assert f"runs/japanese-vowels/{run} does not say where its data are: give what to predict, or --data.root" in said


def test_a_class_at_every_step_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, inputs, told in (
        ("steps", ["--data.root", "steps.csv"], True),
        ("steps", ["x.npy"], True),
        ("npz", ["x.npy"], False),
    ):
        assert main(["predict", f"runs/japanese-vowels/{run}", *inputs]) == 0
        said = error_of(capsys)
        assert ("a class here is that of the last step" in said) == ("every_step(x)" in said) == told


def test_bits(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "parity-stream", "steps.csv"]) == 1
    assert "give one of bits [N, steps, 1]" in error_of(capsys)


def test_a_table_that_needs_no_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--model.net.width=60"]
    assert main(["fit", "wine", *small]) == 0
    capsys.readouterr()
    assert main(["predict", "runs/wine"]) == 0
    assert "accuracy: " in error_of(capsys)
