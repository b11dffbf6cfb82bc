"""A piece of the circuit, drawn: one output bit and the gates that it is computed from."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from lgn_lightning.circuit import Circuit
from lgn_lightning.gates import CONSTANT_GATES, GATE_NAMES, PASS_THROUGH_GATES
from lgn_lightning.report.figures import HARD, INK, MUTED, SURFACE, new_figure, to_svg

#: Gates of a drawing at best, and at most before the cone of the output is cut off.
_WANTED_GATES = 10
_MOST_GATES = 14
_DEPTH = 5
_OUTPUTS_TRIED = 400
_PIN = 0.14

#: Shape, whether operand A, operand B and the output are inverted; derived by name from `lgn_lightning.gates`.
_SHAPES = {
    "and": ("and", False, False, False),
    "a_and_not_b": ("and", False, True, False),
    "not_a_and_b": ("and", True, False, False),
    "nor": ("or", False, False, True),
    "nand": ("and", False, False, True),
    "or": ("or", False, False, False),
    "a_or_not_b": ("or", False, True, False),
    "not_a_or_b": ("or", True, False, False),
    "xor": ("xor", False, False, False),
    "xnor": ("xor", False, False, True),
}


@dataclass(frozen=True)
class Piece:
    """The gates to draw behind an output bit, with their columns from the right, and whether others are cut off."""

    output: int
    gates: list[int]
    column: dict[int, int]
    cut: bool

    @property
    def columns(self) -> int:
        """Columns of the drawing, that of the inputs included."""
        return max(self.column.values()) + 2


def choose_piece(circuit: Circuit) -> Piece | None:
    """Chooses the output bit whose gates are nearest to a drawing of good size; None if no output is a gate."""
    best: tuple[tuple[bool, int], Piece] | None = None
    for output in range(min(len(circuit.outputs), _OUTPUTS_TRIED)):
        piece = _piece(circuit, output)
        if piece is not None:
            rank = (piece.cut, abs(len(piece.gates) - _WANTED_GATES))
            if best is None or rank < best[0]:
                best = rank, piece
    return None if best is None else best[1]


def _piece(circuit: Circuit, output: int) -> Piece | None:
    root = int(circuit.outputs[output])
    if root < circuit.num_inputs:
        return None
    gates, frontier = [root], [root]
    for _ in range(_DEPTH):
        reads = sorted({node for gate in frontier for node in operands(circuit, gate) if node >= circuit.num_inputs})
        new = [node for node in reads if node not in gates]
        room = _MOST_GATES - len(gates)
        gates += new[:room]
        frontier = new[:room]
    column = {root: 0}
    cut = False
    for gate in sorted(gates, reverse=True):  # a gate comes after all that read it
        for node in operands(circuit, gate):
            if node in gates:
                column[node] = max(column.get(node, 0), column[gate] + 1)
            cut |= node >= circuit.num_inputs and node not in gates
    return Piece(output, sorted(gates), column, cut)


def operands(circuit: Circuit, node: int) -> list[int]:
    """The nodes that a gate depends on."""
    gate = node - circuit.num_inputs
    kind = int(circuit.gates[gate])
    if kind in CONSTANT_GATES:
        return []
    a, b = int(circuit.a[gate]), int(circuit.b[gate])
    if kind in PASS_THROUGH_GATES:
        return [a] if GATE_NAMES[kind].endswith("a") else [b]
    return [a, b]


def input_name(circuit: Circuit, node: int) -> str:
    """An input in words: ``row 3, col 7 > 127``, with the channel where there are several."""
    if circuit.comparisons is not None:
        return circuit.comparisons.describe(node)
    if circuit.levels is None or circuit.image_shape is None:
        return f"input {node}"
    channels, height, width = circuit.image_shape
    level, channel, row, column = np.unravel_index(node, (len(circuit.levels), channels, height, width))
    where = f"row {row}, col {column}" if channels == 1 else f"ch {channel}, row {row}, col {column}"
    return f"{where} > {circuit.levels[level]}"


def node_values(circuit: Circuit, bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Values of all nodes for the input bits of one sample: bool ``[num_inputs]`` → ``[nodes]``."""
    values = np.empty(circuit.num_nodes, np.bool_)
    values[: circuit.num_inputs] = bits
    for gate, (table, a, b) in enumerate(zip(circuit.gates.tolist(), circuit.a, circuit.b, strict=True)):
        values[circuit.num_inputs + gate] = table >> (3 - 2 * int(values[a]) - int(values[b])) & 1
    return values


def draw_piece(circuit: Circuit, piece: Piece, label: str, values: NDArray[np.bool_] | None = None) -> str:
    """Draws a piece of a circuit as an SVG element, signals running from left to right; ``label`` is its text.

    With the values of all nodes, those that are one are drawn as strong lines.
    """
    place = _layout(circuit, piece)
    rows = max(y for _, y in place.values()) + 1
    columns = piece.columns
    figure, axes = new_figure(max(1.6, 0.26 * rows), width=max(4.2, 0.8 * columns + 1.8))
    axes.set_axis_off()
    axes.set_xlim(-1.3, columns - 0.4)
    axes.set_ylim(rows - 0.4, -0.6)
    for gate in piece.gates:
        for node, pin in _pins(circuit, gate, place):
            left, height = place[node]
            start = left + (0.18 if node in piece.gates else 0.3)
            _wire(axes, start, height, place[gate][0], pin, values is not None and bool(values[node]))
    for node, (x, y) in place.items():
        if node in piece.gates:
            _symbol(axes, circuit, node, place)
        else:
            text = input_name(circuit, node) if node < circuit.num_inputs else "…"
            axes.annotate(text, (x + 0.25, y), ha="right", va="center", size=7.5, color=MUTED)
    x, y = place[int(circuit.outputs[piece.output])]
    on = values is not None and bool(values[int(circuit.outputs[piece.output])])
    axes.plot([x + 0.18, x + 0.5], [y, y], color=HARD if on else INK, linewidth=2 if on else 1)
    return to_svg(figure, label)


def _layout(circuit: Circuit, piece: Piece) -> dict[int, tuple[float, float]]:
    """Leaves in the leftmost column, one a row in the order of a walk from the output; gates between what they read."""
    place: dict[int, tuple[float, float]] = {}

    def walk(node: int) -> float:
        if node not in place:
            reads = operands(circuit, node) if node in piece.column else []
            heights = [walk(read) for read in reads]
            if heights:
                place[node] = (piece.columns - 1 - piece.column[node], sum(heights) / len(heights))
            else:  # an input, a gate that is not drawn, or a constant
                place[node] = (0, sum(1 for x, _ in place.values() if x == 0))
        return place[node][1]

    walk(int(circuit.outputs[piece.output]))
    return place


def _pins(circuit: Circuit, gate: int, place: dict[int, tuple[float, float]]) -> list[tuple[int, float]]:
    """The nodes a gate reads, in the order A, B, and the heights at which their wires enter it."""
    y = place[gate][1]
    reads = operands(circuit, gate)
    if len(reads) == 1:
        return [(reads[0], y)]
    pins = [y - _PIN, y + _PIN]
    if reads and place[reads[0]][1] > place[reads[1]][1]:
        pins.reverse()  # the two wires of a gate do not cross
    return list(zip(reads, pins, strict=False))


def _wire(axes: Axes, left: float, height: float, x: float, pin: float, on: bool = False) -> None:
    bend, color, width = x - 0.4, HARD if on else MUTED, 2.0 if on else 0.8
    axes.plot([left, bend - 0.12, bend, x - 0.16], [height, height, pin, pin], color=color, linewidth=width)


def _symbol(axes: Axes, circuit: Circuit, node: int, place: dict[int, tuple[float, float]]) -> None:
    x, y = place[node]
    name = GATE_NAMES[int(circuit.gates[node - circuit.num_inputs])]
    if name in ("zero", "one"):
        axes.annotate("0" if name == "zero" else "1", (x, y), ha="center", va="center", size=8, color=INK)
        return
    shape, not_a, not_b, not_out = _SHAPES.get(name, ("buffer", False, False, name.startswith("not")))
    style = {"edgecolor": INK, "linewidth": 1.1, "zorder": 3}
    axes.add_patch(PathPatch(_outline(shape, x, y), facecolor=SURFACE, **style))
    if shape == "xor":
        axes.add_patch(PathPatch(_back(x - 0.06, y), facecolor="none", **style))
    pins = [pin for _, pin in _pins(circuit, node, place)]
    ends = [(x - 0.24, pin) for pin, inverted in zip(pins, (not_a, not_b), strict=False) if inverted]
    for end in [*ends, *([(x + 0.27, y)] if not_out else [])]:
        axes.add_patch(Ellipse(end, 0.09, 0.2, facecolor=SURFACE, edgecolor=HARD, linewidth=1.1, zorder=4))


def _outline(shape: str, x: float, y: float) -> Path:
    """The distinctive shapes of IEEE Std 91, 0.45 wide and 0.64 high."""
    left, right, low, high = x - 0.22, x + 0.24, y - 0.32, y + 0.32
    to, line, curve, close = Path.MOVETO, Path.LINETO, Path.CURVE4, Path.CLOSEPOLY
    if shape == "buffer":
        return Path([(left, low), (right, y), (left, high), (left, low)], [to, line, line, close])
    if shape == "and":
        points = [(left, low), (x, low), (right, low), (right, high), (x, high), (left, high), (left, low)]
        return Path(points, [to, line, curve, curve, curve, line, close])
    points = [(left, low), (x + 0.05, low), (x + 0.15, y - 0.15), (right, y), (x + 0.15, y + 0.15), (x + 0.05, high)]
    points += [(left, high), (left + 0.1, y + 0.15), (left + 0.1, y - 0.15), (left, low)]
    return Path(points, [to, *[curve] * 9])


def _back(x: float, y: float) -> Path:
    """The second line of an xor."""
    left = x - 0.22
    points = [(left, y + 0.32), (left + 0.1, y + 0.15), (left + 0.1, y - 0.15), (left, y - 0.32)]
    return Path(points, [Path.MOVETO, *[Path.CURVE4] * 3])
