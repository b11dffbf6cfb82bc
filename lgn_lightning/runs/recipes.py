"""Finds, lists and copies the recipes that ship with the package."""

import difflib
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from lgn_lightning.base.errors import RecipeError
from lgn_lightning.base.files import atomic_path
from lgn_lightning.base.plain_values import filled
from lgn_lightning.base.settings_text import read_settings

#: Suffixes of a recipe's file.
SUFFIXES = (".yaml", ".yml")


@dataclass
class PaperResult:
    """What a recipe aims at: the figures of the paper that it reproduces.

    Args:
        title: One line on the recipe, shown by ``lgn ls``.
        source: Paper and table, or the command of the original that the recipe replaces.
        accuracy: Test accuracy of the discrete net in the paper, in percent; null where it gives none.
        gates: Gates of the net, before passes; null for a baseline without gates.
    """

    title: str = ""
    source: str = ""
    accuracy: float | None = None
    gates: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A recipe that ships with the package: what ``lgn fit`` takes, its YAML file and the figures it aims at."""

    name: str
    path: Path
    paper: PaperResult


def recipe_root() -> Path:
    return Path(str(files("lgn_lightning.recipes")))


def recipe_files() -> list[Path]:
    """The files of the shipped recipes, by folder and name; sweeps over recipes, in ``sweeps/``, are none."""
    return sorted(path for path in recipe_root().rglob("*.yaml") if path.parent.name != "sweeps")


def list_recipes() -> list[Recipe]:
    """All shipped recipes, by folder and name."""
    recipes = []
    for path in recipe_files():
        content = read_settings(path)
        recipes.append(Recipe(path.stem, path, filled(PaperResult, content["paper"])))
    return recipes


def find_recipe(name_or_path: str) -> Path:
    """Finds a shipped recipe by its name, or takes the path of a YAML file; a RecipeError suggests a near name."""
    path = Path(name_or_path)
    if path.suffix in SUFFIXES:
        if path.is_file():
            return path
        raise RecipeError(f"there is no recipe file {path}; `lgn ls` lists the recipes, `lgn cp` copies one")
    shipped = {recipe.stem: recipe for recipe in recipe_files()}
    if name_or_path in shipped:
        return shipped[name_or_path]
    near = difflib.get_close_matches(name_or_path, shipped, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise RecipeError(f"there is no recipe {name_or_path!r}; {hint}`lgn ls` lists all of them")


def copy_recipe(name: str, destination: Path | None = None) -> Path:
    """Copies a shipped recipe or sweep for editing, and returns the file written.

    ``destination`` is a file or folder; ``<name>.yaml`` in the current folder if not given. A file gets the suffix
    ``.yaml``, unless it has one of YAML, as commands take no other. A RecipeError if there is no such recipe or the
    file is there already.
    """
    sweep = recipe_root() / "sweeps" / f"{name}.yaml"
    source = sweep if sweep.is_file() else find_recipe(name)
    target = destination or Path(f"{source.stem}.yaml")
    if target.is_dir():
        target = target / source.name
    elif target.suffix not in SUFFIXES:
        target = target.with_name(f"{target.name}.yaml")
    if target.exists():
        raise RecipeError(f"{target} exists already; name another file or remove it first")
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return target
