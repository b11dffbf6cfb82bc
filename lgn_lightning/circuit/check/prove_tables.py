"""A proof that a file of lookup tables computes a netlist, table by table: solvers take minutes for large sums."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from lgn_lightning.circuit import native
from lgn_lightning.circuit.hardware.nodes import Bit, apply_table
from lgn_lightning.circuit.hardware.tables import LutNetlist, map_nodes
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO
from lgn_lightning.circuit.passes.flat import dependence

#: Values of six leaves over the 64 entries of a table.
_LEAVES: Final = tuple(sum(1 << entry for entry in range(64) if entry >> k & 1) for k in range(6))
_ALL: Final = (1 << 64) - 1


def inputs_of_tables(verilog: str) -> int | None:
    """Most inputs of a table in a file of lookup tables; None of other files."""
    found = re.search(r"^// Module \w+: \d+ lookup tables of (\d) inputs", verilog, re.MULTILINE)
    return int(found[1]) if found else None


def prove_tables(net: Netlist, blif: str, inputs: int) -> bool:
    """Whether tables in BLIF, as yosys reads them from `emit_verilog`, are those of a netlist, and compute it.

    Each table of the cover is compared with the gates between its node and the nodes that it reads: if these have their
    values, so has it. False says only that the tables are other ones, or in another order.

    Args:
        net: The netlist.
        blif: Inputs are ``x[i]``, tables ``t<i>`` in the order of `map_netlist`, outputs ``y<i>``.
        inputs: Most inputs of a table.
    """
    known, mapped = map_nodes(net, inputs)
    return _computes(net, mapped, known, inputs) and _holds(blif, mapped)


def _computes(net: Netlist, mapped: LutNetlist, known: Sequence[Bit], inputs: int) -> bool:
    """Whether every node that a table stands for is what the table computes."""
    cover = native.cover_luts(net, inputs)
    used = dependence(net.arity)[net.gates]
    operands = [
        tuple(operand if own else -1 for operand, own in zip(read, depends, strict=True))
        for read, depends in zip(np.stack(net.operands, axis=1).tolist(), used.tolist(), strict=True)
    ]
    gates, dead = net.gates.tolist(), mapped.num_inputs + len(mapped.tables)
    for gate, (size, own) in enumerate(zip(cover.sizes.tolist(), cover.leaves.tolist(), strict=True)):
        bit = known[net.num_inputs + gate]
        if not size or bit == dead:
            continue  # a constant, read by nothing, or in the tables that read it: they reach it below
        leaves = own[:size]
        values = {-1: 0} | dict(zip(leaves, _LEAVES, strict=False))
        value = _value(net.num_inputs + gate, net.num_inputs, operands, gates, values)
        seen: dict[Bit, int] = {ZERO: 0, ONE: _ALL}
        care = _ALL  # entries in which nodes that are one have one value
        for leaf in leaves:
            if known[leaf] == dead:
                continue
            care &= ~(seen.setdefault(known[leaf], values[leaf]) ^ values[leaf])
        if value is None:
            return False
        if bit not in seen:
            index = bit - net.num_inputs
            if index < 0 or not set(mapped.leaves[index]) <= seen.keys():
                return False
            # The first leaf is the lowest bit of an entry, and the entry of ones comes first.
            words = [_ALL ^ seen[leaf] for leaf in reversed(mapped.leaves[index])]
            seen[bit] = apply_table(mapped.tables[index], words, _ALL)
        if (seen[bit] ^ value) & care:
            return False
    return all(known[node] == bit for node, bit in zip(net.outputs.tolist(), mapped.outputs, strict=True))


def _value(
    node: int, first: int, operands: list[tuple[int, ...]], gates: list[int], values: dict[int, int]
) -> int | None:
    """What a node is over the entries, by the gates between it and nodes that have values; None if more is read."""
    stack = [node]
    while stack:
        gate = stack[-1] - first
        if gate < 0:
            return None
        read = [operand for operand in operands[gate] if operand not in values]
        if read:
            stack += read
            continue
        values[stack.pop()] = apply_table(gates[gate], [values[operand] for operand in operands[gate]], _ALL)
    return values[node]


def _holds(blif: str, mapped: LutNetlist) -> bool:
    """Whether BLIF has these tables, reading these nodes, and these outputs."""
    tables: dict[str, tuple[list[str], list[str]]] = {}
    for found in re.finditer(r"^\.names ([^\n]+)\n((?:[01-]*[ ]?[01]\n)*)", blif.replace("\\\n", " "), re.MULTILINE):
        *read, name = found[1].split()
        tables[name] = read, found[2].split("\n")[:-1]

    def source(name: str) -> str:
        while name in tables and len(tables[name][0]) == 1 and tables[name][1] == ["1 1"]:
            name = tables[name][0][0]
        return name

    names = [f"x[{i}]" for i in range(mapped.num_inputs)] + [f"t{i}" for i in range(len(mapped.tables))]
    for index, bit in enumerate(mapped.outputs):
        if bit >= mapped.num_inputs and names[bit] not in tables:  # yosys calls a table that is an output by that
            names[bit] = f"y{index}"
    names = [source(name) for name in names]
    for index, (leaves, table) in enumerate(zip(mapped.leaves, mapped.tables, strict=True)):
        read, cubes = tables.get(names[mapped.num_inputs + index], ([], []))
        place = {names[leaf]: k for k, leaf in enumerate(leaves)}
        sources = [source(name) for name in read]
        if not set(sources) <= place.keys() | {"$false", "$true"} or any(not cube.endswith(" 1") for cube in cubes):
            return False
        entries = 0
        for entry in range(1 << len(leaves)):
            bits = "".join(str(entry >> place[name] & 1 if name in place else int(name == "$true")) for name in sources)
            on = any(all(c in ("-", b) for c, b in zip(cube[:-2], bits, strict=True)) for cube in cubes)
            entries |= on << entry
        if entries != table:
            return False
    constants = {ZERO: "$false", ONE: "$true"}
    return all(
        source(f"y{index}") == (names[bit] if bit >= 0 else constants[bit]) for index, bit in enumerate(mapped.outputs)
    )
