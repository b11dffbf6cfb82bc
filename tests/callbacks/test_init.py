"""Names of 0.1 that were removed: one error that says what replaces them, wherever they are used."""

from __future__ import annotations

from pathlib import Path

import pytest

import lgn_lightning.callbacks
from lgn_lightning.cli.main import main
from lgn_lightning.runs.recipes import find_recipe

REMOVED = ("EntropyRegularization", "FreezeLayers", "ResampleGates")


@pytest.mark.parametrize("name", REMOVED)
def test_in_python(name: str) -> None:
    for code in (f"lgn_lightning.callbacks.{name}", f"from lgn_lightning.callbacks import {name}"):
        with pytest.raises(ImportError, match=rf"callbacks\.{name} was removed in 0\.2.*; use ") as error:
            exec(code, {"lgn_lightning": lgn_lightning})
        assert error.value.__cause__ is None
    assert not hasattr(lgn_lightning.callbacks, "NeverThere")


def recipe_with(name: str) -> str:
    return (
        find_recipe("digits")
        .read_text()
        .replace("lgn_lightning.callbacks.GateEntropy", f"lgn_lightning.callbacks.{name}")
    )


@pytest.mark.parametrize("name", REMOVED)
def test_in_a_recipe_and_in_a_run_to_resume(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(recipe_with(name))
    run = Path("runs", "own", "version_0")
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(recipe_with(name))
    for arguments in (["fit", "own.yaml"], ["fit", "--resume", str(run)]):
        assert main(arguments) == 2
        printed = capsys.readouterr().err
        (line,) = [line for line in printed.splitlines() if "lgn: error: " in line]
        assert "trainer.callbacks" in line
        assert f"lgn_lightning.callbacks.{name} was removed in 0.2" in line
        assert "; use " in line
        assert "Traceback" not in printed
    assert [path.name for path in run.iterdir()] == ["config.yaml"]
