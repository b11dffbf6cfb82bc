"""`LutNetlist`: a design as lookup tables, as our own cover finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgn_lightning.circuit import native
from lgn_lightning.circuit.hardware.nodes import Bit
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO


@dataclass(frozen=True)
class LutNetlist:
    """A netlist of lookup tables; nodes are its inputs and then its tables, each behind those that it reads.

    Attributes:
        num_inputs: Number of inputs.
        leaves: Nodes that each table reads, all different.
        tables: Entries of each table: bit *i* is its value where leaf *k* has bit *k* of *i*.
        outputs: A node each, or `ZERO` or `ONE`.
    """

    num_inputs: int
    leaves: tuple[tuple[int, ...], ...]
    tables: tuple[int, ...]
    outputs: tuple[Bit, ...]

    def levels(self) -> list[int]:
        """Tables on the longest path to each node; 0 of inputs."""
        levels = [0] * self.num_inputs
        for read in self.leaves:
            levels.append(1 + max([levels[leaf] for leaf in read]))
        return levels

    def stages(self, pipeline: int) -> list[int]:
        """The stage of each node, if ``pipeline`` levels stand between registers; 0 for none at all."""
        return [max(level - 1, 0) // pipeline if pipeline else 0 for level in self.levels()]


def map_netlist(net: Netlist, inputs: int) -> LutNetlist:
    """Maps a netlist to tables of up to ``inputs`` inputs, in the least depth that the cover finds.

    Raises:
        BuildError: Without a C++ compiler.
    """
    return map_nodes(net, inputs)[1]


def map_nodes(net: Netlist, inputs: int) -> tuple[list[Bit], LutNetlist]:
    """What `map_netlist` gives, and before it what each node of the netlist is there.

    `ZERO` of those that tables take in, and the number of all nodes of the result of those that nothing reads.
    """
    cover = native.cover_luts(net, inputs)
    known: list[Bit] = list(range(net.num_inputs))  # what each node of the netlist is
    leaves: list[tuple[int, ...]] = []
    tables: list[int] = []
    found: dict[tuple[int, tuple[int, ...]], int] = {}
    for size, own, entries in zip(cover.sizes.tolist(), cover.leaves.tolist(), cover.tables.tolist(), strict=True):
        table, read = _reduced(entries & ((1 << (1 << size)) - 1), [known[leaf] for leaf in own[:size]])
        if not read:
            known.append(ONE if table else ZERO)
        elif len(read) == 1 and table == 0b10:
            known.append(read[0])
        else:
            key = table, read
            if key not in found:
                found[key] = net.num_inputs + len(tables)
                leaves.append(read)
                tables.append(table)
            known.append(found[key])
    return _without_dead(net.num_inputs, leaves, tables, known, net.outputs.tolist())


def _reduced(table: int, read: list[Bit]) -> tuple[int, tuple[int, ...]]:
    """A table over the different nodes that it depends on, in ascending order."""
    nodes = sorted({bit for bit in read if bit >= 0})

    def entry(values: dict[Bit, int]) -> int:
        return table >> sum(values[bit] << k for k, bit in enumerate(read)) & 1

    def over(nodes: list[int]) -> list[int]:
        fixed = dict.fromkeys(read, 0) | {ONE: 1, ZERO: 0}
        return [entry(fixed | {bit: i >> k & 1 for k, bit in enumerate(nodes)}) for i in range(1 << len(nodes))]

    values = over(nodes)
    kept = [bit for k, bit in enumerate(nodes) if any(values[i] != values[i ^ 1 << k] for i in range(len(values)))]
    return sum(value << i for i, value in enumerate(over(kept))), tuple(kept)


def _without_dead(
    inputs: int, leaves: list[tuple[int, ...]], tables: list[int], known: list[Bit], nodes: list[int]
) -> tuple[list[Bit], LutNetlist]:
    outputs = [known[node] for node in nodes]
    live = np.zeros(inputs + len(tables), np.bool_)
    live[[bit for bit in outputs if bit >= 0]] = True
    for index in range(len(tables) - 1, -1, -1):
        if live[inputs + index]:
            live[list(leaves[index])] = True
    live[:inputs] = True
    number = (np.cumsum(live) - 1).tolist()
    kept = [index for index in range(len(tables)) if live[inputs + index]]
    mapped = LutNetlist(
        inputs,
        tuple(tuple(number[leaf] for leaf in leaves[index]) for index in kept),
        tuple(tables[index] for index in kept),
        tuple(number[bit] if bit >= 0 else bit for bit in outputs),
    )
    dead = inputs + len(kept)  # no node is
    return [bit if bit < 0 else number[bit] if live[bit] else dead for bit in known], mapped
