"""The comparison of training methods, with a stand-in for the training and once with a real one of a few steps."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml

from lgn_lightning.base.errors import RecipeError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "methods.py"


def load() -> Any:
    spec = spec_from_file_location("benchmark_methods", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["benchmark_methods"] = module  # where dataclasses look for annotations
    spec.loader.exec_module(module)
    return module


methods = load()
CONTENT = yaml.safe_load(methods.METHODS.read_text())
DIGITS = CONTENT["datasets"]["digits"]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets a run be trained by writing its result; the list fills with the names of the runs."""
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def fit(job: Any, arguments: list[str], progress: Any, bar: Any) -> int:
        if job.method == "walsh":
            return 1
        names.append(job.folder.path.name)
        job.folder.path.mkdir(parents=True)
        result = {
            "accuracy_hard": 0.9 + job.seed / 100,
            "accuracy_soft": 0.93,
            "gates": 4 * job.width,
            "gates_exported": None,
            "steps": job.steps,
            "monitor": "val/loss_hard",
            "validation": 0.5,
            "train_seconds": 7.0,
            "hardware": "a stand-in",
            "torch": "2.11",
            "commit": "0123456789",
        }
        job.folder.result_file.write_text(json.dumps(result))
        return 0

    monkeypatch.setattr(methods, "fit", fit)
    return names


def test_table_and_lines_and_nothing_trained_twice(trained: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["digits", "--methods", "original", "sigmoid", "--widths", "500", "1000", "--seeds", "0-1"]
    assert methods.main(command) == 0
    assert len(set(trained)) == len(trained) == 8
    row = next(text for text in capsys.readouterr().out.splitlines() if "sigmoid" in text and "4,000" in text)
    assert "90.50 ± 0.71" in row
    assert "2.50 ± 0.71" in row
    file = Path("results-scratch", "methods", "digits.jsonl")
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    assert [(line["method"], line["width"], line["seed"]) for line in lines[:3]] == [
        ("original", 500, 0),
        ("original", 500, 1),
        ("original", 1000, 0),
    ]
    assert lines[0]["gap"] == pytest.approx(0.03)
    assert "model.net.parametrization=sigmoid" in lines[-1]["overrides"]
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert methods.main(command) == 0
    assert len(trained) == 8
    assert len(file.read_text().splitlines()) == 8


def test_a_failed_run_is_named_and_the_others_go_on(trained: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert methods.main(["digits", "--methods", "walsh", "sigmoid", "--widths", "500", "--seeds", "0"]) == 1
    said = capsys.readouterr()
    assert "failed: walsh, width 500, seed 0" in said.err
    assert "sigmoid" in said.out
    assert len(trained) == 1


def test_a_method_inherits_settings_and_callbacks() -> None:
    given = methods.arguments(CONTENT, "straight-through-augmented", DIGITS, 500, 1000)
    assert "--model.net.parametrization=sigmoid" in given  # of the method that it is like, three back
    assert sum(text.startswith("--trainer.callbacks+=") for text in given) == 1
    assert any('"T_max": 1000' in text for text in given)
    assert "--trainer.val_check_interval=50" in given
    with pytest.raises(RecipeError, match="a → b → a"):
        methods.arguments({"methods": {"a": {"like": "b"}, "b": {"like": "a"}}}, "a", DIGITS, 500, 100)
    with pytest.raises(RecipeError, match="there is no method 'c'"):
        methods.arguments({"methods": {"a": {"like": "c"}}}, "a", DIGITS, 500, 100)


@pytest.mark.parametrize("method", list(CONTENT["methods"]))
def test_every_method_is_accepted_by_fit(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds net, data and trainer of each method, as `lgn fit` would; a rehearsal trains one step."""
    from lgn_lightning.cli.training_cli import TrainingCLI
    from lgn_lightning.runs.recipes import find_recipe

    monkeypatch.chdir(tmp_path)
    given = methods.arguments(CONTENT, method, DIGITS, 300, 20)
    quiet = ["--trainer.fast_dev_run=1", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    TrainingCLI("fit", find_recipe("digits"), [*given, *quiet, "--trainer.accelerator=cpu"])


def test_progress_is_the_last_step_logged(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    assert methods._step(file) == 0
    file.write_text("epoch,step,train/loss\n0,9,1.5\n0,19,1.2\n")
    assert methods._step(file) == 20
    file.write_text("epoch,step,train/loss\n0,9,1.5\n0,1")  # half written
    assert methods._step(file) == 0


@pytest.mark.soak
def test_a_real_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["digits", "--methods", "straight-through", "--widths", "300", "--steps", "40", "--seeds", "0"]
    assert methods.main(command) == 0
    line = json.loads(Path("results-scratch", "methods", "digits.jsonl").read_text())
    assert line["gates"] == 1200
    assert line["gap"] == 0
    assert line["monitor"] == "val/loss_hard"
    assert line["validation"] > 0
    assert {"torch", "commit", "hardware", "train_seconds"} <= line.keys()
