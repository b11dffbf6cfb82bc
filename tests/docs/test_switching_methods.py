"""Every line of "Switching methods" in docs/methods_one_by_one.md trains, and what is exported is the hard net."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from lgn_lightning.callbacks import ExportCircuit
from lgn_lightning.cli.main import main
from lgn_lightning.runs.recipes import find_recipe

PAGE = Path(__file__).parents[2] / "docs" / "methods_one_by_one.md"


def rows() -> dict[str, list[str]]:
    """Method and arguments of each row of the table."""
    section = PAGE.read_text(encoding="utf-8").partition("## Switching methods\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| ([^|]+?) \| `(--[^`]+)` \|$", section, re.MULTILINE)
    return {method: shlex.split(argument) for method, argument in table}


def test_the_table_is_read() -> None:
    assert len(rows()) > 20


@pytest.mark.parametrize("method", rows())
def test_a_line_switches_the_method(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch("mnist-384k-st", {"width": 30}, rows()[method], tmp_path, monkeypatch)


#: What the page says that trees do not take.
NOT_OF_TREES = (
    "--model.net.learnable_thresholds",
    "--trainer.callbacks+=lgn_lightning.callbacks.Avoid",
    '--trainer.callbacks+={"class_path": "lgn_lightning.callbacks.LocalCandidates"',
)


@pytest.mark.soak
@pytest.mark.parametrize("method", rows())
def test_trees_take_the_lines_that_the_page_says(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [re.sub(r"\[learned,.*\]", "[learned, random]", text) for text in rows()[method]]
    arguments = ["--model.net.sampler=straight_through", "--model.net.parametrization=sigmoid", *arguments]
    small = {"channels": [6, 16], "kernel_size": 3, "padding": 1, "dense": [60, 40]}
    if not any(text.startswith(NOT_OF_TREES) for text in arguments):
        return switch("mnist-tree-s", small, arguments, tmp_path, monkeypatch)
    with pytest.raises(AssertionError, match="the fit failed"):
        switch("mnist-tree-s", small, arguments, tmp_path, monkeypatch)
    assert re.search(r"there is no such key|rewires a LogicLayer", capsys.readouterr().err)


def switch(
    name: str, small: dict[str, Any], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trains a recipe with few gates, on noise, and checks what it exports."""
    monkeypatch.chdir(tmp_path)
    recipe = yaml.safe_load(find_recipe(name).read_text())
    recipe["model"]["net"]["init_args"] |= {"in_shape": [1, 5, 4], **small}
    data = {"shape": [1, 5, 4]}
    recipe["data"] = {"class_path": "tests.synthetic.SyntheticImages", "init_args": data}
    recipe["trainer"] |= {"max_steps": 2, "val_check_interval": 2}
    if "lr_scheduler" in recipe["model"]:
        recipe["model"]["lr_scheduler"]["init_args"]["T_max"] = 2
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    # It ends with an error if circuit, engine or compiled C give another score than the hard net.
    assert main(["fit", "small.yaml", "--trainer.enable_progress_bar=false", *arguments]) == 0, "the fit failed"
    (result,) = tmp_path.glob("runs/small/*/result.json")
    assert json.loads(result.read_text())["steps"] == 2
    exported = ExportCircuit.exported_for(result.parent / "checkpoints" / "best.ckpt")
    assert exported is not None
    assert exported.library is not None
