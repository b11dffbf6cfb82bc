"""Circuits of few inputs, built anew from their truth tables: what gates were trained to compute, in fewer of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import AnyFlat, NodeIds
from lgn_lightning.circuit.passes.flat import remove_dead_gates, simplify
from lgn_lightning.circuit.simulate import pack_bits, simulate, unpack_bits

#: Inputs, and outputs, of the circuits that are tabulated: their tables have up to 1,024 entries.
MOST_INPUTS: Final = 10
MOST_OUTPUTS: Final = 64
#: Larger circuits have more inputs than that.
_MOST_GATES: Final = 100_000


def tabulate(circuit: AnyFlat) -> AnyFlat:
    """Returns the smaller of a circuit and of the one that its truth tables give; wider ones stay as they are.

    The tables become a binary decision diagram with complemented edges (Brace, Rudell, Bryant, 1990), shared by all
    outputs, in an order of the inputs that is improved by exchanging neighbours, then gates.
    """
    if circuit.num_gates > _MOST_GATES:
        return circuit
    inputs = circuit.inputs_read
    if circuit.arity != 2 or not 0 < inputs.size <= MOST_INPUTS or np.unique(circuit.outputs).size > MOST_OUTPUTS:
        return circuit
    tables = _tables(circuit, inputs)
    best = _improved(tables, list(range(inputs.size)))
    builder = NetlistBuilder()
    nodes = builder.inputs(circuit.num_inputs)
    outputs = _Diagram(tables, best).gates(builder, nodes[inputs])
    gates, a, b = builder.joined()
    made = remove_dead_gates(simplify(circuit.with_gates(gates, (a, b), outputs)))
    return made if made.num_gates < circuit.num_gates else circuit


def _tables(circuit: AnyFlat, inputs: NodeIds) -> NDArray[np.bool_]:
    """Outputs for all values of these inputs, the first one the most significant: bool ``[2^n, outputs]``."""
    count = 1 << inputs.size
    bits = np.zeros((count, circuit.num_inputs), np.bool_)
    bits[:, inputs] = np.arange(count)[:, None] >> np.arange(inputs.size)[::-1] & 1
    return unpack_bits(simulate(circuit, pack_bits(bits)), count)


def _improved(tables: NDArray[np.bool_], order: list[int]) -> list[int]:
    """An order of the inputs whose diagram costs few gates: places are moved as long as one of them helps."""
    best = _Diagram(tables, order).cost
    improves = True
    while improves:
        improves = False
        for place in range(len(order)):
            for to in range(len(order)):
                other = order.copy()
                other.insert(to, other.pop(place))
                cost = _Diagram(tables, other).cost
                if cost < best:
                    order, best, improves = other, cost, True
    return order


class _Diagram:
    """A decision diagram; a function is its table as a whole number, in the order of the inputs."""

    def __init__(self, tables: NDArray[np.bool_], order: list[int]) -> None:
        self.order, self.count = order, len(order)
        shaped = tables.reshape(*[2] * self.count, -1).transpose(*order, self.count)
        packed = np.packbits(shaped.reshape(-1, tables.shape[1]), axis=0, bitorder="little")
        self.roots = [int.from_bytes(column.tobytes(), "little") for column in packed.T]
        # By level: functions that split there, each with its halves (input 0, input 1).
        self.splits: list[dict[int, tuple[int, int]]] = [{} for _ in order]
        for root in self.roots:
            self._split(self._canonical(root, 0), 0)
        self.cost = sum(
            self._gates_of(level, *halves) for level, part in enumerate(self.splits) for halves in part.values()
        )

    def _ones(self, level: int) -> int:
        return (1 << (1 << (self.count - level))) - 1

    def _canonical(self, table: int, level: int) -> int:
        """The function or its complement: the one that is 0 where all inputs are."""
        return table ^ self._ones(level) if table & 1 else table

    def _split(self, table: int, level: int) -> None:
        """Splits a canonical function that is no constant."""
        while table and level < self.count:
            half = 1 << (self.count - level - 1)
            low, high = table & ((1 << half) - 1), table >> half
            if low == high:  # does not depend on this input
                table, level = low, level + 1
                continue
            if table in self.splits[level]:
                return
            self.splits[level][table] = low, high
            self._split(self._canonical(low, level + 1), level + 1)
            table, level = self._canonical(high, level + 1), level + 1

    def _gates_of(self, level: int, low: int, high: int) -> int:
        ones = self._ones(level + 1)
        if {low, high} & {0, ones} or low == high ^ ones:
            return 0 if {low, high} <= {0, ones} else 1
        return 2 if low & ~high == 0 or high & ~low == 0 else 3

    def gates(self, builder: NetlistBuilder, inputs: NodeIds) -> NodeIds:
        """Adds the gates; returns the nodes of the outputs."""
        made: dict[tuple[int, int], int] = {}

        def gate(kind: int, a: int, b: int) -> int:
            return int(builder.gates([kind], [a], [b])[0])

        def node(table: int, level: int) -> int:
            if table in (0, self._ones(level)):
                return builder.constant(bool(table))
            half = 1 << (self.count - level - 1)
            low, high = table & ((1 << half) - 1), table >> half
            if low == high:
                return node(low, level + 1)
            plain = self._canonical(table, level)
            if plain != table:
                return gate(12, node(plain, level), int(inputs[0]))
            if (level, table) not in made:
                made[level, table] = self._multiplexer(node, gate, int(inputs[self.order[level]]), low, high, level + 1)
            return made[level, table]

        return np.array([node(root, 0) for root in self.roots], np.int32)

    def _multiplexer(self, node, gate, x: int, low: int, high: int, level: int) -> int:  # type: ignore[no-untyped-def]
        ones = self._ones(level)
        if low == 0:
            return x if high == ones else int(gate(1, x, node(high, level)))  # and
        if high == 0:
            return int(gate(4, x, node(low, level)))  # not x and low
        if low == high ^ ones:
            return int(gate(6, x, node(low, level)))  # xor
        if high == ones:
            return int(gate(7, x, node(low, level)))  # or
        if low & ~high == 0:  # low implies high
            return int(gate(7, node(low, level), gate(1, x, node(high, level))))
        if high & ~low == 0:
            return int(gate(1, node(low, level), gate(13, x, node(high, level))))  # low and (not x or high)
        return int(gate(7, gate(1, x, node(high, level)), gate(4, x, node(low, level))))
