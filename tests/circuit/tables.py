"""Tables and nets on them, for the tests of everything that takes rows."""

import numpy as np
import torch
from hypothesis import strategies as st

from lgn_lightning.base.columns import Column, Comparisons, Op
from lgn_lightning.models import TableMLP

NAMES = ("kind", "name", "size", "größe", "1st", "int", "is big", "a@b", "Size", "x y", "while", "wire")
KINDS = ("float32", "float64", "int32", "int64", "boolean", "category")


@st.composite
def comparisons(draw: st.DrawFn, least: int = 4) -> Comparisons:
    """Comparisons of a few columns of any types, in any order, with constants anywhere in their range."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    names = draw(st.permutations(NAMES))
    columns = tuple(
        Column(names[i], kind, tuple("abc"[: draw(st.integers(1, 3))]) if kind == "category" else ())
        for i, kind in enumerate(kinds)
    )
    numbers, ops, constants = [], [], []
    for _ in range(draw(st.integers(least, 24))):
        number = draw(st.integers(0, len(columns) - 1))
        column = columns[number]
        op = draw(st.sampled_from([Op.GREATER, Op.EQUAL, Op.MISSING] if column.is_float else list(Op)))
        if op >= Op.BIT:
            constant = draw(st.integers(0, column.dtype.itemsize * 8 - 1))
        elif column.is_float:
            value = draw(st.floats(width=column.dtype.itemsize * 8, allow_nan=False) | st.sampled_from([0.0, -0.0]))
            constant = int(np.float64(value).view(np.int64))
        else:
            ends = np.iinfo(column.dtype)
            near = st.integers(0, 3) | st.sampled_from([ends.min + 1, ends.max])
            constant = draw(st.integers(int(ends.min) + 1, int(ends.max)) | near)
        numbers.append(number)
        ops.append(op)
        constants.append(int(constant))
    return Comparisons(columns, np.array(numbers), np.array(ops), np.array(constants, np.int64))


def net_of(made: Comparisons, seed: int = 0, width: int = 24, classes: int = 3) -> TableMLP:
    """A random hard net on them."""
    torch.manual_seed(seed)
    net = TableMLP(len(made), classes, [width, width], connections="random", init="gaussian")
    net[0].fit(made)
    return net.eval()
