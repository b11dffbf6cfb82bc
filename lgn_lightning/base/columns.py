"""Columns of a table, rows as C structs of them, and the comparisons that make bits of a row. Pure data and numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: How a column is stored in a row, by what it holds.
STORED: Final = {
    "float32": "<f4",
    "float64": "<f8",
    "int32": "<i4",
    "int64": "<i8",
    "boolean": "<i4",
    "category": "<i4",
}
#: Code of a category that the training had none of; category *i* has the code i + 1.
UNSEEN: Final = 0

Rows = NDArray[np.void]


class Op(IntEnum):
    """How a bit comes from a value. A missing value is neither greater than anything nor equal to it."""

    GREATER = 0
    EQUAL = 1
    MISSING = 2
    #: Bit ``constant`` of a whole number in two's complement; of a missing one 0.
    BIT = 3
    #: The same bit of its Gray code: bit ``constant`` xor the one above.
    GRAY = 4


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Its name in the table.
        kind: What it holds, a key of `STORED`. A float is missing if it is NaN, a whole number if it is the smallest
            of its type.
        categories: Names of the categories of a ``category`` column.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise ValueError(f"the column name {self.name!r} is empty or has unprintable characters")
        if self.kind not in STORED:
            raise ValueError(f"column {self.name!r} has the kind {self.kind!r}, which is none of {', '.join(STORED)}")
        if (self.kind == "category") != bool(self.categories):
            raise ValueError(f"column {self.name!r}: a category column, and no other, has categories")

    @property
    def dtype(self) -> np.dtype[Any]:
        """How a value is stored."""
        return np.dtype(STORED[self.kind])

    @property
    def is_float(self) -> bool:
        """Whether values are floating point."""
        return self.dtype.kind == "f"

    @property
    def missing(self) -> float | int:
        """What stands for a missing value."""
        return float("nan") if self.is_float else int(np.iinfo(self.dtype).min)

    @property
    def codes(self) -> dict[int, str]:
        """What the whole numbers of a category or truth value stand for; empty for numbers."""
        if self.kind == "boolean":
            return {0: "false", 1: "true"}
        codes = {code: name for name, code in codes_of(self.categories).items()}
        return {UNSEEN: "unseen in training", **codes} if codes else {}

    def is_missing(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which stored values are missing."""
        return np.isnan(values) if self.is_float else np.asarray(values == self.missing)

    def convert(self, values: NDArray[Any]) -> NDArray[Any]:
        """Numbers as they are stored: NaN in whole numbers is a missing value, what is beyond the type its end.

        Raises:
            ValueError: If whole numbers are to be stored, and these are none.
        """
        if self.is_float:
            with np.errstate(over="ignore"):
                return np.asarray(values, self.dtype)
        if values.dtype == self.dtype:
            return values
        ends, least = np.iinfo(self.dtype), np.iinfo(np.int64).min
        if values.dtype.kind != "f":
            capped = np.minimum(values.astype(np.uint64), 2**63 - 1) if values.dtype.kind == "u" else values
            wide = capped.astype(np.int64)
            inside = np.clip(wide, ends.min + 1, ends.max)
            return np.where(wide == least, ends.min, inside).astype(self.dtype)
        missing = np.isnan(values)
        if np.any(values != np.floor(values), where=~missing):
            raise ValueError(f"column {self.name!r} holds whole numbers, and was given a fraction")
        clipped = np.clip(np.where(missing, 0, values).astype(np.float64), ends.min + 1, ends.max)
        # The ends of int64 are no float64, so the float next to each would not fit, or be the missing value.
        whole = np.where(clipped >= 2.0**63, ends.max, np.where(clipped >= 2.0**63, 0, clipped).astype(np.int64))
        whole = np.maximum(whole, ends.min + 1)
        return np.where(missing, ends.min, whole).astype(self.dtype)

    def show(self, value: float | int) -> str:
        """A stored value as a user writes it."""
        if self.kind == "category":
            return self.categories[int(value) - 1] if 0 < value <= len(self.categories) else "(unseen)"
        return repr(float(value)) if self.kind == "float64" else str(self.dtype.type(value))


def row_dtype(columns: Sequence[Column]) -> np.dtype[Any]:
    """The struct of a row, as a C compiler lays it out: fields in the columns' order, padded to their alignment."""
    return np.dtype([(column.name, column.dtype) for column in columns], align=True)


def make_rows(columns: Sequence[Column], values: Sequence[NDArray[Any]]) -> Rows:
    """Rows ``[N]`` of a stored array ``[N]`` a column."""
    rows = np.zeros(len(values[0]), row_dtype(columns))
    for name, array in zip(rows.dtype.names or (), values, strict=True):
        rows[name] = array
    return rows


@dataclass(frozen=True, eq=False)
class Comparisons:
    """What makes bits of a row: bit *i* is ``columns[column[i]] op[i] constant[i]``.

    Attributes:
        columns: Columns of the table.
        column: int32 ``[bits]``.
        op: uint8 ``[bits]``, see `Op`.
        constant: int64 ``[bits]``: whole numbers and categories as they are, of a float column the bits of a float64,
            which holds a float32 exactly.

    Raises:
        ValueError: If they are not valid; the message says which.
    """

    columns: tuple[Column, ...]
    column: NDArray[np.int32]
    op: NDArray[np.uint8]
    constant: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, dtype in (("column", np.int32), ("op", np.uint8), ("constant", np.int64)):
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not self.columns or len({column.name for column in self.columns}) != len(self.columns):
            raise ValueError("a table has columns, each with a name of its own")
        if self.column.ndim != 1 or not self.column.shape == self.op.shape == self.constant.shape:
            raise ValueError("comparisons have one column, operator and constant each")
        if self.column.size and not 0 <= self.column.min() <= self.column.max() < len(self.columns):
            raise ValueError(f"a comparison reads column {self.column.max()} of {len(self.columns)}")
        if self.op.size and self.op.max() > max(Op):
            raise ValueError(f"a comparison has the operator {self.op.max()}, above {max(Op)}")
        floats = np.array([column.is_float for column in self.columns])[self.column]
        if np.any(floats & (self.op >= Op.BIT)):
            raise ValueError("a comparison reads a bit of a floating point column")
        widths = np.array([column.dtype.itemsize * 8 for column in self.columns])[self.column]
        if np.any((self.op >= Op.BIT) & ((self.constant < 0) | (self.constant >= widths))):
            raise ValueError("a comparison reads a bit that its column does not have")
        valued = ~floats & (self.op <= Op.EQUAL)
        least = np.where(widths == 32, np.iinfo(np.int32).min, np.iinfo(np.int64).min)
        most = np.where(widths == 32, np.iinfo(np.int32).max, np.iinfo(np.int64).max)
        if np.any(valued & ((self.constant <= least) | (self.constant > most))):
            raise ValueError("a comparison has a constant that its column cannot hold")
        compared = floats & (self.op <= Op.EQUAL)
        reals = self.constant.view(np.float64)[compared]
        if np.any(np.isnan(reals)):
            raise ValueError("a comparison has the constant NaN")
        with np.errstate(over="ignore"):
            if np.any((widths[compared] == 32) & (reals != reals.astype(np.float32))):
                raise ValueError("a comparison of a float32 column has a constant that is no float32")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Comparisons):
            return NotImplemented
        arrays = ("column", "op", "constant")
        return self.columns == other.columns and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays
        )

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return int(self.column.size)

    @cached_property
    def row_dtype(self) -> np.dtype[Any]:
        """The struct of a row."""
        return row_dtype(self.columns)

    @cached_property
    def gaps(self) -> frozenset[str]:
        """Names of the columns that have a bit for missing values."""
        return frozenset(self.columns[number].name for number in self.column[self.op == Op.MISSING])

    def value(self, bit: int) -> float | int:
        """The constant of a bit, as a number."""
        column = self.columns[self.column[bit]]
        return float(self.constant.view(np.float64)[bit]) if column.is_float else int(self.constant[bit])

    def numbers(self) -> NDArray[np.float64]:
        """All constants as numbers."""
        floats = np.array([column.is_float for column in self.columns])[self.column]
        return np.where(floats, self.constant.view(np.float64), self.constant.astype(np.float64))

    def describe(self, bit: int) -> str:
        """A bit in words, such as ``age > 37.5``."""
        column, op = self.columns[self.column[bit]], Op(self.op[bit])
        if op == Op.MISSING:
            return f"{column.name} is missing"
        if op >= Op.BIT:
            return f"bit {self.constant[bit]} of {column.name}" + (" in Gray code" if op == Op.GRAY else "")
        return f"{column.name} {'>' if op == Op.GREATER else '='} {column.show(self.value(bit))}"

    def encode(self, rows: Rows) -> NDArray[np.bool_]:
        """Bits of rows: ``[N]`` → bool ``[N, bits]``."""
        bits = np.zeros((len(rows), len(self)), np.bool_)
        for number, column in enumerate(self.columns):
            values = rows[column.name][:, None]
            missing = column.is_missing(values)
            for op in Op:
                own = np.flatnonzero((self.column == number) & (self.op == op))
                if own.size:
                    bits[:, own] = missing if op == Op.MISSING else _compare(values, op, self.constants(own)) & ~missing
        return bits

    def constants(self, bits: NDArray[Any]) -> NDArray[Any]:
        """Constants of bits of one column, in its own type: a float32 is compared with a float32."""
        column = self.columns[self.column[bits[0]]]
        return np.asarray((self.constant.view(np.float64) if column.is_float else self.constant)[bits], column.dtype)

    def take(self, bits: NDArray[Any]) -> Comparisons:
        """Some of the bits, in the order given."""
        return Comparisons(self.columns, self.column[bits], self.op[bits], self.constant[bits])

    def columns_text(self) -> str:
        """The columns as JSON."""
        return json.dumps([asdict(column) for column in self.columns], separators=(",", ":"))


def _compare(values: NDArray[Any], op: Op, constants: NDArray[Any]) -> NDArray[np.bool_]:
    if op == Op.GREATER:
        return np.asarray(values > constants)
    if op == Op.EQUAL:
        return np.asarray(values == constants)
    return np.asarray((values ^ values >> 1 if op == Op.GRAY else values) >> constants & 1 != 0)


def columns_of_text(text: str | bytes) -> tuple[Column, ...]:
    """Reads `Comparisons.columns_text`.

    Raises:
        ValueError: If it is none.
    """
    try:
        found = json.loads(text)
        return tuple(
            Column(str(part["name"]), str(part["kind"]), tuple(map(str, part["categories"]))) for part in found
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"columns are not to be read: {error!r}") from error


def codes_of(categories: Sequence[str]) -> Mapping[str, int]:
    """The code of each category."""
    return {name: code for code, name in enumerate(categories, 1)}
