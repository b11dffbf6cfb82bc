"""``lgn recommend``: looks at data and writes a recipe for it, with a reason beside every choice."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from lgn_lightning.base.errors import UsageError, note
from lgn_lightning.base.settings_text import parse_yaml, read_settings
from lgn_lightning.cli.options import add_data_root, key_value
from lgn_lightning.cli.preflight import check_recipe
from lgn_lightning.cli.recipe_keys import with_overrides
from lgn_lightning.runs.recipes import recipe_files

#: Suffixes of files of sequences.
_SEQUENCES = (".npz", ".ts")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.description = (
        "Look at the samples that train and write a recipe for them to standard output, which `lgn fit` takes as it "
        "is: lgn recommend --data photos > my.yaml. Beside every choice stands its reason. --data.<key> <value> sets "
        "an argument of the data module, as of `lgn fit`: --data.drop '[name]' leaves a column of a table out."
    )
    text = "a data module (FashionMNIST), a folder with train/<class>/ of images, a table, or sequences (.npz, .ts); a "
    text += "second file holds the test rows"
    parser.add_argument("--data", nargs="+", required=True, metavar="CLASS_OR_PATH", help=text)
    parser.add_argument("--target", nargs="+", metavar="COLUMN", help="of a table: what to predict")
    parser.add_argument("--gates", type=_gates, help="gates of the net (default: by the number of samples)")
    parser.add_argument("--net", choices=("dense", "tree"), help="of images (default: trees for large colour images)")
    add_data_root(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    named = key_value(arguments.keys, "--data.target")
    target = arguments.target or (None if named is None else [named])
    settings = with_keys(data_settings(arguments.data, target, arguments.data_root), arguments.keys)
    from lgn_lightning.cli.recommendations import recommend  # and torch, which takes seconds to import

    values = recommend(settings, arguments.gates, arguments.net)
    values["command"] = shlex.join(["lgn", "recommend", *_given(arguments)])
    values["recipes"] = tuned_recipes(settings["class_path"])
    if settings["class_path"].endswith("ImageFolder") and not values["has_test"]:
        note(f"`lgn fit` ends with a test: put images into {settings['init_args']['root']}/test/<class>/ before it")
    sys.stdout.write(render(values))
    return 0


def data_settings(given: list[str], target: list[str] | None, root: Path | None) -> dict[str, Any]:
    """What a recipe says of the data: class and arguments.

    Raises:
        UsageError: If it is neither a class nor a path, or not clear what to predict.
    """
    from lgn_lightning import data  # takes a second that a wrong option need not
    from lgn_lightning.data.table_file import is_table_file

    first, path = given[0], Path(given[0])
    more: dict[str, Any] = {} if root is None else {"root": str(root)}
    name = first.removeprefix("lgn_lightning.data.")
    kind = "ImageFolder"
    if not path.exists():
        is_class = "." in name and all(part.isidentifier() for part in name.split("."))
        if name not in data.__all__ and (not is_class or is_table_file(path) or path.suffix.lower() in _SEQUENCES):
            raise UsageError(f"--data {first}: there is no such path, and no data module of this name")
        known = f"lgn_lightning.data.{name}" if name in data.__all__ else name
        return {"class_path": known, "init_args": more | ({"target": target} if target else {})}
    if path.is_dir():
        more["root"] = first
    elif path.suffix.lower() in _SEQUENCES:
        kind, more = "Sequences", {"path": first}
    else:
        kind, more = "Table", {"path": first, "target": _target(path, target)}
    if len(given) > 1:
        if path.is_dir() or len(given) > 2:
            raise UsageError(f"--data {' '.join(given)}: give one folder, or a file and one of test rows")
        more["test_path"] = given[1]
    return {"class_path": f"lgn_lightning.data.{kind}", "init_args": more}


def with_keys(settings: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    """The settings of the data with what the command line's ``--data.<key> <value>`` say.

    Raises:
        UsageError: If the data module has no such key, or the command line says something else.
    """
    strange = [word for word in keys if word.startswith("--") and not word.startswith("--data.")]
    merged = None if strange else with_overrides({"data": settings}, keys)
    if merged is None:
        what = "it takes --data.<key> <value>; other keys are those of `lgn fit`, or are changed in what this writes"
        raise UsageError(f"lgn recommend {shlex.join(strange or keys)}: {what}")
    check_recipe(merged, ())
    return dict(merged["data"])


def _target(path: Path, target: list[str] | None) -> str | list[str]:
    if target is None:
        from lgn_lightning.data.table_file import read_table  # as above

        names = ", ".join(map(str, read_table(path).columns))
        raise UsageError(f"say what to predict: --target <column>; {path} has {names}")
    return target[0] if len(target) == 1 else target


def tuned_recipes(class_path: str) -> list[str]:
    """Recipes of this project's own for a known data set."""
    if class_path.rpartition(".")[2] in ("ImageFolder", "Table", "Sequences"):
        return []
    found = []
    for file in recipe_files():
        content = read_settings(file)
        if (content.get("data") or {}).get("class_path") == class_path and not (content["paper"].get("accuracy")):
            found.append(file.stem)
    return found


def render(values: dict[str, Any]) -> str:
    """The recipe as text."""
    from jinja2 import Environment, StrictUndefined  # once there is something to write

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["yaml"] = _yaml
    template = (files("lgn_lightning.cli") / "recommend.yaml.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(values)


def _yaml(value: Any) -> str:
    """A value in YAML, on one line: JSON, but for words that need no quotes."""
    words = isinstance(value, str) and re.fullmatch(r"([^\W\d]|[./])[\w./-]*", value)
    plain = words and parse_yaml(f"key: {value}") == {"key": value}  # not yes, .inf or null
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def _given(arguments: argparse.Namespace) -> list[str]:
    options = {"target": arguments.target, "gates": arguments.gates, "net": arguments.net}
    words = ["--data", *arguments.data]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", *(value if isinstance(value, list) else [str(value)])]
    root = [] if arguments.data_root is None else ["--data.root", str(arguments.data_root)]
    return [*words, *root, *arguments.keys]


def _gates(text: str) -> int:
    if (gates := int(text.replace(",", "").replace("_", ""))) < 100:
        raise argparse.ArgumentTypeError(f"{text} gates: give 100 or more")
    return gates
