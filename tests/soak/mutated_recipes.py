"""Recipes that do not fit: one error or a run, no traceback, no hang, and nothing left of a run that did not train."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from lgn_lightning.runs.recipes import recipe_files
from tests.soak import settings
from tests.soak.workers import Outcome, Tally, run_command, run_seeds

#: Seconds that a recipe may take: two steps of a small net, or an error.
SECONDS: Final = 20.0
#: Of recipes that would otherwise start processes or train for long; the command line has the last word.
_HELD: Final = (
    *("--trainer.max_steps=2", "--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.accelerator=cpu"),
    *("--trainer.strategy=auto", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
)
#: One of each kind: the others' nets differ in size, or take seconds.
_RECIPES: Final = (
    *("digits", "cifar10-3-thresholds-12k", "mnist-12-layer", "mnist-lut4-st", "mnist-mlp-128", "mnist20x20"),
    *("mnist-48k-learned-aug", "mnist-tree-s"),
)
_CANARY: Final = "canary"


@cache
def originals() -> list[Any]:
    """The shipped recipes, made small."""
    recipes = []
    for file in recipe_files():
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        arguments = content["model"]["net"]["init_args"]
        if file.stem not in _RECIPES:
            continue
        for name, small in (("width", 200), ("channels", 8), ("dense", 200)):
            if name in arguments:
                given = arguments[name]
                arguments[name] = [small] * len(given) if isinstance(given, list) else small
        if "thresholds" in arguments:
            arguments["thresholds"] = arguments["thresholds"][:2]
        if "channels" not in arguments and file.stem != "digits":
            arguments["in_shape"] = [arguments["in_shape"][0], 6, 6]
        if file.stem != "digits":
            data = {"shape": list(arguments["in_shape"]), "count": 40, "batch_size": 10}
            content["data"] = {"class_path": "tests.synthetic.SyntheticImages", "init_args": data}
        content["trainer"] |= {"max_steps": 2, "val_check_interval": 2, "log_every_n_steps": 1}
        recipes.append(content)
    return recipes


def make(seed: int) -> bytes:
    """A recipe with one to three changes."""
    chance = random.Random(seed)
    content = copy.deepcopy(chance.choice(originals()))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        settings.change_tree(content, chance)
    text = settings.dump(content)
    return settings.change_text(text, chance, _CANARY) if chance.random() < 0.35 else text.encode()


def check(seed: int) -> Outcome:
    """``lgn fit`` of a changed recipe."""
    with _folder():
        Path("recipe.yaml").write_bytes(make(seed))
        outcome = run_command(["fit", "recipe.yaml", *_HELD])
        if Path(_CANARY).exists():
            return Outcome("wrong", "a tag of YAML ran a program", "fit")
        if outcome.kind != "refused":
            return outcome
        # A run that trained and failed later keeps what it has.
        kept = [path for path in Path("runs").rglob("*") if path.is_file()]
        if kept and not any(path.suffix in (".ckpt", ".csv") for path in kept):
            left = sorted({path.name for path in kept})
            return Outcome("wrong", f"an error before training leaves {', '.join(left)}", "fit")
        if not kept and Path("runs").exists():
            return Outcome("wrong", "an error before training leaves empty folders in runs/", "fit")
        return outcome


@contextlib.contextmanager
def _folder() -> Any:
    before, folder = Path.cwd(), Path(tempfile.mkdtemp(prefix="soak-"))
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


def save(seed: int, path: Path) -> Path:
    """Writes a case to a file."""
    file = path.with_suffix(".yaml")
    file.write_bytes(make(seed))
    return file


def run(count: int, first: int = 0) -> Tally:
    """Runs so many changed recipes."""
    return run_seeds(Tally("mutated recipes", ok="trained"), check, range(first, first + count), save, SECONDS)
