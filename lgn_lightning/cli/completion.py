"""Completion of ``lgn`` in a shell: commands, options, recipes and their keys; by the package argcomplete."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.settings_text import read_settings
from lgn_lightning.cli.recipe_keys import RUN_KEYS, nodes_of
from lgn_lightning.runs.recipes import find_recipe, recipe_files


def complete(commands: Mapping[str, Any]) -> None:
    """Answers the shell that asks, and ends the process.

    Args:
        commands: The table of commands.
    """
    import argcomplete  # an extra

    typed = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "100000"))]
    argcomplete.autocomplete(parser_for(commands, typed.split()))


def parser_for(commands: Mapping[str, Any], typed: list[str]) -> argparse.ArgumentParser:
    """A parser of what may follow: the other commands' options are not looked up, as their modules import much.

    Args:
        commands: The table of commands.
        typed: Words of the command line, the program first.
    """
    parser = argparse.ArgumentParser(prog="lgn")
    verbs = parser.add_subparsers()
    for name, command in commands.items():
        verb = verbs.add_parser(name, help=command.help)
        if typed[1:2] != [name]:
            continue
        import_module(f"lgn_lightning.cli.{command.module or name}").add_arguments(verb)
        if command.target is not None:
            words: Any = verb.add_argument("words", nargs="*")
            words.completer = lambda **_: [path.stem for path in recipe_files()]
            for key in _keys(typed[2:3]):
                verb.add_argument(f"--{key}")
    return parser


def _keys(words: list[str]) -> Iterator[str]:
    """The keys of the recipe that was typed."""
    try:
        settings = read_settings(find_recipe(words[0]))
    except (LgnError, IndexError, OSError):
        return
    yield from RUN_KEYS
    for node in nodes_of(settings):
        if re.fullmatch(r"[\w.]+", node.key) and node.key not in ("paper", "trainer.callbacks"):
            signature = node.signature
            yield from (f"{node.key}.{name}" for name in (signature.arguments if signature else ()))
