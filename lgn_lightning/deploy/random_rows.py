"""Random rows of a table that try its comparisons: where one could be off by one, and with all that a value can be."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.columns import Comparisons, Op, make_rows


def random_rows(comparisons: Comparisons, count: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Rows as structs, uint8 ``[count, bytes]``: every second one of values between thresholds, the others of edges."""
    values = []
    for number, column in enumerate(comparisons.columns):
        edges = edge_values(comparisons, number)
        in_turn = generator.permutation(np.resize(edges, count))
        known = edges[~column.is_missing(edges)]
        if column.is_float:
            finite = known[np.isfinite(known)].astype(np.float64)
            between = generator.uniform(finite.min(), finite.max(), count) if finite.size else np.zeros(count)
            between = between.astype(column.dtype)
        else:
            between = generator.integers(known.min(), known.max(), count, endpoint=True).astype(column.dtype)
        values.append(np.where(np.arange(count) % 2, between, in_turn))
    rows = make_rows(comparisons.columns, values)
    return rows.view(np.uint8).reshape(count, rows.dtype.itemsize)


def edge_rows(comparisons: Comparisons) -> NDArray[np.uint8]:
    """Rows in which every column has each of its `edge_values`.

    A comparison reads one column and turns at its constant alone, so it is right everywhere if it is right on these.
    """
    edges = [edge_values(comparisons, number) for number in range(len(comparisons.columns))]
    count = max(len(values) for values in edges)
    rows = make_rows(comparisons.columns, [np.resize(values, count) for values in edges])
    return rows.view(np.uint8).reshape(count, rows.dtype.itemsize)


def edge_values(comparisons: Comparisons, number: int) -> NDArray[Any]:
    """Values of a column at and right above its constants, missing, extreme, and of whole numbers every bit alone."""
    column = comparisons.columns[number]
    own = np.flatnonzero((comparisons.column == number) & (comparisons.op <= Op.EQUAL))
    constants = comparisons.constants(own) if own.size else np.zeros(0, column.dtype)
    if column.is_float:
        with np.errstate(over="ignore"):
            above = np.nextafter(constants, np.asarray(np.inf, column.dtype))
            below = np.nextafter(constants, np.asarray(-np.inf, column.dtype))
        special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0]
        return np.concatenate([constants, above, below, np.array(special, column.dtype)])
    if column.kind in ("category", "boolean"):
        most = len(column.categories) if column.categories else 1
        return np.array([column.missing, *range(most + 1)], column.dtype)
    ends = np.iinfo(column.dtype)
    wide = constants.astype(object)
    bits = [1 << bit for bit in range(column.dtype.itemsize * 8 - 1)]
    found = {*wide, *(value + 1 for value in wide), *(value - 1 for value in wide), -1, 0, *bits, ends.min, ends.max}
    return np.array(sorted(value for value in found if ends.min <= value <= ends.max), column.dtype)
