"""A canvas for the pictures of docs/concepts.md: plain SVG that follows the reader's light or dark mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

Point = tuple[float, float]

#: Colours by role, as in the report: blue is soft, orange is hard.
_STYLE = """
  svg { --ink: #16171a; --muted: #5c5f66; --line: #b9bbc0; --soft: #2a6fd0; --hard: #c8501c; --paper: #ffffff; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #ececee; --muted: #a3a6ad; --line: #5a5d65; --soft: #6ba6f5; --hard: #f0854f; --paper: #1d1f23; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink); }
  .muted { fill: var(--muted); } .soft { fill: var(--soft); } .hard { fill: var(--hard); }
  .small { font-size: 11px; } .strong { font-weight: 600; }
"""
_COLOURS = ("ink", "muted", "line", "soft", "hard", "paper")


def _px(value: float) -> str:
    """A length to a tenth of a pixel: the same text whatever the last bit of a float is."""
    return f"{value:.1f}".removesuffix(".0")


def colour(name: str | None) -> str:
    """The CSS value of a colour's name; None is no colour."""
    if name is None:
        return "none"
    if name not in _COLOURS:
        raise ValueError(f"{name!r} is not one of the colours {', '.join(_COLOURS)}")
    return f"var(--{name})"


class Picture:
    """An SVG under construction; lengths are pixels, y grows downwards.

    Args:
        width: Width of the picture.
        height: Its height.
        title: What a screen reader says.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size = width, height
        self.title = title
        self.parts: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> None:
        """Writes a line; ``kind`` is some of muted, soft, hard, small, strong."""
        style = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}"{style}>{escape(text)}</text>')

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str | None = None,
        edge: str | None = "ink",
        opacity: float = 1.0,
        radius: float = 3,
    ) -> None:
        """A rectangle, its upper left corner at (x, y)."""
        self.parts.append(
            f'<rect x="{_px(x)}" y="{_px(y)}" width="{_px(width)}" height="{_px(height)}" rx="{_px(radius)}" '
            f'style="fill:{colour(fill)};fill-opacity:{opacity:.3g};stroke:{colour(edge)}"/>'
        )

    def line(self, points: Sequence[Point], stroke: str = "muted", width: float = 1.4, dashes: str = "") -> None:
        """A polyline."""
        where = " ".join(f"{_px(x)},{_px(y)}" for x, y in points)
        dashed = f";stroke-dasharray:{dashes}" if dashes else ""
        self.parts.append(
            f'<polyline points="{where}" style="fill:none;stroke:{colour(stroke)};stroke-width:{_px(width)}{dashed}"/>'
        )

    def arrow(self, start: Point, end: Point, stroke: str = "muted", dashes: str = "") -> None:
        """A line with a head at its end."""
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        head = [(end[0] - 7 * math.cos(angle + s), end[1] - 7 * math.sin(angle + s)) for s in (0.45, -0.45)]
        self.line([start, end], stroke, dashes=dashes)
        self.line([head[0], end, head[1]], stroke)

    def dot(self, x: float, y: float, radius: float = 4, fill: str | None = "ink", edge: str | None = None) -> None:
        """A circle."""
        self.parts.append(
            f'<circle cx="{_px(x)}" cy="{_px(y)}" r="{_px(radius)}" style="fill:{colour(fill)};stroke:{colour(edge)}"/>'
        )

    def gate(self, x: float, y: float, label: str, edge: str = "ink", width: float = 46, height: float = 26) -> None:
        """A gate, its middle at (x, y)."""
        self.box(x - width / 2, y - height / 2, width, height, "paper", edge, radius=height / 2)
        self.text(x, y + 4, label, "small")

    def save(self, file: Path) -> None:
        """Writes the picture."""
        width, height = self.size
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
        body = "\n".join(self.parts)
        text = f"{head}\n<title>{escape(self.title)}</title>\n<style>{_STYLE}</style>\n{body}\n</svg>\n"
        file.write_text(text, encoding="utf-8")
