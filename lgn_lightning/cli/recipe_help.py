"""``lgn fit <recipe> --help``: the keys that this recipe has, with their values and what they mean."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from lgn_lightning.base.settings_text import read_settings
from lgn_lightning.base.signatures import Argument, classes_of, is_subclass
from lgn_lightning.cli.recipe_keys import HOMES, RUN_KEYS, Node, nodes_of, with_overrides

#: Classes that can be named by a key, and the class that they derive from.
_CHOICES: Final = {
    "model.net": ("net", "Module"),
    "data": ("data", "SampleDataModule"),
    "data.augment": ("augment", "Augmentation"),
    "trainer.callbacks+": ("callbacks", "Callback"),
}


def asks_help(keys: Sequence[str]) -> bool:
    """Whether keys and values of a command line ask for help."""
    return "--help" in keys or "-h" in keys


def print_keys(command: str, target: str, recipe: Path, arguments: argparse.Namespace) -> int:
    """Prints the help of a command on a recipe or run, with what the command line changes; gives the exit code."""
    overrides = [text for text in (*arguments.words[1:], *arguments.keys) if text not in ("--help", "-h")]
    settings = read_settings(recipe)
    print(
        recipe_help(f"lgn {command} {target}", with_overrides(settings, overrides) or settings, arguments.options_help)
    )
    return 0


def recipe_help(command: str, settings: dict[str, Any], options: str) -> str:
    """Writes the help.

    Args:
        command: The command line before ``--help``, such as ``lgn fit digits``.
        settings: The recipe with its overrides.
        options: Help of the command's own options.
    """
    paper = settings.get("paper") or {}
    lines = [f"usage: {command} [options] [--key=value …]", ""]
    lines += [*_wrapped(str(paper["title"]), ""), ""] if paper.get("title") else []
    lines += ["options:", options, "", "run:"]
    for name, argument in RUN_KEYS.items():
        lines += _entry(name, argument, settings)
    callbacks: list[str] = []
    for node in nodes_of(settings):
        if node.key == "paper":
            continue
        if node.key == "trainer.callbacks":
            callbacks += _callback(node)
            continue
        lines += ["", f"{node.key}: {node.path}"]
        signature = node.signature
        nested = {name for name, value in node.values.items() if _is_class(value)}
        for name, argument in ({} if signature is None else signature.arguments).items():
            if node.key + "." + name == "trainer.callbacks":
                continue
            given = {name: _named(node.values[name])} if name in nested else node.values
            lines += _entry(f"{node.key}.{name}", argument, given, name)
    if callbacks:
        text = (
            "(to change a key, edit a copy that `lgn cp` makes; to add one: --trainer.callbacks+=<class> "
            "--trainer.callbacks.<key>=<value>)"
        )
        lines += ["", "trainer.callbacks:", *_wrapped(text, "  "), *callbacks]
    lines += ["", "classes that a key can name:", *_choices()]
    return "\n".join(lines)


def _entry(key: str, argument: Argument, given: dict[str, Any], name: str | None = None) -> Iterator[str]:
    name = name or key
    if name in given:
        head = f"  --{key}={_text(given[name])}"
    else:
        head = f"  --{key}" + ("" if argument.default is None else f"={_plain(argument.default)}  (default)")
    yield from textwrap.wrap(head, _width(), subsequent_indent="      ", break_on_hyphens=False)
    if argument.help:
        yield from _wrapped(argument.help, "      ")


def _callback(node: Node) -> Iterator[str]:
    signature = node.signature
    yield f"  {node.path}"
    known = {} if signature is None else {name: argument.default for name, argument in signature.arguments.items()}
    shown = [
        f"{name}: {_text(node.values[name]) if name in node.values else _plain(default or 'required')}"
        for name, default in known.items()
    ]
    if shown:
        yield from _wrapped("; ".join(shown), "      ")


def _choices() -> Iterator[str]:
    for key, (name, base) in _CHOICES.items():
        found = [
            text
            for home in HOMES[name]
            for text in classes_of(home)
            if home.startswith("lgn_lightning")
            and text != base
            and not text.endswith("DataModule")
            and is_subclass(f"{home}.{text}", base)
        ]
        yield from textwrap.wrap(
            f"  --{key}=  {', '.join(found)}", _width(), subsequent_indent="      ", break_on_hyphens=False
        )


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, _width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _width() -> int:
    return max(40, min(shutil.get_terminal_size().columns, 100))


def _is_class(value: Any) -> bool:
    return isinstance(value, dict) and "class_path" in value


def _named(value: dict[str, Any]) -> str:
    return str(value["class_path"])


def _text(value: Any) -> str:
    """A value as YAML has it, in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(default: str) -> str:
    """A default of Python as YAML has it."""
    words = {"None": "null", "True": "true", "False": "false"}
    try:
        return words.get(default) or _text(
            yaml.safe_load(default.replace("(", "[").replace(",)", "]").replace(")", "]"))
        )
    except yaml.YAMLError:
        return default
