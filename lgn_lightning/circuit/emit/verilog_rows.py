"""Verilog of a table's rows: a port a column, the comparators that make the inputs, and vectors for them."""

import ast
import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.columns import Column, Comparisons, Op, make_rows
from lgn_lightning.circuit.emit.c_rows import identifiers
from lgn_lightning.circuit.emit.text import free_name
from lgn_lightning.circuit.hardware.encoder import float_key
from lgn_lightning.circuit.net.netlist import CircuitError

#: Letters of the codes of a column in a comment.
_MOST_COMMENT = 400
#: Width of a port and how many of its bits are a fraction.
Fixed = tuple[int, int]


@dataclass(frozen=True)
class RowPorts:
    """The ports of a table's columns.

    A column has the bits of its own type, floats those of IEEE 754, unless it is in ``fixed``: then its port is a
    signed number of that width, the value times two to the power of its fraction, and a second port says that it is
    missing if the net asks for that. Names of ports are those of `identifiers`; what a module with ports has inside
    ends in an underscore, so that no column has its name.

    Attributes:
        comparisons: What is compared.
        reserved: Words that no port may have for its name, in any letters.
        words: Words that no port may have as they stand.
        fixed: Columns by their names.

    Raises:
        CircuitError: If there is no such column, or the numbers of a port are not all numbers of the column.
    """

    comparisons: Comparisons
    reserved: frozenset[str] = frozenset()
    words: Container[str] = frozenset()
    fixed: Mapping[str, Fixed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {column.name: column for column in self.comparisons.columns}
        for name, (width, fraction) in self.fixed.items():
            if name not in columns:
                raise CircuitError(f"there is no column {name!r} for a port of {width}.{fraction} bits")
            column = columns[name]
            bits = column.dtype.itemsize * 8
            most = (24 if bits == 32 else 53) if column.is_float else bits
            if not 2 <= width <= most or not 0 <= fraction < width or (fraction and not column.is_float):
                raise CircuitError(
                    f"column {name!r} is {column.kind}: its port has 2 to {most} bits, and a fraction of them only if "
                    f"it is no whole number; not {width}.{fraction}"
                )
            least = max(column.codes, default=0).bit_length() + 1  # signed
            if width < least:
                raise CircuitError(
                    f"column {name!r} has the codes 0 to {max(column.codes)}, which a signed port of {width} bits does "
                    f"not hold: give it {least} or more"
                )

    @cached_property
    def names(self) -> list[str]:
        """Of the ports, in the order of the columns."""
        return identifiers(self.comparisons.columns, self.reserved, self.words)

    @cached_property
    def missing(self) -> list[str | None]:
        """Of the second ports, which say that a column is missing; None where it has none."""
        asked = {int(number) for number in self.comparisons.column[self.comparisons.op == Op.MISSING]}
        taken = {*self.reserved, *(name.lower() for name in self.names)}
        return [
            free_name(f"{name}_missing", taken, self.words) if column.name in self.fixed and i in asked else None
            for i, (column, name) in enumerate(zip(self.comparisons.columns, self.names, strict=True))
        ]

    def _width(self, column: Column) -> int:
        return self.fixed[column.name][0] if column.name in self.fixed else column.dtype.itemsize * 8

    @property
    def widths(self) -> list[tuple[str, int]]:
        """Names and bits of all ports, in the order of their declarations."""
        result = []
        for column, name, missing in zip(self.comparisons.columns, self.names, self.missing, strict=True):
            result += [(name, self._width(column)), *([(missing, 1)] if missing else [])]
        return result

    def type_of(self, column: Column) -> str:
        """What the bits of a column's port are, in words."""
        if column.name in self.fixed:
            width, fraction = self.fixed[column.name]
            return f"signed fixed point {width}.{fraction}"
        missing = "NaN" if column.is_float else str(column.missing)
        return f"{column.dtype.name}, {missing} if missing"

    def beyond(self, name: str) -> int:
        """Comparisons of a column with a port of fixed point that come out alike for all numbers of the port."""
        number = [column.name for column in self.comparisons.columns].index(name)
        bits = np.flatnonzero((self.comparisons.column == number) & (self.comparisons.op <= Op.EQUAL))
        return sum("$signed" not in self._test(int(bit), name, number) for bit in bits)

    def declarations(self) -> str:
        """The ports."""
        lines = []
        for column, name, missing in zip(self.comparisons.columns, self.names, self.missing, strict=True):
            codes = ", ".join(f"{code} {text}" for code, text in column.codes.items())
            if len(codes) > _MOST_COMMENT:
                codes = f"{codes[:_MOST_COMMENT]}…, see the manifest"
            shown = column.name + (f" ({codes})" if codes else "")
            shown = "".join(char if char.isprintable() else "?" for char in shown)
            lines.append(f"    input wire [{self._width(column) - 1}:0] {name}, // {shown}: {self.type_of(column)}\n")
            lines += [f"    input wire {missing},\n"] if missing else []
        return "    // verilator lint_off UNUSED\n" + "".join(lines) + "    // verilator lint_on UNUSED\n"

    def comparators(self, read: Sequence[int]) -> tuple[str, int]:
        """Wires ``x0_``, ``x1_``, … of all inputs, those that nobody reads 0; and the number of comparators among them.

        Floats are compared by keys, which have the order of the numbers: all bits inverted of a negative one, the sign
        bit alone of any other. Both zeros have one key, and a NaN, which is missing, sets no bit but its own.
        """
        comparisons, lines = self.comparisons, []
        for number, (column, name) in enumerate(zip(comparisons.columns, self.names, strict=True)):
            own = [bit for bit in read if comparisons.column[bit] == number]
            if not own:
                continue
            width, fraction = self._width(column), 23 if column.dtype.itemsize == 4 else 52
            missing = f"{name} == {{1'b1, {{{width - 1}{{1'b0}}}}}}"
            if column.name in self.fixed:
                missing = self.missing[number] or "1'b0"
            elif column.is_float:
                missing = f"&{name}[{width - 2}:{fraction}] && |{name}[{fraction - 1}:0]"
            tests = [self._test(bit, name, number) for bit in own]
            if any(f"missing{number}_" in test for test in tests):
                lines.append(f"    wire missing{number}_ = {missing};\n")
            if column.is_float and column.name not in self.fixed:
                zero, rest = f"{{1'b1, {{{width - 1}{{1'b0}}}}}}", f"{name}[{width - 2}:0]"
                lines.append(
                    f"    wire [{width - 1}:0] key{number}_ = ~|{rest} ? {zero} :\n"
                    f"        {name}[{width - 1}] ? ~{name} : {{1'b1, {rest}}};\n"
                )
            lines += [f"    wire x{bit}_ = {test};\n" for bit, test in zip(own, tests, strict=True)]
        unread = set(range(len(comparisons))) - set(read)
        lines += [f"    wire x{bit}_ = 1'b0;\n" for bit in sorted(unread)]
        return "".join(lines), sum(int(comparisons.op[bit] <= Op.EQUAL) for bit in read)

    def _test(self, bit: int, name: str, number: int) -> str:
        column, op = self.comparisons.columns[number], Op(self.comparisons.op[bit])
        if op == Op.MISSING:
            return f"missing{number}_"
        width, place = self._width(column), int(self.comparisons.constant[bit])
        if op >= Op.BIT:
            top = width - 1  # a narrow port repeats its sign
            above = f" ^ {name}[{min(place + 1, top)}]" if op == Op.GRAY else ""
            return f"!missing{number}_ && ({name}[{min(place, top)}]{above})"
        sign = ">" if op == Op.GREATER else "=="
        if column.name in self.fixed:
            return self._fixed_test(bit, name, number, op)
        if column.is_float:
            key = float_key(self.comparisons.value(bit), column)
            return f"!missing{number}_ && key{number}_ {sign} {width}'h{key:x}"
        constant = f"{width}'h{place & ((1 << width) - 1):x}"
        return f"{name} == {constant}" if op == Op.EQUAL else f"$signed({name}) > $signed({constant})"

    def _fixed_test(self, bit: int, name: str, number: int, op: Op) -> str:
        width, fraction = self.fixed[self.comparisons.columns[number].name]
        value, most = self.comparisons.value(bit), 1 << (width - 1)
        if math.isinf(value):
            return f"!missing{number}_" if value < 0 and op == Op.GREATER else "1'b0"
        exact = Fraction(value) * (1 << fraction)
        whole = math.floor(exact)
        constant = f"$signed({width}'h{whole & ((1 << width) - 1):x})"
        if op == Op.EQUAL:
            fits = exact == whole and -most <= whole < most
            return f"!missing{number}_ && $signed({name}) == {constant}" if fits else "1'b0"
        if whole >= most - 1:
            return "1'b0"
        return f"!missing{number}_ && $signed({name}) > {constant}" if whole >= -most else f"!missing{number}_"

    def fixed_text(self) -> str:
        """A comment a column of fixed point, for `read_fixed`."""
        return "".join(f"// Port {name!r}: {width}.{part}\n" for name, (width, part) in self.fixed.items())

    def nearest(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows ``[N]`` whose values the ports can hold: rounded down, and to the ends of their ranges.

        Without a port for it, a missing value is 0.
        """
        values = []
        for column, has_port in zip(self.comparisons.columns, self.missing, strict=True):
            own = rows[column.name]
            if column.name in self.fixed:
                missing = column.is_missing(own)
                numbers = np.where(missing, 0, self._ported(column, own)) / (1 << self.fixed[column.name][1])
                own = np.where(missing & (has_port is not None), own, numbers.astype(column.dtype))
            values.append(own)
        return make_rows(self.comparisons.columns, values)

    def _ported(self, column: Column, values: NDArray[Any]) -> NDArray[np.int64]:
        """What a port of fixed point holds."""
        width, fraction = self.fixed[column.name]
        most = 1 << (width - 1)
        if not column.is_float:
            return np.clip(values.astype(np.int64), -most, most - 1)
        known = np.nan_to_num(values.astype(np.float64), posinf=math.inf, neginf=-math.inf)
        return np.clip(np.floor(known * (1 << fraction)), -most, most - 1).astype(np.int64)

    def vectors(self, rows: NDArray[Any], signal: str) -> tuple[int, list[int], str]:
        """Width of all ports together, their bits for each row, and how a signal of that width feeds them."""
        place, bits, wires = 0, [0] * len(rows), []
        for column, name, second in zip(self.comparisons.columns, self.names, self.missing, strict=True):
            width, own = self._width(column), rows[column.name]
            if column.name in self.fixed:
                numbers: Iterable[int] = np.where(column.is_missing(own), 0, self._ported(column, own)).tolist()
            else:
                numbers = own.view(f"<u{column.dtype.itemsize}").tolist()
            bits = [old | (new & ((1 << width) - 1)) << place for old, new in zip(bits, numbers, strict=True)]
            wires.append(f".{name}({signal}[{place + width - 1}:{place}])")
            place += width
            if second:
                flags = column.is_missing(own).tolist()
                bits = [old | int(flag) << place for old, flag in zip(bits, flags, strict=True)]
                wires.append(f".{second}({signal}[{place}])")
                place += 1
        return place, bits, ",\n        ".join(wires)


def read_fixed(text: str) -> dict[str, Fixed]:
    """The ports of fixed point of emitted Verilog; a CircuitError if a comment is none of `RowPorts.fixed_text`."""
    fixed = {}
    for quoted, width, fraction in re.findall(r"^// Port (.+): (\d+)\.(\d+)$", text, re.MULTILINE):
        try:
            name = ast.literal_eval(quoted)
        except (ValueError, SyntaxError):
            name = None
        if not isinstance(name, str):
            raise CircuitError(
                f"the comment `// Port {quoted}: {width}.{fraction}` of the Verilog does not quote a column's name as "
                "`lgn export` does: export it again"
            )
        fixed[name] = int(width), int(fraction)
    return fixed
