"""Verilog of a table's rows: a port a column, and the comparators that make the inputs."""

from collections.abc import Sequence

import numpy as np

from lgn_lightning.base.columns import Column, Comparisons, Op


def row_ports(comparisons: Comparisons, names: Sequence[str]) -> str:
    """Ports of the columns: floats as their IEEE 754 bits, whole numbers and codes in two's complement."""
    lines = []
    for column, name in zip(comparisons.columns, names, strict=True):
        width = column.dtype.itemsize * 8
        what = f"float{width} bits" if column.is_float else "code of a category" if column.categories else "integer"
        shown = "".join(char if char.isprintable() else "?" for char in column.name)
        lines.append(f"    input wire [{width - 1}:0] {name}, // {shown}: {what}\n")
    return "    // verilator lint_off UNUSED\n" + "".join(lines) + "    // verilator lint_on UNUSED\n"


def comparators(comparisons: Comparisons, read: Sequence[int], names: Sequence[str]) -> tuple[str, int]:
    """Wires ``x0``, ``x1``, … of all inputs, those that nobody reads 0; and the number of comparators among them.

    Floats are compared by keys, which have the order of the numbers: all bits inverted of a negative one, the sign bit
    alone of any other. Both zeros have one key, and a NaN, which is missing, sets no bit but its own.
    """
    read_bits, lines = set(read), []
    for number, (column, name) in enumerate(zip(comparisons.columns, names, strict=True)):
        width, fraction = column.dtype.itemsize * 8, 23 if column.dtype.itemsize == 4 else 52
        own = [bit for bit in read if comparisons.column[bit] == number]
        if own and column.is_float:
            high = width - 2
            lines += [
                f"    wire missing{number} = &{name}[{high}:{fraction}] && |{name}[{fraction - 1}:0];\n",
                f"    wire [{width - 1}:0] key{number} = ~|{name}[{high}:0] ? {{1'b1, {{{width - 1}{{1'b0}}}}}} :\n"
                f"        {name}[{width - 1}] ? ~{name} : {{1'b1, {name}[{high}:0]}};\n",
            ]
        elif own:
            lines.append(f"    wire missing{number} = {name} == {{1'b1, {{{width - 1}{{1'b0}}}}}};\n")
        lines += [f"    wire x{bit} = {_test(comparisons, bit, name, number)};\n" for bit in own]
    lines += [f"    wire x{bit} = 1'b0;\n" for bit in range(len(comparisons)) if bit not in read_bits]
    compared = [bit for bit in read if comparisons.op[bit] <= Op.EQUAL]
    return "".join(lines), len(compared)


def _test(comparisons: Comparisons, bit: int, name: str, number: int) -> str:
    column, op = comparisons.columns[comparisons.column[bit]], Op(comparisons.op[bit])
    if op == Op.MISSING:
        return f"missing{number}"
    place = int(comparisons.constant[bit])
    if op >= Op.BIT:
        width = column.dtype.itemsize * 8
        above = f" ^ {name}[{min(place + 1, width - 1)}]" if op == Op.GRAY else ""
        return f"!missing{number} && ({name}[{place}]{above})"
    width = column.dtype.itemsize * 8
    sign = ">" if op == Op.GREATER else "=="
    if column.is_float:
        return f"!missing{number} && key{number} {sign} {width}'h{_key(comparisons.value(bit), column):x}"
    constant = f"{width}'h{place & ((1 << width) - 1):x}"
    if op == Op.EQUAL:
        return f"{name} == {constant}"
    return f"$signed({name}) > $signed({constant})"


def _key(value: float | int, column: Column) -> int:
    """The key of a number."""
    width = column.dtype.itemsize * 8
    bits = int(np.asarray(value, column.dtype).view(f"<u{column.dtype.itemsize}"))
    if value == 0:
        return 1 << (width - 1)
    return ~bits & ((1 << width) - 1) if bits >> (width - 1) else bits | 1 << (width - 1)
