"""`Design`: one netlist of gates, sums and decision, of which estimate, Verilog, pipeline and proofs are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.hardware.decision import decide
from lgn_lightning.circuit.hardware.encoder import encoder_bits, input_width
from lgn_lightning.circuit.hardware.first_sums import first_sums
from lgn_lightning.circuit.hardware.nodes import Nodes, bits_of
from lgn_lightning.circuit.hardware.result_port import result_bits
from lgn_lightning.circuit.hardware.sums import total
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import behind

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
    groups = bits_of(circuit, circuit.outputs).reshape(circuit.num_classes, -1).tolist()
    score_bits, decision_bits = result_bits(circuit)
    scores = [total(nodes, columns, score_bits) for columns in first_sums(nodes, circuit, groups)]
    sums = len(nodes.tables)
    results = [bit for score in scores for bit in score]
    results += decide(nodes, circuit, scores, decision_bits)
    whole = nodes.netlist(results, circuit)
    live = _live(whole, circuit.num_nodes)
    number, keep = (np.cumsum(live) - 1).astype(np.int32), live[circuit.num_inputs :]
    operands = [number[operand[keep]] for operand in whole.operands]
    live = keep[gates:]
    kept, cells = np.unique(np.array(nodes.cells, np.int32)[live], return_inverse=True)
    parts = np.where(np.arange(live.size) < sums, SUMS, DECISION)[live]
    return Design(
        whole.with_gates(whole.gates[keep], operands, number[whole.outputs]),
        np.concatenate([np.full(gates, GATES), parts]).astype(np.uint8),
        np.concatenate([np.arange(gates), gates + cells]).astype(np.int32),
        np.concatenate([np.ones(gates), np.array(nodes.costs)[kept]]).astype(np.int32),
        score_bits * circuit.num_classes,
    )


def with_encoder(design: Design, circuit: Netlist) -> Design:
    """The design of a circuit on the bits of its pixels or columns; the same if it has none."""
    if circuit.is_plain:
        return design
    net, nodes = design.netlist, Nodes(input_width(circuit))
    bits = encoder_bits(nodes, circuit, net.inputs_read.tolist())
    front = nodes.netlist([bits.get(node, 0) for node in range(net.num_inputs)])  # any input where none is read
    return Design(
        behind(front, net),
        np.concatenate([np.full(front.num_gates, ENCODER, np.uint8), design.parts]),
        np.concatenate([np.array(nodes.cells, np.int32), design.cells + len(nodes.costs)]).astype(np.int32),
        np.concatenate([np.array(nodes.costs, np.int32), design.costs]),
        design.num_scores,
    )


def _live(net: Netlist, first: int) -> NDArray[np.bool_]:
    """Whether a node is before ``first``, or outputs depend on it."""
    live = np.arange(net.num_nodes) < first
    live[net.outputs] = True
    operands = np.stack(net.operands, axis=1)
    for node in range(net.num_nodes - 1, first - 1, -1):
        if live[node]:
            live[operands[node - net.num_inputs]] = True
    return live
