"""``lgn cp``: a copy of a recipe or a sweep, to edit."""

import argparse
from pathlib import Path

from lgn_lightning.runs.recipes import copy_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="name of a recipe or a sweep")
    parser.add_argument("destination", nargs="?", type=Path, help="file or folder (default: <recipe>.yaml here)")


def run(arguments: argparse.Namespace) -> int:
    target = copy_recipe(arguments.recipe, arguments.destination)
    command = "wandb sweep" if arguments.recipe.startswith("sweep-") else "lgn fit"
    print(f"{target} written; run it with:  {command} {target}")
    return 0
