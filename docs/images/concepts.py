"""Draws the pictures of docs/concepts.md and of the README. Whatever they show as a number is computed by the library.

python docs/images/concepts.py docs/images/concepts
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from drawing import Picture

from lgn_lightning import GroupSum, LogicLayer, Threshold, soft_gates
from lgn_lightning.circuit import CircuitBuilder
from lgn_lightning.circuit.passes.optimize import LEVELS
from lgn_lightning.gates import GATE_NAMES, TRUTH_TABLES
from lgn_lightning.nn.parametrizations import make_parametrization

ENTRIES = ("t00", "t01", "t10", "t11")


def overview() -> Picture:
    """A net of six gates: mixtures while it trains, then the gates that it settles on."""
    picture = Picture(700, 270, "While it trains, a gate is a mixture of 16 gates; then it is one of them")
    torch.manual_seed(325)
    layers = [LogicLayer(4, 4), LogicLayer(4, 2)]
    inputs = [(0, 60 + 50 * row) for row in range(4)]
    places = [[(80, 60 + 50 * row) for row in range(4)], [(200, 85), (200, 185)]]
    sides = ((60, "while training: mixtures of 16 gates", "soft"), (420, "afterwards: a circuit", "hard"))
    for left, title, kind in sides:
        picture.text(left + 110, 22, title, f"{kind} strong")
        before = inputs
        for layer, here in zip(layers, places, strict=True):
            names = [GATE_NAMES[int(number)] for number in layer.gates()]
            for index, (x, y) in enumerate(here):
                ends = [int(layer.indices_a[index]), int(layer.indices_b[index])]
                for end, shift in zip(ends, (-6, 6), strict=True):
                    start = before[end][0] + (8 if before is inputs else 40), before[end][1]
                    picture.line([(left + start[0], start[1]), (left + x - 40, y + shift)], "line", 1.1)
                if kind == "hard":
                    picture.gate(left + x, y, names[index].replace("_", " "), "hard", width=80, height=30)
                    continue
                picture.box(left + x - 40, y - 17, 80, 34, "paper", "soft")
                shares = layer.gate_probabilities()[index].tolist()
                for number, share in enumerate(shares):
                    high = 28 * share / max(shares)
                    picture.box(left + x - 38 + 4.8 * number, y + 15 - high, 3.8, high, "soft", None, 0.85, 0)
            before = here
        for index, (x, y) in enumerate(inputs):
            picture.text(left + x - 4, y + 4, "x" + "₀₁₂₃"[index], anchor="end")
        for x, y in places[-1]:
            picture.arrow((left + x + 41, y), (left + x + 62, y), kind)
    picture.arrow((340, 135), (388, 135), "ink")
    picture.text(170, 255, "soft values and gradients", "muted small")
    picture.text(530, 255, "bits: C, machine code, Verilog", "muted small")
    return picture


def gate() -> Picture:
    """A gate and its truth table; all sixteen."""
    picture = Picture(680, 250, "A gate is its truth table: four bits, so there are sixteen gates")
    for y, name in ((70, "a"), (110, "b")):
        picture.text(18, y + 4, name)
        picture.line([(28, y), (70, y)])
    picture.box(70, 50, 80, 80, "paper", radius=8)
    picture.text(110, 95, "gate", "strong")
    picture.line([(150, 90), (190, 90)])
    picture.text(200, 94, "y")
    picture.text(110, 165, "here: a and not b", "muted small")
    for row, text in enumerate(("a b", "0 0", "0 1", "1 0", "1 1")):
        kind = "muted small" if not row else ""
        picture.text(260, 50 + 24 * row, text, kind)
        value = "y" if not row else str(TRUTH_TABLES[GATE_NAMES.index("a_and_not_b")][row - 1])
        picture.text(300, 50 + 24 * row, value, kind or "hard strong")
        picture.text(340, 50 + 24 * row, "" if not row else ENTRIES[row - 1], "muted small")
    picture.text(530, 26, "the sixteen gates and their tables", "muted small")
    for number, table in enumerate(TRUTH_TABLES):
        x, y = 460 + 150 * (number // 8), 50 + 25 * (number % 8)
        picture.text(x - 34, y, str(number), "muted small", "end")
        for column, bit in enumerate(table):
            picture.box(x - 26 + 8 * column, y - 9, 8, 11, "hard" if bit else None, "muted", radius=0)
        picture.text(x + 12, y, GATE_NAMES[number].replace("_", " "), "small", "start")
    return picture


def mixture() -> Picture:
    """Sixteen shares, collapsed to four numbers, which are a surface over (a, b)."""
    picture = Picture(680, 250, "A soft gate: sixteen shares become four numbers, and those a surface over a and b")
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 16, generator=generator)
    logits[0, GATE_NAMES.index("xor")] += 2.5
    shares = logits.softmax(1)[0]
    table = make_parametrization("softmax").table(logits)[0]
    picture.text(120, 20, "softmax over the 16 gates", "muted small")
    for number, share in enumerate(shares.tolist()):
        x = 18 + 13 * number
        picture.box(x, 190 - 200 * share, 9, 200 * share, "soft", None, radius=0)
        if number % 3 == 0:
            picture.text(x + 4.5, 205, str(number), "muted small")
    picture.text(120, 228, "share of each gate", "muted small")
    picture.arrow((238, 120), (278, 120))
    picture.text(340, 20, "four numbers", "muted small")
    for index, value in enumerate(table.tolist()):
        x, y = 290 + 52 * (index % 2), 60 + 62 * (index // 2)
        picture.box(x, y, 48, 56, "soft", "muted", 0.15 + 0.8 * value)
        picture.text(x + 24, y + 24, ENTRIES[index], "small")
        picture.text(x + 24, y + 43, f"{value:.2f}", "strong")
    picture.text(341, 205, "each: the shares of the gates", "muted small")
    picture.text(341, 220, "that are 1 there, summed", "muted small")
    picture.arrow((402, 120), (440, 120))
    picture.text(560, 20, "y(a, b), bilinear", "muted small")
    layer = LogicLayer(2, 1)
    with torch.no_grad():
        layer.weights.copy_(logits)
        layer.indices_a.zero_()
        layer.indices_b.fill_(1)
        grid = (torch.arange(9) + 0.5) / 9
        values = layer(torch.cartesian_prod(grid, grid)).reshape(9, 9)
    for i in range(9):
        for j in range(9):
            picture.box(480 + 18 * i, 190 - 18 * j, 18, 18, "soft", None, 0.08 + 0.9 * float(values[i, j]), 0)
    picture.text(561, 228, "a", "muted")
    picture.text(468, 130, "b", "muted")
    return picture


def discretization_gap() -> Picture:
    """A net whose soft and hard forms decide differently: six gates, two classes."""
    picture = Picture(680, 262, "The discretization gap: soft and hard forms of a net can answer differently")
    # A net of six gates on three inputs: the first whose settled gates decide differently.
    x = torch.tensor([[1.0, 0.0, 1.0]])
    for seed in range(1000):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(LogicLayer(3, 6), GroupSum(2))
        net.eval()
        with torch.no_grad():
            hard = net[0](x)[0]
            with soft_gates(net):
                soft = net[0](x)[0]
        sums = [values.reshape(2, 3).sum(1) for values in (soft, hard)]
        if int(sums[0].argmax()) != int(sums[1].argmax()) and abs(float(sums[1][0] - sums[1][1])) >= 1:
            break
    sides = (("soft, while training", soft, "soft"), ("hard, as shipped", hard, "hard"))
    for side, (title, values, kind) in enumerate(sides):
        left = 20 + 340 * side
        picture.text(left + 150, 20, title, f"{kind} strong")
        for index, value in enumerate(values.tolist()):
            group, row = divmod(index, 3)
            y = 48 + 96 * group + 28 * row
            picture.box(left, y - 10, 150, 18, None, "line", radius=0)
            picture.box(left, y - 10, 150 * value, 18, kind, None, 0.85, radius=0)
            picture.text(left + 160, y + 4, f"{value:.2f}" if side == 0 else f"{value:.0f}", "small", "start")
        winner = int(values.reshape(2, 3).sum(1).argmax())
        for group in range(2):
            total = float(values.reshape(2, 3)[group].sum())
            y = 80 + 96 * group
            picture.line([(left + 196, y - 42), (left + 202, y - 42), (left + 202, y + 34), (left + 196, y + 34)])
            text = f"class {group}: {total:.2f}" if side == 0 else f"class {group}: {total:.0f}"
            picture.text(left + 212, y, text, f"{kind} strong" if group == winner else "muted", "start")
            if group == winner:
                picture.text(left + 212, y + 18, "wins", f"{kind} small", "start")
    picture.line([(340, 34), (340, 220)], "line", 1, "3 3")
    picture.text(340, 250, "the same net and input: six gates, three for each of two classes", "muted small")
    return picture


def straight_through() -> Picture:
    """The step of the forward pass and the slope of the backward pass."""
    picture = Picture(680, 240, "Straight-through: the forward pass rounds, the backward pass takes the soft slope")
    xs = np.linspace(-4, 4, 81)
    sigmoid = 1 / (1 + np.exp(-xs))
    for left, title, kind in ((40, "forward: a bit", "hard"), (260, "backward: the slope of this", "soft")):
        picture.text(left + 80, 22, title, f"{kind} strong")
        picture.line([(left, 170), (left + 160, 170)], "line")
        picture.line([(left + 80, 40), (left + 80, 175)], "line")
        picture.text(left + 80, 195, "logit of a table entry", "muted small")
    picture.line([(40, 170), (120, 170), (120, 60), (200, 60)], "hard", 2.4)
    picture.line([(260 + 20 * (x + 4), 170 - 110 * y) for x, y in zip(xs, sigmoid, strict=True)], "soft", 2.4)
    for left in (40, 260):
        picture.text(left - 8, 64, "1", "muted small", "end")
        picture.text(left - 8, 174, "0", "muted small", "end")
    picture.text(570, 22, "one training step", "strong")
    for index, name in enumerate(("gates", "gates", "sums")):
        picture.box(500, 40 + 54 * index, 140, 32, "paper", radius=6)
        picture.text(570, 61 + 54 * index, name)
    for y in (72, 126):
        picture.arrow((545, y + 1), (545, y + 21), "hard")
        picture.arrow((595, y + 21), (595, y + 1), "soft")
    picture.text(538, 206, "packed bits", "hard small")
    picture.text(606, 206, "gradients", "soft small")
    return picture


def thermometer() -> Picture:
    """Pixels, thresholds, bits."""
    picture = Picture(680, 210, "Thermometer encoding: a pixel becomes one bit for each threshold that it exceeds")
    encoder = Threshold([0.25, 0.5, 0.75], (1, 1, 3))
    pixels = [40, 150, 230]
    bits = encoder(torch.tensor(pixels, dtype=torch.uint8).reshape(1, 1, 1, 3)).reshape(3, 3).int().tolist()
    levels = encoder.current_levels().flatten().tolist()
    picture.line([(70, 170), (70, 30)], "ink")
    for value in (0, 255):
        picture.text(62, 174 - 140 * value / 255, str(value), "muted small", "end")
    for index, level in enumerate(levels):
        y = 170 - 140 * level / 255
        picture.line([(70, y), (330, y)], "hard", 1.2, "4 3")
        picture.text(338, y + 4, f"threshold {(index + 1) / 4:g}: pixel > {level:.0f}", "hard small", "start")
    for index, value in enumerate(pixels):
        x = 100 + 75 * index
        picture.box(x, 170 - 140 * value / 255, 40, 140 * value / 255, "soft", None, 0.85, 0)
        picture.text(x + 20, 188, f"pixel {value}", "small")
        column = 540 + 45 * index
        for row in range(3):
            bit = bits[2 - row][index]
            picture.box(column, 52 + 36 * row, 30, 30, "hard" if bit else None, "muted", 0.85)
            picture.text(column + 15, 72 + 36 * row, str(bit), "strong")
        picture.text(column + 15, 188, str(value), "small")
    picture.text(600, 30, "bits of the net", "muted small")
    return picture


def group_sum() -> Picture:
    """Groups of outputs, their counts, and what tau does to the softmax of the loss."""
    picture = Picture(680, 240, "Group sum: each class counts the ones of its outputs; tau scales the counts")
    rows = [[1, 1, 0, 1, 1, 1], [0, 1, 0, 0, 1, 0], [1, 0, 1, 0, 0, 1]]
    sums = GroupSum(3)(torch.tensor(rows, dtype=torch.float32).flatten()[None])[0]
    picture.text(95, 20, "outputs of the last layer", "muted small")
    picture.text(270, 20, "score", "muted small")
    for index, row in enumerate(rows):
        y = 40 + 58 * index
        for column, bit in enumerate(row):
            picture.box(18 + 27 * column, y, 23, 30, "hard" if bit else None, "muted", 0.85)
            picture.text(29.5 + 27 * column, y + 20, str(bit), "small")
        picture.arrow((186, y + 15), (216, y + 15))
        picture.text(270, y + 20, f"class {index}: {float(sums[index]):.0f}", "strong")
    for index, tau in enumerate((0.5, 2.0, 8.0)):
        left = 350 + 112 * index
        picture.text(left + 45, 20, f"τ = {tau:g}", "soft strong")
        picture.line([(left, 190), (left + 92, 190)], "line")
        for number, share in enumerate((sums / tau).softmax(0).tolist()):
            picture.box(left + 4 + 30 * number, 190 - 140 * share, 24, 140 * share, "soft", None, 0.85, 0)
            picture.text(left + 16 + 30 * number, 205, str(number), "muted small")
            picture.text(left + 16 + 30 * number, 184 - 140 * share, f"{100 * share:.0f} %", "small")
    picture.text(508, 230, "softmax(scores / τ), what the loss sees", "muted small")
    return picture


def tree() -> Picture:
    """A tree of gates on a receptive field, at the four places that an OR pools."""
    picture = Picture(680, 270, "A convolution is a tree of gates at every place; pooling is an OR of places")
    for i in range(5):
        for j in range(5):
            picture.box(20 + 26 * i, 50 + 26 * j, 26, 26, None, "line", radius=0)
    picture.box(20, 50, 78, 78, "soft", "soft", 0.12, 0)
    picture.text(85, 205, "image, and one 3×3 field", "muted small")
    leaves = [(33, 63), (85, 63), (59, 89), (33, 115)]
    for index, (x, y) in enumerate(leaves):
        picture.dot(x, y, 4, "soft")
        picture.line([(x, y), (190, 52 + 34 * index)], "soft", 1)
    tops = []
    for index in range(2):
        y = 69 + 68 * index
        for leaf in range(2):
            picture.line([(190, 52 + 34 * (2 * index + leaf)), (213, y + (-6 if leaf == 0 else 6))])
        picture.gate(235, y, ("and", "or")[index])
        tops.append((258, y))
    for index, (x, y) in enumerate(tops):
        picture.line([(x, y), (292, 103 + (-6 if index == 0 else 6))])
    picture.gate(315, 103, "xor")
    picture.line([(338, 103), (362, 103)])
    picture.text(275, 205, "a tree of depth 2: 3 gates,", "muted small")
    picture.text(275, 220, "its weights shared by all places", "muted small")
    for i in range(2):
        for j in range(2):
            picture.box(372 + 34 * i, 70 + 34 * j, 34, 34, "hard" if (i, j) == (1, 0) else None, "muted", 0.85, 0)
            picture.text(389 + 34 * i, 91 + 34 * j, str(int((i, j) == (1, 0))), "strong")
    picture.text(406, 205, "the tree at", "muted small")
    picture.text(406, 220, "four places", "muted small")
    picture.arrow((450, 104), (490, 104))
    picture.gate(525, 104, "or", width=60, height=34)
    picture.arrow((557, 104), (592, 104))
    picture.box(602, 87, 34, 34, "hard", "muted", 0.85, 0)
    picture.text(619, 108, "1", "strong")
    picture.text(560, 205, "OR pooling 2×2", "muted small")
    picture.text(560, 220, "(the maximum, while soft)", "muted small")
    return picture


def passes() -> Picture:
    """A small circuit through the passes, drawn before and after."""
    builder = CircuitBuilder()
    a, b, c = builder.inputs(3).tolist()

    def add(name: str, x: int, y: int) -> int:
        [node] = builder.gates([GATE_NAMES.index(name)], [x], [y]).tolist()
        return int(node)

    one = add("one", a, b)
    both = add("and", a, b)
    inverted = add("not_a", c, c)
    same = add("and", b, a)
    kept = add("and", both, one)
    add("xor", a, c)  # read by nobody
    first = add("or", kept, inverted)
    second = add("xor", same, inverted)
    outputs = [first, second]
    circuit = builder.finish(outputs)
    steps = [("as trained", circuit)]
    for step in LEVELS[2]:
        circuit = step(circuit)
        steps.append((step.__name__.replace("_", " "), circuit))
    steps = steps[:-1] if steps[-1][1].num_gates == steps[-2][1].num_gates else steps
    picture = Picture(680, 270, "Passes remove gates and keep every score")
    for side, (title, shown) in enumerate((("as trained", steps[0][1]), ("after the passes", steps[-1][1]))):
        left = 20 + 400 * side
        place = {node: (left, 90 + 60 * node) for node in range(3)}
        heights: dict[int, int] = {}
        level = [0] * 3 + shown.gate_levels.tolist()
        for node in range(3, shown.num_nodes):
            column = max(1, level[node])
            row = heights[column] = heights.get(column, -1) + 1
            total = sum(max(1, other) == column for other in level[3:])
            place[node] = (left + 20 + 85 * column, 150 + (row - (total - 1) / 2) * 46)
        for node in range(3, shown.num_nodes):
            x, y = place[node]
            number = int(shown.gates[node - 3])
            operands = [] if GATE_NAMES[number] in ("zero", "one") else [int(shown.a[node - 3]), int(shown.b[node - 3])]
            if GATE_NAMES[number] in ("a", "not_a"):
                operands = operands[:1]
            for operand, shift in zip(operands, (-5, 5) if len(operands) == 2 else (0,), strict=False):
                start = place[operand]
                picture.line([(start[0] + (8 if operand < 3 else 30), start[1]), (x - 30, y + shift)], "muted", 1.1)
        for node, (x, y) in place.items():
            if node < 3:
                picture.text(x, y + 4, "abc"[node], "strong")
            else:
                output = node in shown.outputs
                label = GATE_NAMES[int(shown.gates[node - 3])].replace("_", " ")
                picture.gate(x, y, label, "hard" if output else "ink", width=72)
                if output:
                    picture.line([(x + 36, y), (x + 52, y)], "hard")
        picture.text(left + 130, 22, f"{title}: {shown.num_gates} gates", "strong")
    picture.arrow((352, 150), (392, 150), "ink")
    return picture


PICTURES = (overview, gate, mixture, discretization_gap, straight_through, thermometer, group_sum, tree, passes)


def main(folder: Path) -> None:
    """Draws all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in PICTURES:
        draw().save(folder / f"{draw.__name__}.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
