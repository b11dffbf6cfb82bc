"""Makes ``nets.pt``: small state dicts in the forms of other libraries, and scores by their papers' formulas.

    python -m tests.models.peers.make

Everything is computed sample by sample and gate by gate, as written in the papers, with no code of the libraries:
Petersen et al. (NeurIPS 2022 and 2024) for the 16 gates and trees, Gerlach et al. (arXiv 2510.15655) for Walsh sums,
Bührer et al. (arXiv 2511.12340) for choices among candidates, arXiv 2602.05830 for slots of gates with wires.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FILE = Path(__file__).with_name("nets.pt")
SAMPLES, CLASSES = 60, 3
Function = Callable[[list[int]], int]


def gate16(weights: Tensor) -> Function:
    """The likeliest of the 16 gates: gate i has the outputs of AB = 00, 01, 10, 11 as its binary digits."""
    number = int(weights.argmax())
    return lambda bits: number >> (3 - (2 * bits[0] + bits[1])) & 1


def entries(weights: Tensor, first_is_highest: bool = True) -> Function:
    """A logit for each row of the table."""

    def function(bits: list[int]) -> int:
        order = bits if first_is_highest else bits[::-1]
        return int(weights[int("".join(map(str, order)), 2)] > 0)

    return function


def walsh(weights: Tensor, plus: bool) -> Function:
    """The sign of a sum of characters: of 2x - 1 with input 0 lowest, or, negated, of (-1)^x with input 0 highest."""

    def function(bits: list[int]) -> int:
        total = 0.0
        for subset, weight in enumerate(weights.tolist()):
            digits = [subset >> i & 1 for i in range(len(bits))]
            if plus:
                total += weight * math.prod(2 * bit - 1 for bit, d in zip(bits, digits, strict=True) if d)
            else:
                total -= weight * math.prod(1 - 2 * bit for bit, d in zip(bits, digits[::-1], strict=True) if d)
        return int(total > 0)

    return function


def perceptron(weights: list[float]) -> Function:
    """A bias and a weight each; a sum of 0 is a one."""
    return lambda bits: int(weights[0] + sum(w * bit for w, bit in zip(weights[1:], bits, strict=True)) >= 0)


def layer(x: list[int], wires: Tensor, functions: list[Function]) -> list[int]:
    """Gates with wires ``[gates, inputs of a gate]``."""
    return [function([x[i] for i in row]) for row, function in zip(wires.tolist(), functions, strict=True)]


def scores(x: list[int], tau: float, beta: float = 0) -> list[float]:
    size = len(x) // CLASSES
    return [(sum(x[i * size : (i + 1) * size]) + beta) / tau for i in range(CLASSES)]


def tree(image: Tensor, leaves: list[list[int]], functions: list[list[Function]], padding: int, y: int, x: int) -> int:
    """One place of a tree: leaves are (channel, row, column), functions come level by level."""
    values = []
    for channel, row, column in leaves:
        i, j = y + row - padding, x + column - padding
        inside = 0 <= i < image.shape[1] and 0 <= j < image.shape[2]
        values.append(int(image[channel, i, j]) if inside else 0)
    for level in functions:
        size = len(values) // len(level)
        values = [function(values[size * i : size * i + size]) for i, function in enumerate(level)]
    return values[0]


def convolve(image: Tensor, trees: list[Any], kernel: int, padding: int, pool: int) -> Tensor:
    """Trees at all places, then the OR of windows."""
    sides = [side + 2 * padding - kernel + 1 for side in image.shape[1:]]
    out = torch.zeros(len(trees), *sides, dtype=torch.int64)
    for k, (leaves, functions) in enumerate(trees):
        for y, x in itertools.product(*map(range, sides)):
            out[k, y, x] = tree(image, leaves, functions, padding, y, x)
    high, wide = (side // pool for side in sides)
    windows = out[:, : high * pool, : wide * pool].reshape(len(trees), high, pool, wide, pool)
    return windows.amax((2, 4))


def case(state: dict[str, Tensor], shape: dict[str, Any], x: Tensor, score: Callable[[Tensor], list[float]]) -> Any:
    found = torch.tensor(list(map(score, x)))
    x = x if x.dtype == torch.uint8 else x.bool()
    return {"state": state, "shape": {"classes": CLASSES, **shape}, "x": x, "scores": found}


def torchlogix_dense(kind: str, rank: int, learnable: bool, number: Callable[..., Tensor]) -> Any:
    bits, widths = 12, [15, 12]
    state: dict[str, Tensor] = {}
    stack: list[tuple[Tensor, list[Function]]] = []
    for index, (width, before) in enumerate(zip(widths, [bits, *widths], strict=False)):
        weight = number(width, 16 if kind == "raw" else 2**rank)
        wires = torch.randint(before, (3, rank, width) if learnable else (rank, width))
        state |= {f"{index + 1}.weight": weight, f"{index + 1}.connections.indices": wires}
        if learnable:
            choice = number(3, rank, width)
            state[f"{index + 1}.connections.weights"] = choice
            wires = wires.gather(0, choice.argmax(0, keepdim=True))[0]
        functions: dict[str, Callable[[Tensor], Function]] = {
            "raw": gate16,
            "light": entries,
            "warp": lambda row: walsh(row, plus=False),
        }
        stack.append((wires.t(), list(map(functions[kind], weight))))

    def score(x: Tensor) -> list[float]:
        values = x.tolist()
        for wires, gates in stack:
            values = layer(values, wires, gates)
        return scores(values, 2.5, 2)

    shape = {"tau": 2.5, "beta": 2.0, "parametrization": kind, "inputs": bits}
    return case(state, shape, torch.randint(2, (SAMPLES, bits)), score)


def torchlogix_conv(number: Callable[..., Tensor]) -> Any:
    """Two channels of 5 by 5 pixels, two thresholds a channel, trees of depth 2, pooling, a dense layer."""
    thresholds, trees, kernel = torch.tensor([[0.25, 0.625], [0.4, 0.7]]), 4, 3
    place = torch.stack([torch.randint(n, (2, trees, 2)) for n in (kernel, kernel, 4)], -1)  # row, column, channel
    shifts = torch.tensor([[y, x, 0] for y in range(5) for x in range(5)])
    levels = [number(2, trees, 4), number(1, trees, 4)]
    dense, wires = number(9, 4), torch.randint(trees * 4, (2, 9))
    state = {
        "0.thresholds": thresholds,
        "1.tree_weights.0": levels[0],
        "1.tree_weights.1": levels[1],
        "1.connections._indices_L0": place[:, :, None] + shifts[None, None, :, None],
        "1.connections._indices_L1": torch.tensor([[0], [1]]),
        "4.weight": dense,
        "4.connections.indices": wires,
    }
    made = []
    for k in range(trees):
        leaves = [place[side, k, gate].tolist() for gate in range(2) for side in range(2)]
        functions = [[entries(level[gate, k]) for gate in range(len(level))] for level in levels]
        made.append(([[channel, row, column] for row, column, channel in leaves], functions))

    def score(x: Tensor) -> list[float]:
        bits = torch.stack([(x[c] / 255 > t).long() for c in range(2) for t in thresholds[c]])
        flat = convolve(bits, made, kernel, 1, 2).flatten().tolist()
        return scores(layer(flat, wires.t(), list(map(entries, dense))), 2.0)

    shape = {"tau": 2.0, "in_shape": [2, 5, 5], "kernels": [3], "paddings": [1], "pools": [2]}
    pixels = torch.randint(0, 256, (20, 2, 5, 5), dtype=torch.uint8)
    return case(state, {**shape, "parametrization": "light"}, pixels, score)


def silogic_dense(node: str, arity: int, connectome: str, number: Callable[..., Tensor]) -> Any:
    bits, width = 10, 12
    state: dict[str, Tensor] = {}
    stack: list[tuple[Tensor, list[Function]]] = []
    for index, before in enumerate([bits, width]):
        here = f"layers.{index}."
        if connectome == "fixed":
            wires = torch.randint(before, (width, arity))
            state[f"{here}_conn.idx"] = wires
        else:
            chosen = number(width, arity, 4)
            candidates = torch.randint(before, (width, arity, 4))
            state |= {f"{here}_conn.cand": candidates, f"{here}_conn.conn": chosen}
            wires = candidates.gather(2, chosen.argmax(2, keepdim=True))[..., 0]
        if node == "gate16":
            weights = number(width, 16)
            state[f"{here}node.gate_logits"] = weights
            functions = list(map(gate16, weights))
        elif node == "multilinear":
            weights = number(width, 2**arity)
            state[f"{here}node.logits"] = weights
            functions = [entries(row, first_is_highest=False) for row in weights]
        elif node == "walsh":
            weights = number(width, 2**arity)
            state[f"{here}node.theta"] = weights
            functions = [walsh(row, plus=True) for row in weights]
        else:  # linear: whole numbers, of which some sums are 0
            weights = torch.randint(-2, 3, (width, arity + 1)).float()
            state[f"{here}node.theta"] = weights
            functions = list(map(perceptron, weights.tolist()))
        stack.append((wires, functions))

    def score(x: Tensor) -> list[float]:
        values = x.tolist()
        for wires, gates in stack:
            values = layer(values, wires, gates)
        return scores(values, 4.0)

    return case(state, {"tau": 4.0, "inputs": bits}, torch.randint(2, (SAMPLES, bits)), score)


def silogic_conv(number: Callable[..., Tensor]) -> Any:
    trees, chosen, candidates = 3, number(3, 4, 2), torch.randint(18, (3, 4, 2))
    levels = [number(trees, 2, 16), number(trees, 1, 16)]
    dense, wires = number(9, 16), torch.randint(12, (9, 2))
    state = {
        "blocks.0.leaf_cand": candidates,
        "blocks.0.conn": chosen,
        "blocks.0.gate_logits.0": levels[0],
        "blocks.0.gate_logits.1": levels[1],
        "head_layers.0._conn.idx": wires,
        "head_layers.0.node.gate_logits": dense,
    }
    flat = candidates.gather(2, chosen.argmax(2, keepdim=True))[..., 0]
    made = []
    for k in range(trees):
        leaves = [[i // 9, i % 9 // 3, i % 3] for i in flat[k].tolist()]
        made.append((leaves, [list(map(gate16, level[k])) for level in levels]))

    def score(x: Tensor) -> list[float]:
        values = convolve(x, made, 3, 1, 2).flatten().tolist()
        return scores(layer(values, wires, list(map(gate16, dense))), 1.0)

    return case(state, {"in_shape": [2, 4, 4]}, torch.randint(2, (20, 2, 4, 4)), score)


def silogic_lut_conv(number: Callable[..., Tensor]) -> Any:
    """Lookup tables of four inputs, one a channel."""
    trees, flat, tables = 3, torch.randint(18, (3, 4)), number(3, 16)
    dense, wires = number(9, 16), torch.randint(12, (9, 2))
    state = {
        "blocks.0.leaf_idx": flat,
        "blocks.0.tree_nodes.0.logits": tables,
        "head_layers.0._conn.idx": wires,
        "head_layers.0.node.gate_logits": dense,
    }
    made = []
    for k in range(trees):
        leaves = [[i // 9, i % 9 // 3, i % 3] for i in flat[k].tolist()]
        made.append((leaves, [[entries(tables[k], first_is_highest=False)]]))

    def score(x: Tensor) -> list[float]:
        values = convolve(x, made, 3, 1, 2).flatten().tolist()
        return scores(layer(values, wires, list(map(gate16, dense))), 1.0)

    return case(state, {"in_shape": [2, 4, 4]}, torch.randint(2, (20, 2, 4, 4)), score)


def convlogic(number: Callable[..., Tensor]) -> Any:
    trees, weights = 3, number(3, 7, 16)
    places = torch.stack([torch.randint(n, (trees, 8)) for n in (2, 3, 3)])
    dense, wires = number(9, 16), torch.randint(12, (2, 9))
    state = {
        "network.0.weights": weights,
        "network.0.selection": places[0] << 16 | places[1] << 8 | places[2],
        "network.2.weights": dense,
        "network.2.indices_0": wires[0],
        "network.2.indices_1": wires[1],
    }
    made = []
    for k in range(trees):
        functions = list(map(gate16, weights[k]))
        made.append((places[:, k].t().tolist(), [functions[:4], functions[4:6], functions[6:]]))

    def score(x: Tensor) -> list[float]:
        values = convolve(x, made, 3, 1, 2).flatten().tolist()
        return scores(layer(values, wires.t(), list(map(gate16, dense))), 6.5)

    return case(state, {"tau": 6.5, "in_shape": [2, 4, 4]}, torch.randint(2, (20, 2, 4, 4)), score)


def compactlogic(frozen: bool, number: Callable[..., Tensor]) -> Any:
    bits, widths, slots = 10, [12, 10], 6
    state: dict[str, Tensor] = {}
    stack = []
    for index, (width, before) in enumerate(zip(widths, [bits, *widths], strict=False)):
        weights, wires = number(width, slots), torch.randint(before, (2, width, slots))
        gates = torch.randint(16, (width, slots), dtype=torch.uint8)
        state |= {f"{index}.weights": weights, f"{index}.gate_sequence": gates, f"{index}.indices": wires}
        best = torch.randint(slots, (width,)) if frozen else weights.argmax(1)
        if frozen:
            state[f"{index}.w"] = best.to(torch.uint8)
        at = torch.arange(width), best
        functions = [
            lambda given, gate=gate: gate >> (3 - (2 * given[0] + given[1])) & 1 for gate in gates[at].tolist()
        ]
        stack.append((wires[:, at[0], at[1]].t(), functions))

    def score(x: Tensor) -> list[float]:
        values = x.tolist()
        for wires, gates in stack:
            values = layer(values, wires, gates)
        return scores(values + [0] * (-len(values) % CLASSES), 2.0)  # the sums fill the last group up

    return case(state, {"tau": 2.0, "inputs": bits}, torch.randint(2, (SAMPLES, bits)), score)


def compactlogic_conv(number: Callable[..., Tensor]) -> Any:
    """Gates at all places of an image with zeros around it, and a dense layer behind them."""
    side, kernels, slots = 4, 5, 6
    weights, gates = number(kernels, slots), torch.randint(16, (kernels, slots), dtype=torch.uint8)
    channels, rows, columns = (
        torch.randint(size, (2, kernels, slots)) - shift for size, shift in ((2, 0), (3, 1), (3, 1))
    )
    state = {"0.weights": weights, "0.gate_sequence": gates, "0.offsets_ch": channels.int()}
    state |= {"0.offsets_h": rows.to(torch.int8), "0.offsets_w": columns.to(torch.int8)}
    width = kernels * side * side
    wires, dense = torch.randint(width, (2, 42, slots)), number(42, slots)
    of_dense = torch.randint(16, (42, slots), dtype=torch.uint8)
    state |= {"2.weights": dense, "2.gate_sequence": of_dense, "2.indices": wires}

    def gate(number: int, a: int, b: int) -> int:
        return number >> (3 - (2 * a + b)) & 1

    def pixel(image: Tensor, channel: int, y: int, x: int) -> int:
        inside = 0 <= y < side and 0 <= x < side
        return int(image[channel, y, x]) if inside else 0

    def score(image: Tensor) -> list[float]:
        values = []
        for kernel, best in enumerate(weights.argmax(1).tolist()):
            at = kernel, best
            for y, x in itertools.product(range(side), repeat=2):
                bits = [
                    pixel(image, int(channels[i][at]), y + int(rows[i][at]), x + int(columns[i][at])) for i in (0, 1)
                ]
                values.append(gate(int(gates[at]), *bits))
        out = []
        for neuron, best in enumerate(dense.argmax(1).tolist()):
            a, b = (values[int(wires[i, neuron, best])] for i in (0, 1))
            out.append(gate(int(of_dense[neuron, best]), a, b))
        return scores(out, 2.0)

    x = torch.randint(2, (20, 2, side, side))
    return case(state, {"tau": 2.0, "in_shape": [2, side, side], "kernels": [3], "paddings": [1]}, x, score)


def cases() -> dict[str, Any]:
    """All of them, by the library's name and what is tried."""
    torch.manual_seed(7)
    number = torch.randn
    made = {}
    for kind, rank, learnable in (("raw", 2, False), ("raw", 2, True), ("light", 2, False), ("warp", 2, True)):
        made[f"torchlogix {kind}{' learnable' if learnable else ''}"] = torchlogix_dense(kind, rank, learnable, number)
    for kind, rank, learnable in (("light", 4, False), ("warp", 4, True), ("warp", 6, False)):
        made[f"torchlogix {kind} {rank} inputs"] = torchlogix_dense(kind, rank, learnable, number)
    made["torchlogix convolution"] = torchlogix_conv(number)
    for node, arity in (
        ("gate16", 2),
        ("walsh", 2),
        ("multilinear", 2),
        ("walsh", 4),
        ("multilinear", 4),
        ("linear", 3),
    ):
        for connectome in ("fixed", "topk"):
            made[f"silogic {node} {arity} {connectome}"] = silogic_dense(node, arity, connectome, number)
    made["silogic convolution"] = silogic_conv(number)
    made["convlogic"] = convlogic(number)
    made["silogic convolution of tables"] = silogic_lut_conv(number)
    made["compactlogic"] = compactlogic(False, number)
    made["compactlogic frozen"] = compactlogic(True, number)
    made["compactlogic convolution"] = compactlogic_conv(number)
    return made


if __name__ == "__main__":
    torch.save(cases(), FILE, _use_new_zipfile_serialization=False)
