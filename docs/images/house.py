"""Draws the rooms of the package for docs/architecture.md, from the contracts in pyproject.toml.

python docs/images/house.py docs/images/house.svg
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from drawing import Picture

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: Files in the root of the package, which are on a floor but are no rooms.
_FILES = {"__main__", "losses", "gates"}
_FLOOR, _HEIGHT = 40, 28


def floors(contract: dict[str, Any]) -> list[list[str]]:
    """The floors of a contract, from the top; an optional layer is in parentheses there."""
    return [[room.strip(" ()") for room in layer.split("|")] for layer in contract["layers"]]


def draw(picture: Picture, rows: list[list[str]], left: float, width: float, top: float, kind: str) -> None:
    """Draws one box a room, a row a floor."""
    for row, rooms in enumerate(rows):
        x, y = left, top + row * _FLOOR
        letters = sum(len(room) + 3 for room in rooms)
        for room in rooms:
            wide = (width - 8 * (len(rooms) - 1)) * (len(room) + 3) / letters
            picture.box(x, y, wide, _HEIGHT, kind, "muted", 0.15)
            picture.text(x + wide / 2, y + 18, room, "strong")
            x += wide + 8


def house() -> Picture:
    """All floors, and beside them those of the circuit."""
    contracts = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    package, circuit = (
        next(floors(c) for c in contracts if c["type"] == "layers" and c["containers"] == [container])
        for container in ("lgn_lightning", "lgn_lightning.circuit")
    )
    package = [floor for floor in package if not set(floor) <= _FILES]
    height = 70 + _FLOOR * max(len(package), len(circuit))
    picture = Picture(700, height, "The rooms of the package: each may import those on the floors below it")
    picture.text(195, 24, "lgn_lightning/", "muted small")
    draw(picture, package, 40, 310, 40, "soft")
    picture.arrow((22, 44), (22, 40 + _FLOOR * len(package) - 14), "muted")
    picture.text(540, 24, "lgn_lightning/circuit/", "muted small")
    draw(picture, circuit, 400, 280, 40, "hard")
    picture.arrow((384, 44), (384, 40 + _FLOOR * len(circuit) - 14), "muted")
    picture.text(350, height - 14, "arrow: may import; rooms on one floor do not import each other", "muted small")
    return picture


if __name__ == "__main__":
    house().save(Path(sys.argv[1]))
