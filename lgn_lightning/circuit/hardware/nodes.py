"""`Nodes`: collects nodes of up to three operands, in cells that no register may cut."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.netlist import Netlist, NodeIds
from lgn_lightning.circuit.net.rewire import ONE, ZERO

#: Tables of three operands, 000 first.
XOR, MAJORITY, MUX, EXCEEDS = 0x69, 0x17, 0x35, 0x4D
#: Tables of two operands.
AND2, OR2, XOR2, XNOR2 = 0b0001, 0b0111, 0b0110, 0b1001
#: What a cell of several nodes counts in gate levels; one of a single node counts 1.
CELL_LEVELS: Final = 2

#: A node, or one of the constants `ZERO` and `ONE`.
Bit = int


class Nodes:
    """Nodes by their tables; equal ones are one, and constants vanish.

    A *cell* is a few nodes that are one lookup table deep, such as a 6:3 compressor: `cell` begins one.

    Args:
        num_inputs: Nodes that are there already: 0 … num_inputs - 1.
        levels: Their levels; all 0 where there are none.

    Attributes:
        tables: Of three operands each, 000 first.
        operands: Three nodes each.
        cells: Number of the cell of each node.
        costs: Gate levels of each cell.
    """

    def __init__(self, num_inputs: int, levels: Sequence[int] = ()) -> None:
        self.num_inputs, self._input_levels = num_inputs, levels
        self.tables: list[int] = []
        self.operands: list[tuple[int, int, int]] = []
        self.cells: list[int] = []
        self.costs: list[int] = []
        self._levels: list[int] = []  # of cells
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}

    def cell(self, cost: int = CELL_LEVELS) -> None:
        """Begins a cell."""
        self.costs.append(cost)
        self._levels.append(cost)

    def level(self, bit: Bit) -> int:
        """The level at which a node is known; constants have level 0."""
        if bit >= self.num_inputs:
            return self._levels[self.cells[bit - self.num_inputs]]
        return self._input_levels[bit] if bit >= 0 and self._input_levels else 0

    def node(self, table: int, *operands: Bit) -> Bit:
        """A node of the present cell, by a table of its two or three operands; an equal one if there is any."""
        used = sorted({operand for operand in operands if operand >= 0})
        table, kept = _reduced(table, tuple(used.index(bit) if bit >= 0 else bit for bit in operands))
        read = tuple(used[place] for place in kept)
        if not read:
            return ONE if table else ZERO
        if len(read) == 1 and table == 0x0F:
            return read[0]
        key = table, read
        if key not in self._known:
            cell = len(self.costs) - 1
            self._known[key] = self.num_inputs + len(self.tables)
            self.tables.append(table)
            self.operands.append((read[0], read[1 % len(read)], read[2 % len(read)]))
            self.cells.append(cell)
            outside = [self.level(bit) for bit in read if bit < self.num_inputs or self._cell_of(bit) != cell]
            self._levels[cell] = max([self._levels[cell], *(level + self.costs[cell] for level in outside)])
        return self._known[key]

    def netlist(self, outputs: Sequence[Bit], before: Netlist | None = None) -> Netlist:
        """The nodes as a netlist of three operands, behind the gates of another one if these are what is there already.

        Constants among the outputs become nodes.
        """
        places = {bit: self._constant(bit) for bit in (ZERO, ONE) if bit in outputs}
        tables, operands = np.array(self.tables, np.uint8), [*np.array(self.operands, np.int32).reshape(-1, 3).T]
        if before is not None:
            own = before.a, before.b, before.b if before.c is None else before.c
            tables = np.concatenate([tables_of_three(before), tables])
            operands = [np.concatenate(pair) for pair in zip(own, operands, strict=True)]
        inputs, nodes = before.num_inputs if before else self.num_inputs, [places.get(bit, bit) for bit in outputs]
        a, b, c = operands
        return Netlist(inputs, tables, a, b, np.array(nodes, np.int32), 1, c)

    def _constant(self, bit: Bit) -> int:
        self.cell(0)
        self.cells.append(len(self.costs) - 1)
        self.tables.append(255 if bit == ONE else 0)
        self.operands.append((0, 0, 0))
        return self.num_inputs + len(self.tables) - 1

    def _cell_of(self, bit: Bit) -> int:
        return self.cells[bit - self.num_inputs]

    def add(self, a: Bit, b: Bit, c: Bit = ZERO) -> tuple[Bit, Bit]:
        """A full adder: sum and carry."""
        return self.node(XOR, a, b, c), self.node(MAJORITY, a, b, c)

    def mux(self, select: Bit, zero: Bit, one: Bit) -> Bit:
        return self.node(MUX, select, zero, one)

    def mux_all(self, select: Bit, zero: Sequence[Bit], one: Sequence[Bit]) -> list[Bit]:
        return [self.mux(select, a, b) for a, b in zip(zero, one, strict=True)]


def tables_of_three(circuit: Netlist) -> NDArray[np.uint8]:
    """The tables of a circuit as ones of three operands, the last of which they may ignore."""
    if circuit.arity == 3:
        return circuit.gates
    bits = [(circuit.gates >> entry & 1) * np.uint8(3 << 2 * entry) for entry in range(4)]
    return np.asarray(np.bitwise_or.reduce(bits))


def bits_of(circuit: Netlist, nodes: NodeIds) -> NDArray[np.int64]:
    """Nodes of a circuit, constant gates among them as `ZERO` and `ONE`."""
    known = np.arange(circuit.num_nodes)
    known[circuit.num_inputs :][circuit.gates == 0] = ZERO
    known[circuit.num_inputs :][circuit.gates == (1 << (1 << circuit.arity)) - 1] = ONE
    return known[nodes]


def apply_table(table: int, values: Iterable[int], ones: int) -> int:
    """A table of any operands, that of zeros first, on whole numbers, a sample a bit."""
    terms = [ones]
    for value in values:
        terms = [term & chosen for term in terms for chosen in (ones ^ value, value)]
    return sum(term for entry, term in enumerate(terms) if table >> (len(terms) - 1 - entry) & 1)


@cache
def _reduced(table: int, places: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """A table of operands that are constants or places of a list, as the table of those places that it depends on.

    The result is a table of three operands, which ignores those beyond the places.
    """
    size, many = 1 << len(places), max([place + 1 for place in places if place >= 0], default=0)

    def value(entry: int) -> int:
        index = 0
        for place in places:
            index = index << 1 | (place == ONE if place < 0 else entry >> (many - 1 - place) & 1)
        return table >> (size - 1 - index) & 1

    values = [value(entry) for entry in range(1 << many)]
    kept = [k for k in range(many) if any(values[e] != values[e ^ 1 << (many - 1 - k)] for e in range(1 << many))]
    if not kept:
        return values[0], ()
    result = 0
    for entry in range(8):
        bits = {k: entry >> (2 - position) & 1 for position, k in enumerate(kept)}
        full = sum(bits.get(k, 0) << (many - 1 - k) for k in range(many))
        result = result << 1 | values[full]
    return result, tuple(kept)
