"""Proofs of what stands around the gates of a design: thresholds, sums and decision compute what the circuit says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import numpy as np

from lgn_lightning.circuit.check.prove import Proof, prove
from lgn_lightning.circuit.check.tools import ToolError
from lgn_lightning.circuit.hardware.decision import exceeds
from lgn_lightning.circuit.hardware.design import DECISION, Design, design_of
from lgn_lightning.circuit.hardware.encoder import encoder_bits
from lgn_lightning.circuit.hardware.nodes import AND2, OR2, XOR2, Bit, Nodes, apply_table
from lgn_lightning.circuit.hardware.result_port import result_bits, result_of
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO, behind

#: Inputs that a cell has at most, as all their values are tried.
_CELL_INPUTS: Final = 12


def prove_thresholds(circuit: Netlist) -> Proof:
    """Proves each threshold of a pixel that is read, by all 256 values; a CircuitError if the inputs are no pixels."""
    if circuit.levels is None or circuit.num_pixels is None:
        raise CircuitError("the inputs are no pixels")
    own = circuit.inputs_read.tolist()
    ones = (1 << 256) - 1
    byte = [sum(1 << value for value in range(256) if value >> place & 1) for place in range(8)]
    for bit in own:
        # One at a time, and all other pixels unknown: a bit that reads one has no value.
        pixel, level = bit % circuit.num_pixels, int(circuit.levels[bit // circuit.num_pixels])
        nodes = Nodes(8 * circuit.num_pixels)
        place = encoder_bits(nodes, circuit, [bit])[bit]
        values = _evaluate(nodes, {8 * pixel + k: word for k, word in enumerate(byte)}, ones)
        if values.get(place) != sum(1 << value for value in range(level + 1, 256)):
            return Proof(False, "all values", f"input bit {bit} is not whether pixel {pixel} is above {level}")
    return Proof(True, "all values", f"{len(own):,} thresholds, 256 values each")


def prove_sums(circuit: Netlist) -> Proof:
    """Proves that the scores of a design count the ones of each group, by rewriting them cell by cell.

    A score is a sum of its bits, each with its weight. From the last cell to the first, the outputs of a cell in such a
    sum are replaced by its inputs with other weights, where that is right for all values of the inputs; in the end each
    output of the circuit must be there as often as it is in the group. (Backward rewriting, as of multipliers.)

    Raises:
        ToolError: If a cell does not add, which this proof does not understand.
    """
    design = design_of(circuit)
    net, first = design.netlist, design.netlist.num_inputs
    tables, operands = net.gates.tolist(), np.stack(net.operands, axis=1).tolist()
    start, width = circuit.num_nodes, result_bits(circuit)[0]
    cells = design.cells.tolist()
    groups = circuit.outputs.reshape(circuit.num_classes, -1).tolist()
    scores = net.outputs[: design.num_scores].reshape(circuit.num_classes, width).tolist()
    for number, (score, group) in enumerate(zip(scores, groups, strict=True)):
        weights: Counter[int] = Counter()
        for place, node in enumerate(score):
            weights[node] += 1 << place
        node = net.num_nodes - 1
        constant = 0
        while node >= start:
            cell = cells[node - first]
            members = []
            while node >= start and cells[node - first] == cell:
                members.append(node)
                node -= 1
            inside = {member for member in members if weights[member]}
            if inside:
                constant += _rewrite(members[::-1], inside, weights, first, tables, operands, width)
        # What is left are outputs of the circuit and constants among its gates.
        wanted = Counter(group)
        for gate in {*weights, *wanted}:
            if gate >= first and tables[gate - first] in (0, 255):
                constant += (weights.pop(gate, 0) - wanted.pop(gate, 0)) * (tables[gate - first] == 255)
        different = [gate for gate in {*weights, *wanted} if (weights[gate] - wanted[gate]) % (1 << width)]
        if different or constant % (1 << width):
            what = f"output {different[0]} counts {weights[different[0]]} times" if different else "a constant is added"
            return Proof(False, "rewriting", f"score {number}: {what}")
    return Proof(True, "rewriting", f"{circuit.num_classes} scores of {len(groups[0]):,} bits")


def _rewrite(
    members: list[int],
    inside: set[int],
    weights: Counter[int],
    first: int,
    tables: list[int],
    operands: list[list[int]],
    width: int,
) -> int:
    """Replaces the nodes of a cell in a sum by what they read, and returns the constant that this adds."""
    reads = sorted({node for member in members for node in operands[member - first]} - set(members))
    if len(reads) > _CELL_INPUTS:
        raise ToolError(f"a cell of the sums has {len(reads)} inputs")
    ones = (1 << (1 << len(reads))) - 1
    values = {
        node: sum(1 << entry for entry in range(1 << len(reads)) if entry >> k & 1) for k, node in enumerate(reads)
    }
    for member in members:
        values[member] = apply_table(tables[member - first], [values[node] for node in operands[member - first]], ones)
    total = [sum(weights[node] for node in inside if values[node] >> entry & 1) for entry in range(1 << len(reads))]
    gained = [total[1 << k] - total[0] for k in range(len(reads))]
    for entry, value in enumerate(total):
        sum_of_inputs = total[0] + sum(gained[k] for k in range(len(reads)) if entry >> k & 1)
        if (value - sum_of_inputs) % (1 << width):
            raise ToolError("a cell of the sums does not add up its inputs")
    for node in inside:
        del weights[node]
    for node, weight in zip(reads, gained, strict=True):
        weights[node] += weight
    return total[0]


def prove_decision(circuit: Netlist, timeout: float) -> Proof:
    """Proves that a design decides on its scores as the circuit does.

    Where each result depends on one score, all of its values are tried. That the number of a class is the first of the
    highest scores is proven by ABC, beside a plain form of it. Both take the bits of scores for any bits. A design
    knows more of them: some are constant, equal or opposite, in small sums above all. So what is wrong then is looked
    at once more with the gates and sums before it, where a counterexample is one of the circuit's inputs.

    Raises:
        ToolError: If ABC is missing or has no answer, or the decision reads something else than scores.
    """
    design = design_of(circuit)
    width = result_bits(circuit)[0]
    alone = _decision_alone(design)
    if circuit.decoding.kind == "argmax":
        plain = _plain_argmax(circuit.num_classes, width)
        return prove(alone, plain, timeout) or prove(*_behind_sums(design, plain), timeout)
    group, bits = circuit.outputs.size // circuit.num_classes, alone.outputs.size
    for c in range(circuit.num_classes):
        scores = np.zeros((group + 1, circuit.num_classes), np.int64)
        scores[:, c] = np.arange(group + 1)
        ones = (1 << (group + 1)) - 1
        values = {
            k * width + place: sum(1 << row for row in range(group + 1) if int(scores[row, k]) >> place & 1)
            for k in range(circuit.num_classes)
            for place in range(width)
        }
        for node, (table, *read) in enumerate(
            zip(alone.gates.tolist(), *(operand.tolist() for operand in alone.operands), strict=True)
        ):
            values[alone.num_inputs + node] = apply_table(table, [values[own] for own in read], ones)
        wanted = result_of(circuit, scores)
        for place, node in enumerate(alone.outputs.tolist()):
            if values[node] != sum((value >> place & 1) << row for row, value in enumerate(wanted)):
                return prove(*_behind_sums(design, _plain_values(circuit, width, bits)), timeout)
    return Proof(True, "all values", f"{circuit.num_classes * (group + 1):,} scores")


def _decision_alone(design: Design) -> Netlist:
    """The decision with the bits of the scores as its inputs."""
    net, first = design.netlist, design.netlist.num_inputs
    bits = net.outputs[: design.num_scores].tolist()
    results = net.outputs[design.num_scores :].tolist()
    inside = np.flatnonzero(design.parts == DECISION)
    number = {node: place for place, node in reversed(list(enumerate(bits)))}
    tables: list[int] = []
    operands: list[list[int]] = []
    constants = {first + int(gate): int(net.gates[gate]) for gate in np.flatnonzero(np.isin(net.gates, (0, 255)))}

    def take(node: int) -> None:
        if node in number:
            return
        if node not in constants:
            raise ToolError("the decision reads more than the scores")
        number[node] = len(bits) + len(tables)
        tables.append(constants[node])
        operands.append([0, 0, 0])

    own = [operand.tolist() for operand in net.operands]
    for gate in inside.tolist():
        node = first + gate
        if node in constants or node in number:
            continue
        read = [operand[gate] for operand in own]
        for operand in read:
            take(operand)
        number[node] = len(bits) + len(tables)
        tables.append(int(net.gates[gate]))
        operands.append([number[operand] for operand in read])
    for node in results:
        take(node)
    a, b, c = np.array(operands, np.int32).reshape(-1, 3).T
    outputs = np.array([number[node] for node in results], np.int32)
    return Netlist(len(bits), np.array(tables, np.uint8), a, b, outputs, 1, c)


def _behind_sums(design: Design, plain: Netlist) -> tuple[Netlist, Netlist]:
    """A design, and the same with another decision on its scores: circuits of the inputs, whose outputs are results."""
    net = design.netlist
    scores, results = net.outputs[: design.num_scores], net.outputs[design.num_scores :]
    return replace(net, outputs=results), behind(replace(net, outputs=scores), plain)


def _plain_values(circuit: Netlist, width: int, bits: int) -> Netlist:
    """Results that depend on one score each, as a choice among those of all of its values."""
    classes, group = circuit.num_classes, circuit.outputs.size // circuit.num_classes
    nodes, outputs = Nodes(classes * width), [0] * bits
    for c in range(classes):
        scores = np.zeros((1 << width, classes), np.int64)
        scores[:, c] = np.minimum(np.arange(1 << width), group)  # more cannot be
        wanted = result_of(circuit, scores)
        for place in _places(circuit, c, bits):
            level: list[Bit] = [ONE if value >> place & 1 else ZERO for value in wanted]
            for k in range(width):
                nodes.cell()
                level = [nodes.mux(c * width + k, *pair) for pair in zip(level[::2], level[1::2], strict=True)]
            outputs[place] = level[0]
    return nodes.netlist(outputs)


def _places(circuit: Netlist, group: int, bits: int) -> range:
    """Bits of the result that depend on a score."""
    own = 1 if circuit.decoding.kind == "labels" else bits // circuit.num_classes
    return range(group * own, (group + 1) * own)


def _plain_argmax(classes: int, width: int) -> Netlist:
    """The number of the first of the highest scores, as its definition says: above all before, not below one after."""
    nodes = Nodes(classes * width)
    scores = [list(range(c * width, (c + 1) * width)) for c in range(classes)]
    numbers: list[list[Bit]] = [[] for _ in range(max(1, (classes - 1).bit_length()))]
    for c in range(classes):
        wins: Bit = ONE
        for other in range(classes):
            if other != c:
                nodes.cell()
                high, low = (c, other) if other < c else (other, c)
                above = exceeds(nodes, scores[high], scores[low])
                wins = nodes.node(AND2, wins, above if other < c else nodes.node(XOR2, above, ONE))
        for place, bits in enumerate(numbers):
            if c >> place & 1:
                bits.append(wins)
    outputs = []
    for bits in numbers:
        result: Bit = ZERO
        for bit in bits:
            nodes.cell()
            result = nodes.node(OR2, result, bit)
        outputs.append(result)
    return nodes.netlist(outputs)


def _evaluate(nodes: Nodes, values: dict[int, int], ones: int) -> dict[int, int]:
    """Values of all nodes whose operands have some, a sample a bit; constants too."""
    values = dict(values) | {ZERO: 0, ONE: ones}
    for index, (table, read) in enumerate(zip(nodes.tables, nodes.operands, strict=True)):
        if all(node in values for node in read):
            values[nodes.num_inputs + index] = apply_table(table, [values[node] for node in read], ones)
    return values
