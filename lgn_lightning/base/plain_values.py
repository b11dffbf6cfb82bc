"""JSON files as data: read whole, and checked against the dataclass that they are to fill."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from lgn_lightning.base.errors import LgnError

T = TypeVar("T")


def read_json(path: Path, error: type[LgnError], mend: str) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        error: The class of the error.
        mend: What to do if it is none.

    Raises:
        LgnError: If it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as reason:
        shown = "it is nested too deep" if isinstance(reason, RecursionError) else reason
        raise error(f"{path} cannot be read ({shown}); {mend}") from reason


def filled(cls: type[T], values: Any) -> T:
    """Makes a dataclass of plain values, whose fields are numbers, text, lists, dicts and such dataclasses.

    Raises:
        ValueError: If a field is missing, unknown, of another type, or no finite number; the message names it.
    """
    return _typed(values, cls, "")  # type: ignore[no-any-return]


def _typed(value: Any, kind: Any, name: str) -> Any:
    if isinstance(kind, UnionType):
        return None if value is None and NoneType in get_args(kind) else _typed(value, get_args(kind)[0], name)
    if get_origin(kind) is list and isinstance(value, list):
        return [_typed(part, get_args(kind)[0], f"{name}[{index}]") for index, part in enumerate(value)]
    if get_origin(kind) is dict and isinstance(value, dict):
        return {_typed(key, str, name): _typed(part, get_args(kind)[1], f"{name}.{key}") for key, part in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return _dataclass(value, kind, f"{name}." if name else "")
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        wanted = getattr(get_origin(kind) or kind, "__name__", kind)
        raise ValueError(f"{name or 'it'} is {_short(value)}, and no {wanted}")
    return value


def _dataclass(values: dict[str, Any], kind: Any, prefix: str) -> Any:
    known = {part.name: part for part in fields(kind)}
    if unknown := [key for key in values if key not in known]:
        raise ValueError(f"{prefix}{unknown[0]} is not known")
    if missing := [
        name
        for name, part in known.items()
        if name not in values and part.default is MISSING and part.default_factory is MISSING
    ]:
        raise ValueError(f"{prefix}{missing[0]} is missing")
    hints = get_type_hints(kind)
    return kind(**{name: _typed(value, hints[name], f"{prefix}{name}") for name, value in values.items()})


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, (list, dict)) else f"a {type(value).__name__}"
    return text if len(text) < 60 else f"{text[:57]}…"
