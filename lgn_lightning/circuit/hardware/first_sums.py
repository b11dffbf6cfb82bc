"""The first additions: three gates whose operands are there anyway become sum and carry in two tables, not in five."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from lgn_lightning.circuit.hardware.nodes import Bit, Nodes
from lgn_lightning.circuit.net.netlist import Netlist

#: Gates that read a gate from which on it has a table of its own: below, its reader rather takes it in.
_READERS: Final = 2
#: Gates that are added one after the other, and nodes that these may read, before the next begin.
_TOGETHER: Final = 7
_LEAVES: Final = 6


def first_sums(nodes: Nodes, circuit: Netlist, groups: Sequence[Sequence[Bit]]) -> list[list[list[Bit]]]:
    """The bits of each group by weight, after full adders over gates that six-input tables take in.

    A compressor removes a bit for each of its tables, an adder one for two; but where it takes in three gates, they
    need no tables, and two operands of each are six inputs: fewer where gates share operands, so that tables may take
    in more.
    """
    readers = np.bincount(np.concatenate(circuit.operands), minlength=circuit.num_nodes)
    free = (np.arange(circuit.num_nodes) < circuit.num_inputs) | (readers >= _READERS)
    there = np.all([free[operand] for operand in circuit.operands], axis=0) & (readers[circuit.num_inputs :] == 0)
    taken_in = there.tolist() if circuit.arity == 2 else [False] * circuit.num_gates
    pairs = list(zip(circuit.a.tolist(), circuit.b.tolist(), strict=True))
    first, result = circuit.num_inputs, []
    for group in groups:
        times = Counter(group)
        gates = _in_order({bit: pairs[bit - first] for bit in times if bit >= first and taken_in[bit - first]})
        gates = gates[: len(gates) // 3 * 3]
        times.subtract(gates)
        left, carries = list(times.elements()), []
        for start in range(0, len(gates), 3):
            nodes.cell()
            low, carry = nodes.add(*gates[start : start + 3])
            left.append(low)
            carries.append(carry)
        result.append([left, carries])
    return result


def _in_order(gates: dict[int, tuple[int, int]]) -> list[int]:
    """Gates in an order in which neighbours share operands: after each the one that adds the fewest to a few."""
    reading = defaultdict(list)
    for gate, pair in gates.items():
        for node in set(pair):
            reading[node].append(gate)
    left, result = dict.fromkeys(gates), []
    while left:
        best: int | None = next(iter(left))
        together, leaves = 0, set[int]()
        while best is not None and together < _TOGETHER and len(leaves.union(gates[best])) <= _LEAVES:
            del left[best]
            result.append(best)
            leaves.update(gates[best])
            together += 1
            near = {other for node in leaves for other in reading[node] if other in left}
            best = min(near, key=lambda other: (len(leaves.union(gates[other])), other), default=None)
    return result
