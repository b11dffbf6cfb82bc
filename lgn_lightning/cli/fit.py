"""``lgn fit``: trains a recipe, or resumes a run that was stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.settings_text import read_settings
from lgn_lightning.cli.options import add_trust, key_value
from lgn_lightning.cli.preflight import check_form, check_recipe, keys_named
from lgn_lightning.cli.recipe_help import asks_help, print_keys
from lgn_lightning.runs.folder import RunFolder, find_run
from lgn_lightning.runs.recipes import find_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="resume a run that was stopped: the one in this folder, or the newest of the recipe",
    )
    add_trust(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.words and asks_help(arguments.keys):
        return print_keys("fit", arguments.words[0], find_recipe(arguments.words[0]), arguments)
    recipe, folder, overrides = choose_run(arguments.words, arguments.resume, arguments.keys)
    with keys_named("fit", arguments.words[0] if arguments.words else "<recipe>"):
        source = recipe if folder is None else folder.config
        settings = read_settings(source)
        check_form(settings, source)
        check_recipe(settings, overrides)
        # Lightning takes seconds to import: not before recipe, keys and sizes are known
        from lgn_lightning.cli.training_cli import TrainingCLI

        TrainingCLI("fit", recipe, overrides, resume=folder)
    return 0


def choose_run(words: list[str], resume: str | None, keys: list[str]) -> tuple[Path, RunFolder | None, list[str]]:
    """What to train: the recipe, the run to resume, and the keys that override settings.

    Args:
        words: The recipe, and what follows it before the first option.
        resume: The run's folder; "" for the newest run of the recipe or that of ``--run_name``; None for a new run.
        keys: Keys and values that override settings.
    """
    if not words and not resume:
        how = "a recipe or a run: lgn fit <recipe> --resume, lgn fit --resume <folder>"
        raise LgnError(
            f"`lgn fit --resume` needs {how}"
            if resume is not None
            else "`lgn fit` needs a recipe first: lgn fit <recipe or path.yaml> [--key value …]"
        )
    recipe = find_recipe(words[0]) if words else Path(resume or "").absolute().parent.with_suffix(".yaml")
    overrides = [*words[1:], *keys]
    if resume is None:
        return recipe, None, overrides
    name = key_value(overrides, "--run_name")
    found = find_run(recipe.stem, Path(resume) if resume else None, name)
    if found is None:
        print(f"{recipe.stem} has no run {name + ' yet' if name else 'to resume'}: a new one starts")
    else:
        print(f"resuming {found.path}" + ("" if found.resume_point.is_file() else " from its first step"))
        print(f"its settings are code, as a recipe is: {found.config}")
    return recipe, found, overrides
