"""Which comparisons make bits of a column: thresholds from the training rows, codes of categories and whole numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.columns import Column, Comparisons, Op, Rows
from lgn_lightning.base.errors import DataError

SPACINGS: Final = ("quantile", "even")
CODES: Final = ("thermometer", "one-hot", "binary", "gray")

_Bits = list[tuple[Op, float | int]]


@dataclass(frozen=True)
class Encoding:
    """How columns become bits.

    Attributes:
        thresholds: Most thresholds a column.
        spacing: ``"quantile"`` puts equally many training rows between two of them, as far as equal values allow;
            ``"even"`` puts them at equal distances between least and largest value.
        given: By column: other numbers of thresholds, or the thresholds themselves.
        codes: By column: another code than thermometer for numbers and one-hot for categories, see `CODES`. Binary and
            Gray codes are for whole numbers and categories.
    """

    thresholds: int = 32
    spacing: str = "quantile"
    given: dict[str, int | list[float]] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("spacing", self.spacing, SPACINGS)
        if self.thresholds < 1:
            raise ValueError(f"thresholds={self.thresholds}: a column has at least 1")
        for name, code in self.codes.items():
            check_choice(f"codes: the code of column {name!r}", code, CODES)

    def fit(self, columns: Sequence[Column], rows: Rows) -> Comparisons:
        """Chooses the comparisons of training rows.

        A column with missing values has a bit that says so. A column that never changes has none.

        Raises:
            DataError: If a code does not suit its column, thresholds that are given are none, or no column changes.
        """
        found = [
            (number, bit) for number, column in enumerate(columns) for bit in self._bits(column, rows[column.name])
        ]
        if not found:
            raise DataError("no column has more than one value: there is nothing to learn from")
        floats = [columns[number].is_float for number, _ in found]
        constants = np.array(
            [0 if is_float else int(value) for is_float, (_, (_, value)) in zip(floats, found, strict=True)]
        )
        reals = np.array(
            [float(value) if is_float else 0.0 for is_float, (_, (_, value)) in zip(floats, found, strict=True)]
        )
        constants = np.where(floats, reals.view(np.int64), constants)
        numbers = np.array([number for number, _ in found], np.int32)
        return Comparisons(tuple(columns), numbers, np.array([op for _, (op, _) in found], np.uint8), constants)

    def _bits(self, column: Column, values: NDArray[Any]) -> _Bits:
        missing = column.is_missing(values)
        bits: _Bits = [(Op.MISSING, 0)] if missing.any() and not missing.all() else []
        known = values[~missing]
        code = self.codes.get(column.name, "one-hot" if column.kind == "category" else "thermometer")
        if column.is_float and code != "thermometer":
            raise DataError(f"column {column.name!r} has no whole numbers: its code cannot be {code}")
        if column.kind == "category" and code == "thermometer":
            raise DataError(f"the categories of column {column.name!r} have no order: use one-hot, binary or gray")
        if code == "thermometer":
            return bits + [(Op.GREATER, value) for value in self._thresholds(column, known)]
        distinct = np.unique(known)
        if code == "one-hot":
            return bits + [(Op.EQUAL, int(value)) for value in distinct if distinct.size > 1 or bits]
        width = max((int(value) if value >= 0 else ~int(value)).bit_length() for value in distinct)
        op = Op.BIT if code == "binary" else Op.GRAY
        return bits + [(op, bit) for bit in range(width)] + ([(Op.GREATER, -1)] if distinct[0] < 0 else [])

    def _thresholds(self, column: Column, known: NDArray[Any]) -> list[float | int]:
        given = self.given.get(column.name, self.thresholds)
        if isinstance(given, list):
            if not given or any(math.isnan(value) for value in given) or any(b <= a for a, b in pairwise(given)):
                raise DataError(f"the thresholds of column {column.name!r} must be increasing numbers, not {given}")
            if column.is_float:
                return [value.item() for value in np.unique(np.array(given, column.dtype))]
            # A whole number is greater than 0.5 where it is greater than 0. Those of Python are exact.
            least, most = int(column.missing) + 1, int(np.iinfo(column.dtype).max)
            whole = (value if math.isinf(value) else math.floor(value) for value in given)
            return sorted({int(min(max(value, least), most)) for value in whole})
        distinct, counts = np.unique(known, return_counts=True)
        if distinct.size < 2:
            return []
        if self.spacing == "even":
            finite = distinct[np.isfinite(distinct)]
            if not finite.size:
                return []
            steps = np.arange(1, given + 1) / (given + 1)
            reals = finite[0].astype(float) + steps * (finite[-1].astype(float) - finite[0].astype(float))
            typed = np.unique((np.floor(reals) if not column.is_float else reals).astype(column.dtype))
            return [value.item() for value in typed if distinct[0] <= value < distinct[-1]]
        gaps = quantile_gaps(counts, given)
        return [_between(distinct[gap], distinct[gap + 1]).item() for gap in gaps]


def quantile_gaps(counts: NDArray[np.int64], number: int) -> NDArray[np.intp]:
    """Gaps between neighbouring distinct values that split the rows most evenly, at most ``number`` of them.

    A value that fills more than one share counts as one: the other thresholds go to the rest.
    """
    if counts.size - 1 <= number:
        return np.arange(counts.size - 1)
    weights = counts.astype(np.float64)
    for _ in range(8):
        share = weights.sum() / (number + 1)
        if weights.max() <= share:
            break
        weights = np.minimum(counts, share)
    below = np.cumsum(weights)
    targets = below[-1] * np.arange(1, number + 1) / (number + 1)
    gaps = np.searchsorted(below, targets * (1 - 1e-12))
    return np.unique(np.minimum(gaps, counts.size - 2))


def _between(low: Any, high: Any) -> Any:
    """A value t with low ≤ t < high, in the middle if there is one."""
    if low.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            middle = np.asarray(low / 2 + high / 2, low.dtype)[()]
        return middle if low <= middle < high else low
    return np.asarray((int(low) + int(high)) // 2, low.dtype)[()]
