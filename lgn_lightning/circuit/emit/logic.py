"""AIGER and BLIF: the formats of logic synthesis tools such as Berkeley ABC and yosys."""

from collections.abc import Callable

import numpy as np

from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.passes.flat import dependence
from lgn_lightning.gates import TRUTH_TABLES


def emit_blif(circuit: Netlist, model: str = "net") -> str:
    """Writes the output bits of a circuit of two- or three-input gates as BLIF (Berkeley Logic Interchange Format).

    Inputs are ``x[0] …``, gates ``n0 …``, outputs ``y0 …`` in the circuit's order (as yosys reads them from our
    Verilog); the group sums are not part of it.
    """
    inputs = circuit.num_inputs

    def name(node: int) -> str:
        return f"x[{node}]" if node < inputs else f"n{node - inputs}"

    lines = [f".model {model}"]
    lines.append(".inputs \\\n" + _wrapped([f"x[{i}]" for i in range(inputs)]))
    lines.append(".outputs \\\n" + _wrapped([f"y{i}" for i in range(circuit.outputs.size)]))
    covers = {table: _cover(table, circuit.arity) for table in set(circuit.gates.tolist())}
    operands = [operand.tolist() for operand in circuit.operands]
    for gate, table in enumerate(circuit.gates.tolist()):
        used, cubes = covers[table]
        lines.append(" ".join([".names", *(name(operands[index][gate]) for index in used), f"n{gate}"]))
        lines += cubes
    for index, node in enumerate(circuit.outputs.tolist()):
        lines += [f".names {name(node)} y{index}", "1 1"]
    return "\n".join([*lines, ".end", ""])


def _wrapped(names: list[str], per_line: int = 20) -> str:
    rows = [" ".join(names[start : start + per_line]) for start in range(0, len(names), per_line)]
    return " \\\n".join(rows)


def _cover(table: int, arity: int) -> tuple[list[int], list[str]]:
    """Operands that a table depends on, and its on-set as BLIF cubes over them."""
    size = 1 << arity
    weights = [1 << (arity - 1 - operand) for operand in range(arity)]
    used = np.flatnonzero(dependence(arity)[table]).tolist()
    cubes = set()
    for index in range(size):
        if table >> (size - 1 - index) & 1:
            cube = "".join("1" if index & weights[operand] else "0" for operand in used)
            cubes.add(f"{cube} 1".strip())
    return used, sorted(cubes)


def emit_aiger(circuit: Netlist) -> bytes:
    """Writes the output bits of a circuit in the binary AIGER format, version 1.9.

    The group sums are not part of it; the symbol table names inputs ``x[0] …`` and outputs ``y0 …``. A circuit that was
    mapped to three-input gates is a CircuitError.
    """
    if circuit.arity != 2:
        raise CircuitError("AIGER is written from two-input gates; take the circuit as it was before map_to_luts")
    inputs = circuit.num_inputs
    literals = [2 * (node + 1) for node in range(inputs)]
    ands = bytearray()
    count = 0

    def conjunction(x: int, y: int) -> int:
        nonlocal count
        if x < y:
            x, y = y, x
        if y == 0 or x == y ^ 1:
            return 0
        if y == 1 or x == y:
            return x
        count += 1
        result = 2 * (inputs + count)
        _write_number(ands, result - x)
        _write_number(ands, x - y)
        return result

    for table, a, b in zip(circuit.gates.tolist(), circuit.a.tolist(), circuit.b.tolist(), strict=True):
        literals.append(_gate_literal(table, literals[a], literals[b], conjunction))
    outputs = [literals[node] for node in circuit.outputs.tolist()]
    header = f"aig {inputs + count} {inputs} 0 {len(outputs)} {count}\n"
    text = header + "".join(f"{literal}\n" for literal in outputs)
    symbols = "".join(f"i{i} x[{i}]\n" for i in range(inputs)) + "".join(f"o{i} y{i}\n" for i in range(len(outputs)))
    return text.encode() + bytes(ands) + symbols.encode()


def _gate_literal(table: int, a: int, b: int, conjunction: Callable[[int, int], int]) -> int:
    t00, t01, t10, t11 = TRUTH_TABLES[table]
    ones = t00 + t01 + t10 + t11
    if table in (0, 15):
        return ones >> 2
    if table in (3, 12):
        return a ^ (table == 12)
    if table in (5, 10):
        return b ^ (table == 10)
    if ones in (1, 3):
        # One row of the table stands alone: an AND of that row, complemented if the row is 0.
        alone = (t00, t01, t10, t11).index(1 if ones == 1 else 0)
        return conjunction(a ^ (alone < 2), b ^ (alone % 2 == 0)) ^ (ones == 3)
    # XOR and XNOR: neither both nor none.
    both, none = conjunction(a, b), conjunction(a ^ 1, b ^ 1)
    return conjunction(both ^ 1, none ^ 1) ^ (table == 9)


def _write_number(out: bytearray, value: int) -> None:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
