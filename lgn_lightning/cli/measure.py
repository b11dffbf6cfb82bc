"""``lgn validate`` and ``lgn test``: a run or a checkpoint, measured with the settings it was trained with."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from lgn_lightning.base.errors import LgnError
from lgn_lightning.cli.options import add_trust, key_value
from lgn_lightning.cli.preflight import keys_named
from lgn_lightning.cli.recipe_help import asks_help, print_keys
from lgn_lightning.cli.trained import open_trained
from lgn_lightning.runs.checkpoints import chosen_checkpoint, run_folder
from lgn_lightning.runs.recipes import SUFFIXES, find_recipe, recipe_files

_DATA_KEY = re.compile(r"--data\.(?:init_args\.)?(\w+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_trust(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures a run, a checkpoint, or a recipe and ``--ckpt_path``."""
    command = arguments.command
    if not arguments.words:
        raise LgnError(
            f"`lgn {command}` needs a trained net first: lgn {command} <run folder or checkpoint> [--key value …]"
        )
    first, *others = arguments.words
    path, checkpoint = Path(first), key_value(arguments.keys, "--ckpt_path")
    is_recipe = path.suffix in SUFFIXES or first in {file.stem for file in recipe_files()}
    is_trained = not is_recipe and (path.suffix == ".ckpt" or path.is_dir() or len(path.parts) > 1)
    recipe = None if is_trained else find_recipe(first)
    if asks_help(arguments.keys):
        return print_keys(command, first, recipe or run_folder(chosen_checkpoint(path).path) / "config.yaml", arguments)
    target = Path(checkpoint) if checkpoint else path if is_trained else None
    given = sorted({found[1] for key in arguments.keys if (found := _DATA_KEY.match(key))})
    trained = None if target is None else open_trained(target, recipe is not None, given)
    if trained is not None and trained.chosen.why:
        print(trained.chosen, file=sys.stderr)
    if trained is not None and trained.settings is not None and recipe is not None:
        print(f"the settings are those of {trained.chosen.path}, in the place of {recipe.name}")
    with keys_named(command, first):
        # Lightning takes seconds to import: not before it is known that there is something to measure
        from lgn_lightning.cli.training_cli import TrainingCLI

        TrainingCLI(command, recipe or path, [*others, *arguments.keys], trained=trained)
    return 0
