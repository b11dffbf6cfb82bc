"""YAML as settings: plain values of bounded size, from whatever text it is.

A text of a few hundred bytes can stand for more than a machine holds, by aliases of aliases, or for a list that holds
itself. Recipes, ``config.yaml`` and the settings in a checkpoint are read here, before anything else sees them.
"""

import json
import math
import shlex
from pathlib import Path
from typing import Any, Final

import yaml

from lgn_lightning.base.errors import LgnError, RecipeError

#: Values that a text may stand for, aliases written out. The largest recipe here has about 150.
MOST_VALUES: Final = 100_000
#: How deep they may lie.
MOST_LEVELS: Final = 50
_TYPES: Final = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in _TYPES)


class _Loader(yaml.SafeLoader):
    """Dates are the text they are written as: no setting is one."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [pair for pair in pairs if not pair[0].endswith(":timestamp")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def parse_settings(text: str, source: object, error: type[LgnError] = RecipeError) -> dict[str, Any]:
    """Reads settings in YAML, plain values with text as keys; on anything else ``error`` names the ``source``."""
    try:
        settings = parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as reason:
        shown = "it lies too deep" if isinstance(reason, RecursionError) else reason
        raise error(f"{source} cannot be read as settings in YAML: {shown}") from reason
    if not isinstance(settings, dict):
        raise error(f"{source} holds no settings: expected a mapping of keys to values, as `lgn cp` writes one")
    return settings


def read_settings(path: Path) -> dict[str, Any]:
    """Reads the settings of a file: a recipe, or a run's ``config.yaml``; see `parse_settings` for the errors."""
    return parse_settings(read_text(path), path)


def arguments_of(setting: Any) -> dict[str, Any]:
    """``init_args`` of a setting with a ``class_path``; empty where a text, which says what it likes, has none."""
    given = setting.get("init_args") if isinstance(setting, dict) else None
    return given if isinstance(given, dict) else {}


def read_text(path: Path) -> str:
    """Reads a file of text; a RecipeError if it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except ValueError as error:
        raise RecipeError(f"{path} is no text: {error}") from error


def option(key: str, value: Any) -> str:
    """The option of a command line, as a shell takes it, that gives a key plain values: ``--data.drop '[id]'``."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf).strip()
    if "'" in text:  # a shell's quotes of these are hard to read
        text = json.dumps(value, ensure_ascii=False)
    return f"--{key} {shlex.quote(text)}"


def parse_yaml(text: str) -> Any:
    """Reads one YAML document of bounded size.

    A yaml.YAMLError if it is none, has tags, or refers to itself; a ValueError if it is too large or too deep, or a
    value cannot be read; a RecursionError if it is much too deep.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _size(root, {}, 1)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int], level: int) -> int:
    """Values that a node stands for; 0 in ``known`` is one that is being counted."""
    found = known.get(id(node))
    where = f"line {node.start_mark.line + 1}"
    if found == 0:
        raise ValueError(f"{where} refers to itself")
    if found is None:
        if node.tag not in _TAGS:
            raise ValueError(f"{where} has the tag {node.tag!r}: settings are plain values")
        if level > MOST_LEVELS:
            raise ValueError(f"{where} lies deeper than {MOST_LEVELS} levels")
        known[id(node)] = 0
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            if any(not isinstance(key, yaml.ScalarNode) for key, _ in node.value):
                raise ValueError(f"{where} has a key that is no text")
            parts = [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        else:
            node.value.encode()  # a lone surrogate is no text
        found = 1
        for part in parts:
            found += _size(part, known, level + 1)
            if found > MOST_VALUES:
                raise ValueError(f"{where} stands for more than {MOST_VALUES:,} values")
        known[id(node)] = found
    return found
