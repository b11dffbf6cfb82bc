"""Majorities as gates: full adders count the votes, and a comparison with half of them decides."""

import numpy as np

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.gates import GATE_NAMES

_AND, _OR, _XOR = (GATE_NAMES.index(name) for name in ("and", "or", "xor"))


def add_majorities(builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
    """Adds gates that say whether more than half of the votes are one: nodes ``[n, votes]`` to int32 ``[n]``."""

    def gates(kind: int, a: NodeIds, b: NodeIds) -> NodeIds:
        return builder.gates(np.full(len(a), kind), a, b)

    count = wires.shape[1]
    columns: list[list[NodeIds]] = [[column.astype(np.int32) for column in wires.T]]
    for place, column in enumerate(columns):  # of a weight of 2^place; grows while it is walked
        while len(column) > 1:
            a, b = column.pop(0), column.pop(0)
            both, total = gates(_AND, a, b), gates(_XOR, a, b)
            if column:
                c = column.pop(0)
                both, total = gates(_OR, both, gates(_AND, total, c)), gates(_XOR, total, c)
            column.append(total)
            if place + 1 == len(columns):
                columns.append([])
            columns[place + 1].append(both)
    above = np.full(len(wires), builder.constant(False), np.int32)
    for place, (bit,) in enumerate(columns):
        above = gates(_AND if count // 2 >> place & 1 else _OR, bit, above)
    return above
