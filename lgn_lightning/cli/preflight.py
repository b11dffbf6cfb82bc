"""Looks at a recipe and its overrides before torch and Lightning are imported, which takes seconds.

What cannot be known without them, such as the arguments of classes whose source is not found, passes here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lgn_lightning.base.errors import RecipeError, UsageError
from lgn_lightning.base.signatures import Argument, classes_of
from lgn_lightning.cli.recipe_keys import (
    FIXED,
    HOMES,
    OTHER_KEYS,
    RUN_KEYS,
    Node,
    class_named,
    nodes_of,
    with_overrides,
)
from lgn_lightning.data.known import known_data
from lgn_lightning.models.sizes import SIZES
from lgn_lightning.training.size_check import compare_sizes

#: Arguments of nets that are numbers or lists of them.
_NUMBERS: Final = (
    *("in_shape", "num_classes", "width", "depth", "arity", "thresholds", "channels", "dense", "kernel_size"),
    *("padding", "pool", "edges"),
)


#: Types that no word stands for.
_WORDLESS: Final = frozenset({"int", "float", "bool", "None", "list", "tuple", "Sequence", "Tensor"})

#: Types that are never None; others may be names for what is.
_NEVER_NONE: Final = _WORDLESS - {"None"} | {"str", "dict"}

#: Layers of a net that is no mistake.
_DEEP: Final = 10_000


@contextmanager
def keys_named(command: str, target: str) -> Iterator[None]:
    """Adds to an error about a key the command that lists all keys, such as ``lgn fit digits --help``."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{error}\n(`lgn {command} {target} --help` lists every key)") from error


def check_form(settings: dict[str, Any], source: Path) -> None:
    """Checks that the parts of a recipe are mappings and keys text, which readers after this one take for granted.

    Raises:
        RecipeError: If not.
    """
    for name in ("trainer", "model", "paper"):
        if not isinstance(settings.get(name), dict | None):
            raise RecipeError(f"{source}: {name} is {settings[name]!r}, and no mapping of keys to values")
    pending: list[tuple[str, Any]] = [("", settings)]
    while pending:
        place, value = pending.pop()
        for key, inner in value.items() if isinstance(value, dict) else ():
            if not isinstance(key, str) and not place.startswith("data."):  # arguments of data may map numbers
                raise RecipeError(f"{source}: {place}{key!r} is no key: keys are text")
            pending.append((f"{place}{key}.", inner))


def check_recipe(settings: dict[str, Any], overrides: Sequence[str]) -> None:
    """Checks keys and sizes.

    Args:
        settings: The recipe.
        overrides: Keys and values of the command line.

    Raises:
        UsageError: If a key is not known.
        RecipeError: If a net's sizes do not fit one another.
        DataError: If they do not fit the data.
    """
    merged = with_overrides(settings, overrides)
    if merged is None:
        return
    nodes = list(nodes_of(merged))
    for name in merged.keys() - {*FIXED, *RUN_KEYS, *OTHER_KEYS}:
        raise UsageError(f"there is no key {name}{_near(name, (*FIXED, *RUN_KEYS))}")
    for node in nodes:
        signature = node.signature
        if signature is None or signature.takes_more:
            continue
        for name, value in node.values.items():
            if name not in signature.arguments and "." not in str(name):
                where = f"{node.key}." if node.fixed else f"{node.key} ({node.path}): "
                raise UsageError(f"{where}{name}: there is no such key{_near(name, signature.arguments)}")
            _check_type(node, name, signature.arguments.get(name), value)
            _check_class(f"{node.key}.{name}", name, value)
    _check_class("data", "data", merged.get("data"))
    _check_sizes(merged, {node.key: node for node in nodes})


def _check_type(node: Node, name: str, argument: Argument | None, value: Any) -> None:
    """Finds words where numbers, switches or lists belong, and null where neither the type nor the default is None.

    Other types are checked where the class is built.
    """
    if argument is None:
        return
    kinds = argument.kinds
    is_word = isinstance(value, str) and _WORDLESS.issuperset(kinds) and not _is_number(value)
    types = [kind for kind in kinds if kind[0].isalpha() or kind[0] == "_"]  # the others are values of a Literal
    is_null = value is None and _NEVER_NONE.issuperset(types) and argument.default != "None"
    if is_word or is_null:
        where = f"{node.key}.{name}" if node.fixed else f"{node.key}.{name} ({node.path})"
        expected = " or ".join({"None": "null", "Sequence": "list"}.get(kind, kind) for kind in kinds)
        raise UsageError(f"{where}: expected {expected}, got {'null' if is_null else value}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_class(key: str, name: str, value: Any) -> None:
    """Finds names that are nearly a class's; others may be classes of modules that are imported later."""
    for word in value if isinstance(value, list) else [value]:
        # A small letter begins the words that stand for one, such as the target labels.
        if isinstance(word, str) and word.isidentifier() and word[0].isupper() and class_named(name, word) is None:
            known = [found for home in HOMES.get(name, ()) for found in classes_of(home)]
            if near := _near(word, known):
                raise UsageError(f"{key}: there is no class {word}{near}")


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def _check_sizes(settings: dict[str, Any], nodes: dict[str, Node]) -> None:
    net, data = nodes.get("model.net"), nodes.get("data")
    takes = gives = None
    if net is not None and net.values.get("thresholds") == "auto":  # at least one
        net = replace(net, values={**net.values, "thresholds": [0.5]})
    if net is not None and any(isinstance(net.values.get(name), str) for name in _NUMBERS):
        return  # said where it is parsed
    if net is not None and isinstance(depth := net.values.get("depth"), int) and depth > _DEEP:
        return  # how much memory it would take is said where it is built
    if net is not None and net.path.startswith("lgn_lightning.models."):
        check = SIZES.get(net.path.rpartition(".")[2])
        takes, gives = net.values.get("in_shape"), net.values.get("num_classes")
        try:
            if check is not None:
                check(**net.values)
        except ValueError as error:
            raise RecipeError(f"{net.key}: {error}") from error
        except TypeError:  # another type, or an argument is missing
            return
    package, _, name = ("" if data is None else data.path).rpartition(".")
    if data is not None and package == "lgn_lightning.data":
        try:
            shape, classes = known_data(name, **data.values)
        except (TypeError, ValueError, OSError):  # a value of another type, or a folder that cannot be read
            return
        module = settings["model"] if isinstance(settings.get("model"), dict) else {}
        if module.get("target") not in (None, "classes"):
            gives = classes = None  # how many scores these targets take, torch's side knows
        compare_sizes(takes, gives, None if classes is None else module.get("num_classes"), name, shape, classes)
