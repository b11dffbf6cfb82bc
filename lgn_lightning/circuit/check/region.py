"""A region of inputs: pixels within some grey levels, or columns within ranges, as cases of the bits that they make."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.columns import Column, Comparisons, Op, make_rows
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist, NodeIds

#: Values of a column whose single bits are read that are tried one by one.
_MOST_VALUES = 1 << 16
#: Cases that are tried at once.
_BLOCK = 4096


@dataclass(frozen=True)
class Choice:
    """A pixel or column that can make different bits.

    Attributes:
        place: Its number.
        bits: The input bits that it makes and that change, int ``[k]``.
        cases: What they can be, bool ``[cases, k]``, all different.
        values: A value of the pixel or column for each case.
    """

    place: int
    bits: NDArray[np.intp]
    cases: NDArray[np.bool_]
    values: NDArray[Any]


@dataclass(frozen=True)
class Region:
    """All inputs that a sample may become.

    Attributes:
        sample: The sample: pixels, flat, or the values of a row.
        bits: Its input bits, bool ``[inputs]``; those of choices stand for themselves.
        choices: What may change.
    """

    sample: NDArray[Any]
    bits: NDArray[np.bool_]
    choices: tuple[Choice, ...]

    @property
    def cases(self) -> int:
        """How many different inputs there are."""
        return math.prod(len(choice.cases) for choice in self.choices)

    def inputs(self, picks: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Input bits of some cases, one of each choice: int ``[N, choices]`` to bool ``[N, inputs]``."""
        bits = np.repeat(self.bits[None], len(picks), axis=0)
        for choice, own in zip(self.choices, picks.T, strict=True):
            bits[:, choice.bits] = choice.cases[own]
        return bits

    def sample_of(self, picks: NDArray[np.intp]) -> NDArray[Any]:
        """The sample of one case ``[choices]``."""
        sample = self.sample.copy()
        for choice, own in zip(self.choices, picks, strict=True):
            sample[choice.place] = choice.values[own]
        return sample

    def every_case(self) -> Iterator[NDArray[np.intp]]:
        """All cases, in blocks."""
        sizes = [len(choice.cases) for choice in self.choices]
        for start in range(0, self.cases, _BLOCK):
            numbers = np.arange(start, min(start + _BLOCK, self.cases))
            yield np.stack([*np.unravel_index(numbers, sizes or [1])], axis=1)[:, : len(sizes)]

    def wires(self, builder: NetlistBuilder, selectors: Sequence[NodeIds]) -> NodeIds:
        """Adds gates that make the input bits from selectors of the choices, int32 ``[inputs]``.

        A choice of n cases has n − 1 selectors; it is the case of that number of ones before the first zero.
        """
        nodes = np.where(self.bits, builder.constant(True), builder.constant(False)).astype(np.int32)
        for choice, own in zip(self.choices, selectors, strict=True):
            reached = [int(own[0])]
            for node in own[1:].tolist():
                reached.append(int(builder.gates([1], [reached[-1]], [node])[0]))
            changes = choice.cases[1:] != choice.cases[:-1]
            for bit, change, first in zip(choice.bits.tolist(), changes.T, choice.cases[0].tolist(), strict=True):
                value = builder.constant(first)
                for step in np.flatnonzero(change).tolist():
                    value = int(builder.gates([6], [value], [reached[step]])[0])
                nodes[bit] = value
        return nodes


def _choice(place: int, bits: NDArray[np.intp], cases: NDArray[np.bool_], values: NDArray[Any]) -> Choice | None:
    """A choice of the different ones of some cases; None if it has no choice."""
    changing = (cases != cases[:1]).any(axis=0)
    _, first = np.unique(cases[:, changing], axis=0, return_index=True)
    kept = np.sort(first)
    if kept.size < 2:
        return None
    return Choice(place, bits[changing], cases[np.ix_(kept, changing)], values[kept])


def pixel_region(circuit: Netlist, image: NDArray[np.uint8], radius: int) -> Region:
    """Images whose pixels are at most ``radius`` grey levels from those of an image, of any shape; all of 0 to 255."""
    if circuit.levels is None:
        raise CircuitError("the inputs of this circuit are no pixels")
    if radius < 0:
        raise CircuitError(f"a radius is 0 or more grey levels, not {radius}")
    pixels, levels = image.reshape(-1), circuit.levels
    bits = (pixels[None] > levels[:, None]).reshape(-1)
    choices = []
    for place, value in enumerate(pixels.tolist()):
        values = np.arange(max(0, value - radius), min(255, value + radius) + 1)
        own = np.arange(levels.size) * pixels.size + place
        choice = _choice(place, own, values[:, None] > levels[None], values.astype(np.uint8))
        if choice is not None:
            choices.append(choice)
    return Region(pixels, bits, tuple(choices))


def row_region(
    comparisons: Comparisons, row: NDArray[Any], ranges: Mapping[str, tuple[float, float] | None] | None = None
) -> Region:
    """Rows that a row ``[1]`` may become.

    Args:
        comparisons: What makes the bits.
        row: The row, a struct of the columns.
        ranges: Least and largest value by column, or None for all values, missing ones among them where the circuit has
            a bit for these; other columns stay. None for all values of all columns.

    Raises:
        CircuitError: If there is no such column, or single bits of it are read and its range is too wide.
    """
    names = [column.name for column in comparisons.columns]
    for name in ranges or {}:
        if name not in names:
            raise CircuitError(f"there is no column {name!r}; there are {', '.join(names)}")
    choices = []
    for place, column in enumerate(comparisons.columns):
        own = np.flatnonzero(comparisons.column == place)
        if not own.size or (ranges is not None and column.name not in ranges):
            continue
        values = _values(comparisons, column, own, None if ranges is None else ranges[column.name])
        rows = np.repeat(row, len(values))
        rows[column.name] = values
        choice = _choice(place, own, comparisons.encode(rows)[:, own], values)
        if choice is not None:
            choices.append(choice)
    sample = np.array([row[name][0] for name in names], object)
    return Region(sample, comparisons.encode(row)[0], tuple(choices))


def row_of(comparisons: Comparisons, sample: NDArray[Any]) -> NDArray[Any]:
    """The row ``[1]`` of a region's sample."""
    columns = comparisons.columns
    return make_rows(columns, [np.array([value], own.dtype) for own, value in zip(columns, sample, strict=True)])


def _values(
    comparisons: Comparisons, column: Column, bits: NDArray[np.intp], ends: tuple[float, float] | None
) -> NDArray[Any]:
    """Values of a range, in order, among which every case of the bits is: what lies between two constants is one."""
    if ends is not None and not ends[0] <= ends[1]:
        raise CircuitError(f"column {column.name!r}: the range from {ends[0]:g} to {ends[1]:g} is empty")
    compared = bits[comparisons.op[bits] <= Op.EQUAL]
    constants = comparisons.constants(compared) if compared.size else np.zeros(0, column.dtype)
    if np.any((comparisons.op[bits] == Op.BIT) | (comparisons.op[bits] == Op.GRAY)):
        if ends is None or ends[1] - ends[0] >= _MOST_VALUES:
            raise CircuitError(
                f"column {column.name!r}: the circuit reads single bits of it, so its values are tried one by one: "
                f"give a range of fewer than {_MOST_VALUES:,}"
            )
        return np.arange(math.ceil(ends[0]), math.floor(ends[1]) + 1).astype(column.dtype)
    if column.is_float:
        near = [np.nextafter(constants, end, dtype=column.dtype) for end in (-np.inf, np.inf)]
        low, high = (column.dtype.type(end) for end in ((-np.inf, np.inf) if ends is None else ends))
    else:
        limits = np.iinfo(column.dtype)
        near = [np.maximum(constants, limits.min + 2) - 1, np.minimum(constants, limits.max - 1) + 1]
        if column.categories:
            limits_of = (0, len(column.categories))
        else:
            limits_of = (0, 1) if column.kind == "boolean" else (limits.min + 1, limits.max)
        asked = limits_of if ends is None else (math.ceil(ends[0]), math.floor(ends[1]))
        low, high = (column.dtype.type(min(max(end, limits_of[0]), limits_of[1])) for end in asked)
    values = np.unique(np.concatenate([constants, *near, np.array([low, high], column.dtype)]).astype(column.dtype))
    values = values[(values >= low) & (values <= high)]
    if ends is None and np.any(comparisons.op[bits] == Op.MISSING):
        values = np.append(values, np.array([column.missing], column.dtype))
    if not values.size:
        raise CircuitError(f"column {column.name!r} has no value from {ends}")
    return values
