"""What the tests of commands start from: a folder with circuit files, and settings of a short training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.circuit.random_circuits import image_circuit, random_circuit

#: Settings with which the digits recipe trains in a second.
SMALL = [
    "--model.net.width=300",
    "--model.net.depth=2",
    "--trainer.max_steps=30",
    "--trainer.val_check_interval=10",
    "--trainer.enable_model_summary=false",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(here: Path) -> Path:
    """A folder to run in, with two circuit files."""
    image_circuit().save("net.lgn")
    random_circuit().save("plain.lgn")
    return here


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed to standard error."""
    return capsys.readouterr().err
