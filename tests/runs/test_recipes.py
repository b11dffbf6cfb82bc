"""Every shipped recipe parses, is commented throughout, and runs."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lgn_lightning import models
from lgn_lightning.cli.main import main
from lgn_lightning.models.sizes import bits_per_value
from lgn_lightning.runs.recipes import copy_recipe, find_recipe, list_recipes, recipe_files
from tests.data.public_files import WRITERS
from tests.synthetic import write_table

RECIPES = recipe_files()
NAMES = [path.stem for path in RECIPES]
#: Gates a layer that take about as long to train a step as everything around it.
_WIDTH = 16_000


def _is_wide(net: dict[str, Any]) -> bool:
    width = net["init_args"].get("width", 0)
    widest = max(width) if isinstance(width, list) else width
    return net["class_path"].endswith(".LogicMLP") and widest > _WIDTH


WIDE = [path for path in RECIPES if _is_wide(yaml.safe_load(path.read_text())["model"]["net"])]


def test_names_are_unique_and_every_experiment_of_the_original_is_there() -> None:
    assert len(set(NAMES)) == len(NAMES)
    expected = {"digits", "mnist20x20", "mnist", "mnist-16k", "mnist-mlp-128", "mnist-mlp-2048"}
    expected |= {f"cifar10-3-thresholds-{width}" for width in ("12k", "128k")}
    expected |= {f"cifar10-tree-{size}" for size in "smblg"} | {f"mnist-tree-{size}" for size in "sml"}
    expected |= {f"cifar10-31-thresholds-{width}" for width in ("256k", "512k", "1024k")}
    assert expected <= set(NAMES)


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_opens_with_purpose_and_command_and_comments_every_key(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert lines[2].startswith(f"#   lgn fit {path.stem}")
    uncommented = [
        line
        for line in lines
        if re.match(r"\s+(- )?\w+: *[^#{\s]", line)
        and "#" not in line
        and not re.search(r"(title|source|gates|accuracy|class_path|num_classes): ", line)
    ]
    assert uncommented == []


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_gate_count_is_that_of_the_net(path: Path) -> None:
    recipe = yaml.safe_load(path.read_text())
    arguments = recipe["model"]["net"]["init_args"]
    kind = recipe["model"]["net"]["class_path"].rpartition(".")[2]
    if kind in ("MLP", "TorchvisionNet"):
        assert recipe["paper"]["gates"] is None
    elif kind in ("LogicTreeNet", "LogicSkipNet"):
        with torch.device("meta"):
            assert recipe["paper"]["gates"] == getattr(models, kind)(**arguments).num_gates
    elif kind == "LogicCA":
        assert (
            recipe["paper"]["gates"]
            == arguments["width"] * arguments["depth"] + arguments["votes"] * arguments["in_shape"][0]
        )
    elif kind == "LogicRNN":
        assert recipe["paper"]["gates"] == gates_of_cells(**arguments)
    else:
        width = arguments["width"]
        assert recipe["paper"]["gates"] == (sum(width) if isinstance(width, list) else width * arguments["depth"])


def gates_of_cells(
    state: int, width: int | list[int], out: int, depth: int = 1, memory: str = "gates", layers: int = 1, **_: Any
) -> int:
    hidden = sum(width) if isinstance(width, list) else width * depth
    return layers * (hidden + out + {"gates": 1, "multiplexer": 2, "delay": 0}[memory] * state)


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = yaml.safe_load(path.read_text())
    _shrink(recipe["model"]["net"])
    _rehearse(path.stem, recipe, tmp_path, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("path", WIDE, ids=lambda path: path.stem)
def test_runs_at_full_size(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _rehearse(path.stem, yaml.safe_load(path.read_text()), tmp_path, monkeypatch)


def _rehearse(name: str, recipe: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of training, validation and test."""
    monkeypatch.chdir(folder)
    # The data set is swapped for noise of the same shape; net, optimizer, trainer and callbacks are the recipe's.
    if recipe["data"]["class_path"].endswith(".GameOfLife"):
        recipe["data"]["init_args"] |= {"count": 32, "test_count": 8, "val_fraction": 0.5}
    elif recipe["data"]["class_path"].endswith(".Growth"):
        pass  # it is made, and small
    elif "in_shape" in recipe["model"]["net"]["init_args"]:
        recipe["data"] = {
            "class_path": "tests.synthetic.SyntheticImages",
            "init_args": {"shape": recipe["model"]["net"]["init_args"]["in_shape"]},
        }
    else:
        recipe["data"]["init_args"]["batch_size"] = 8
        if recipe["data"]["class_path"].endswith(".Sequences"):
            x, y = np.random.default_rng(0).normal(size=(40, 5, 2)), np.arange(40) % 2
            np.savez(folder / "x.npz", x=x, y=y)
            recipe["data"]["init_args"]["path"] = str(folder / "x.npz")
        if recipe["data"]["class_path"].endswith(".PublicTable"):
            WRITERS[recipe["data"]["init_args"]["name"]][0](folder)
            recipe["data"]["init_args"]["root"] = str(folder)
        if recipe["data"]["class_path"].endswith(".Table"):
            recipe["data"]["init_args"] |= {"path": str(write_table(folder / "table.csv")), "target": "kind"}
    local = folder / f"{name}.yaml"
    local.write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(local), "--trainer.fast_dev_run", "true"]) == 0


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_data_fits_the_net(path: Path) -> None:
    from jsonargparse import ArgumentParser

    from lgn_lightning.data import ImageDataModule, SampleDataModule

    recipe = yaml.safe_load(path.read_text())
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SampleDataModule, "data")
    data = parser.instantiate(parser.parse_object({"data": recipe["data"]})).data
    if not isinstance(data, ImageDataModule):  # its sizes are filled in
        net = recipe["model"]["net"]["init_args"]
        assert net.get("in_bits") or net["num_bits"] is None
        return
    assert list(data.image_shape) == recipe["model"]["net"]["init_args"]["in_shape"]
    assert data.num_classes == recipe["model"]["num_classes"]


def _shrink(net: dict[str, Any]) -> None:
    """Makes a convolutional net as small as its kind of net can be, and no dense layer much wider than `_WIDTH`."""
    arguments = net["init_args"]
    if _is_wide(net):
        inputs = math.prod(arguments["in_shape"]) * bits_per_value(arguments["thresholds"], arguments.get("edges"))
        classes = arguments["num_classes"]
        narrow = -(-max(_WIDTH, inputs // 2) // classes) * classes  # every input is read
        given = arguments["width"]
        arguments["width"] = [min(width, narrow) for width in given] if isinstance(given, list) else narrow
    if net["class_path"].endswith(".LogicTreeNet"):
        factor = arguments["channels"][0] // 2
        for name in ("channels", "dense"):
            arguments[name] = [width // factor for width in arguments[name]]


def test_list_gives_the_paper_figures() -> None:
    by_name = {recipe.name: recipe for recipe in list_recipes()}
    assert by_name["mnist20x20"].paper.accuracy == 97.69
    assert by_name["mnist"].paper.gates == 384_000


def test_copy_writes_the_same_recipe_and_never_overwrites(tmp_path: Path) -> None:
    target = copy_recipe("digits", tmp_path / "mine.yaml")
    assert target.read_text() == find_recipe("digits").read_text()
    with pytest.raises(RuntimeError, match="exists already"):
        copy_recipe("digits", target)
