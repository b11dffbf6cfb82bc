"""`Design`: one netlist of gates, sums and decision, of which estimate, Verilog, pipeline and proofs are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.hardware.decision import decide
from lgn_lightning.circuit.hardware.encoder import encoder_bits, input_width
from lgn_lightning.circuit.hardware.first_sums import first_sums
from lgn_lightning.circuit.hardware.nodes import Bit, Nodes
from lgn_lightning.circuit.hardware.result_port import result_bits
from lgn_lightning.circuit.hardware.sums import total
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO

#: Parts of a design, by their numbers in `Design.parts`.
PARTS: Final = ("encoder", "gates", "sums", "decision")
ENCODER, GATES, SUMS, DECISION = range(4)


@dataclass(frozen=True)
class Design:
    """A circuit as one netlist of up to three operands a node.

    Attributes:
        netlist: Inputs and gates of the circuit under their numbers, and what is behind them. Its outputs are the bits
            of all scores, the lowest first, and then those of the decision.
        parts: What each node is part of, a number of `PARTS`, uint8 ``[nodes]``.
        cells: The cell of each node, int32 ``[nodes]``, ascending: no register stands inside of one.
        costs: Gate levels of each cell, int32 ``[cells]``.
        num_scores: Bits of all scores, the first of the outputs.
    """

    netlist: Netlist
    parts: NDArray[np.uint8]
    cells: NDArray[np.int32]
    costs: NDArray[np.int32]
    num_scores: int

    def stages(self, pipeline: int) -> NDArray[np.int32]:
        """The stage of each input and node, if at most ``pipeline`` levels stand between registers; 0 for none at all.

        A cell of more levels has a stage of its own.
        """
        net = self.netlist
        stage, depth = [0] * net.num_nodes, [0] * net.num_nodes
        if not pipeline:
            return np.array(stage, np.int32)
        ends = np.flatnonzero(np.diff(self.cells, append=-1)) + 1
        operands = np.stack(net.operands, axis=1).tolist()
        start = 0
        for cell, end in enumerate(ends.tolist()):
            first = net.num_inputs + start
            read = {node for own in operands[start:end] for node in own if node < first}
            last = max((stage[node] for node in read), default=0)
            deep = max((depth[node] for node in read if stage[node] == last), default=0) + int(self.costs[cell])
            if deep > pipeline and deep > self.costs[cell]:
                last, deep = last + 1, int(self.costs[cell])
            stage[first : net.num_inputs + end] = [last] * (end - start)
            depth[first : net.num_inputs + end] = [deep] * (end - start)
            start = end
        return np.array(stage, np.int32)


def design_of(circuit: Netlist) -> Design:
    """The design of a circuit, without the encoder of its inputs."""
    gates = circuit.num_gates
    nodes = Nodes(circuit.num_nodes, [0] * circuit.num_inputs + circuit.gate_levels.tolist())
    groups = _without_constants(circuit).reshape(circuit.num_classes, -1).tolist()
    score_bits, decision_bits = result_bits(circuit)
    scores = [total(nodes, columns, score_bits) for columns in first_sums(nodes, circuit, groups)]
    sums = len(nodes.tables)
    results = [bit for score in scores for bit in score]
    results += decide(nodes, circuit, scores, decision_bits)
    constants: list[Bit] = [bit for bit in (ZERO, ONE) if bit in results]
    for bit in constants:
        nodes.constant(bit)
    live = _live(nodes, results)
    number = np.concatenate([np.arange(circuit.num_nodes), circuit.num_nodes + np.cumsum(live) - 1]).astype(np.int32)
    places = dict(zip(constants, number[number.size - len(constants) :].tolist(), strict=True))
    outputs = [places[bit] if bit < 0 else int(number[bit]) for bit in results]
    behind = number[np.array(nodes.operands, np.int32).reshape(-1, 3)[live]]
    own = (circuit.a, circuit.b, circuit.b if circuit.c is None else circuit.c)
    a, b, c = (np.concatenate(pair) for pair in zip(own, behind.T, strict=True))
    tables = np.concatenate([tables_of_three(circuit), np.array(nodes.tables, np.uint8)[live]])
    kept, cells = np.unique(np.array(nodes.cells, np.int32)[live], return_inverse=True)
    parts = np.where(np.arange(live.size) < sums, SUMS, DECISION)[live]
    return Design(
        Netlist(circuit.num_inputs, tables, a, b, np.array(outputs, np.int32), 1, c),
        np.concatenate([np.full(gates, GATES), parts]).astype(np.uint8),
        np.concatenate([np.arange(gates), gates + cells]).astype(np.int32),
        np.concatenate([np.ones(gates), np.array(nodes.costs)[kept]]).astype(np.int32),
        score_bits * circuit.num_classes,
    )


def with_encoder(design: Design, circuit: Netlist) -> Design:
    """The design of a circuit on the bits of its pixels or columns; the same if it has none."""
    if circuit.is_plain:
        return design
    net, width = design.netlist, input_width(circuit)
    nodes = Nodes(width)
    bits = encoder_bits(nodes, circuit, net.inputs_read.tolist())
    constants: list[Bit] = [bit for bit in (ZERO, ONE) if bit in bits.values()]
    places = {bit: width + len(nodes.tables) + index for index, bit in enumerate(constants)}
    for bit in constants:
        nodes.constant(bit)
    new = len(nodes.tables)
    source = np.arange(net.num_nodes, dtype=np.int32) + width + new - net.num_inputs
    source[: net.num_inputs] = 0
    source[list(bits)] = [places.get(bit, bit) for bit in bits.values()]
    front = np.array(nodes.operands, np.int32).reshape(-1, 3).T
    a, b, c = (np.concatenate([own, source[operand]]) for own, operand in zip(front, net.operands, strict=True))
    tables = np.concatenate([np.array(nodes.tables, np.uint8), net.gates])
    return Design(
        Netlist(width, tables, a, b, source[net.outputs], 1, c),
        np.concatenate([np.full(new, ENCODER, np.uint8), design.parts]),
        np.concatenate([np.array(nodes.cells, np.int32), design.cells + len(nodes.costs)]).astype(np.int32),
        np.concatenate([np.array(nodes.costs, np.int32), design.costs]),
        design.num_scores,
    )


def _without_constants(circuit: Netlist) -> NDArray[np.int64]:
    """The outputs, constant ones among them as such."""
    known = np.arange(circuit.num_nodes)
    known[circuit.num_inputs :][circuit.gates == 0] = ZERO
    known[circuit.num_inputs :][circuit.gates == (1 << (1 << circuit.arity)) - 1] = ONE
    return known[circuit.outputs]


def tables_of_three(circuit: Netlist) -> NDArray[np.uint8]:
    """The tables of a circuit as ones of three operands, the last of which they may ignore."""
    if circuit.arity == 3:
        return circuit.gates
    bits = [(circuit.gates >> entry & 1) * np.uint8(3 << 2 * entry) for entry in range(4)]
    return np.asarray(np.bitwise_or.reduce(bits))


def _live(nodes: Nodes, results: Sequence[Bit]) -> NDArray[np.bool_]:
    """Which nodes some of the bits depend on; constants are the last."""
    first, live = nodes.num_inputs, np.zeros(len(nodes.tables), np.bool_)
    live[[bit - first for bit in results if bit >= first]] = True
    live[[index for index, table in enumerate(nodes.tables) if table in (0, 255)]] = True
    for index in range(len(live) - 1, -1, -1):
        if live[index]:
            live[[operand - first for operand in nodes.operands[index] if operand >= first]] = True
    return live
