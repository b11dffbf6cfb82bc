"""Every shipped sweep starts trainings that ``lgn fit`` understands, and optimizes a metric that they log."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lgn_lightning.cli.main import main
from lgn_lightning.runs.recipes import find_recipe, recipe_files, recipe_root
from tests.runs.test_recipes import NAMES

SWEEPS = sorted((recipe_root() / "sweeps").glob("*.yaml"))


def values(parameter: dict[str, Any]) -> list[Any]:
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def test_sweeps_are_no_recipes() -> None:
    assert SWEEPS
    assert not {path.stem for path in SWEEPS} & set(NAMES)
    assert not set(SWEEPS) & set(recipe_files())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
@pytest.mark.parametrize("pick", [0, 1, -1])
def test_fit_takes_what_the_agent_gives_it(
    path: Path, pick: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = yaml.safe_load(path.read_text())
    environment, program, fit, recipe, *arguments = sweep["command"]
    assert (environment, program, fit, arguments.pop()) == ("${env}", "lgn", "fit", "${args}")
    content = yaml.safe_load(find_recipe(recipe).read_text())
    shape = content["model"]["net"]["init_args"]["in_shape"]
    content["data"] = {"class_path": "tests.synthetic.SyntheticImages", "init_args": {"shape": shape}}
    Path(f"{recipe}.yaml").write_text(yaml.safe_dump(content))
    chosen = {name: values(parameter)[pick] for name, parameter in sweep["parameters"].items()}
    given = [f"--{name}={value}" for name, value in chosen.items()]  # as wandb's agent writes them
    given += ["--model.net.width=200", "--trainer.fast_dev_run=true"]
    assert main(["fit", f"{recipe}.yaml", *arguments, *given]) == 0


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_metric_is_of_the_validation_split(path: Path) -> None:
    metric = yaml.safe_load(path.read_text())["metric"]
    assert metric == {"name": "val/acc_hard", "goal": "maximize"}


def test_a_sweep_is_copied_like_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cp", SWEEPS[0].stem]) == 0
    assert (tmp_path / SWEEPS[0].name).read_bytes() == SWEEPS[0].read_bytes()
    assert f"wandb sweep {SWEEPS[0].name}" in capsys.readouterr().out
