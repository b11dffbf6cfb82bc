"""JSON that is to fill a dataclass."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lgn_lightning.base.errors import ResultError
from lgn_lightning.base.plain_values import filled, read_json


@dataclass(frozen=True)
class Part:
    name: str
    share: float | None = None


@dataclass(frozen=True)
class Whole:
    count: int
    parts: list[Part]
    labels: dict[str, str] = field(default_factory=dict)


def test_plain_values_come_back() -> None:
    whole = Whole(3, [Part("a", 0.5), Part("b")], {"x": "y"})
    assert filled(Whole, asdict(whole)) == whole
    assert filled(Part, {"name": "a", "share": 2}) == Part("a", 2.0)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (-1, "it is -1"),
        ({"count": 3}, "parts is missing"),
        ({"count": 3, "parts": [], "more": 1}, "more is not known"),
        ({"count": "3", "parts": []}, "count is '3'"),
        ({"count": True, "parts": []}, "count is True"),
        ({"count": 3, "parts": {}}, "parts is a dict"),
        ({"count": 3, "parts": [{"name": "a", "share": float("nan")}]}, r"parts\[0\]\.share is nan"),
        ({"count": 3, "parts": [{"name": "a", "share": 10**400}]}, r"parts\[0\]\.share is 1000"),
        ({"count": 3, "parts": [{"name": None}]}, r"parts\[0\]\.name is None"),
        ({"count": 3, "parts": [], "labels": {"x": 1}}, r"labels\.x is 1"),
    ],
)
def test_what_does_not_fit_is_named(values: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        filled(Whole, values)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5_000])
def test_what_is_no_json_is_one_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(ResultError, match=r"x\.json cannot be read .*; move it away"):
        read_json(file, ResultError, "move it away")
