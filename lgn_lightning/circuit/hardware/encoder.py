"""Encoders as nodes: the comparators of pixels and columns, on the bits of the bytes and words that come in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lgn_lightning.base.columns import Column, Comparisons, Op
from lgn_lightning.circuit.hardware.nodes import AND2, MUX, OR2, XOR2, Bit, Nodes
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO


def input_width(circuit: Netlist) -> int:
    """Bits that come in: of pixels or columns where there are some, else the inputs."""
    if circuit.comparisons is not None:
        return sum(column.dtype.itemsize * 8 for column in circuit.comparisons.columns)
    return circuit.num_inputs if circuit.num_pixels is None else 8 * circuit.num_pixels


def encoder_bits(nodes: Nodes, circuit: Netlist, read: Sequence[int]) -> dict[int, Bit]:
    """The input bits of a circuit that are read, as nodes on the bits that come in."""
    if circuit.comparisons is not None:
        return _rows(nodes, circuit.comparisons, read)
    if circuit.levels is None or circuit.num_pixels is None:
        return {bit: bit for bit in read}
    pixels, levels = circuit.num_pixels, circuit.levels.tolist()
    words = [range(8 * pixel, 8 * pixel + 8) for pixel in range(pixels)]
    return {bit: _above(nodes, words[bit % pixels], levels[bit // pixels]) for bit in read}


def _above(nodes: Nodes, word: Sequence[Bit], constant: int) -> Bit:
    """Whether a number, the lowest bit first, is above a constant of as many bits."""
    nodes.cell(1)
    above = ZERO
    for place, bit in enumerate(word):
        above = nodes.node(AND2 if constant >> place & 1 else OR2, bit, above)
    return above


def _all(nodes: Nodes, bits: Sequence[Bit]) -> Bit:
    while len(bits) > 1:
        bits = [nodes.node(AND2, *bits[i : i + 2]) if i + 1 < len(bits) else bits[i] for i in range(0, len(bits), 2)]
    return bits[0] if bits else ONE


def _equal(nodes: Nodes, word: Sequence[Bit], constant: int) -> Bit:
    nodes.cell(1)
    return _all(nodes, [bit if constant >> k & 1 else _inverse(nodes, bit) for k, bit in enumerate(word)])


def _inverse(nodes: Nodes, bit: Bit) -> Bit:
    return nodes.node(XOR2, bit, ONE)


def _rows(nodes: Nodes, comparisons: Comparisons, read: Sequence[int]) -> dict[int, Bit]:
    result: dict[int, Bit] = {}
    place = 0
    for number, column in enumerate(comparisons.columns):
        width = column.dtype.itemsize * 8
        word = list(range(place, place + width))
        place += width
        own = [bit for bit in read if comparisons.column[bit] == number]
        if own:
            result |= _column(nodes, comparisons, column, word, own)
    return result


def _column(
    nodes: Nodes, comparisons: Comparisons, column: Column, word: list[Bit], own: Sequence[int]
) -> dict[int, Bit]:
    """The comparisons of a column, as `verilog_rows` writes them: a missing value sets no bit but its own."""
    width = len(word)
    missing = _equal(nodes, word, 1 << (width - 1))
    known = [*word[:-1], _inverse(nodes, word[-1])]  # signed order as an unsigned one
    if column.is_float:
        mantissa = 23 if width == 32 else 52
        nodes.cell(1)
        infinite = _all(nodes, word[mantissa:-1])
        some = _inverse(nodes, _all(nodes, [_inverse(nodes, bit) for bit in word[:mantissa]]))
        missing = nodes.node(AND2, infinite, some)
        nothing = _all(nodes, [_inverse(nodes, bit) for bit in word[:-1]])
        # All bits inverted of a negative number; both zeros are the sign bit alone.
        negative = nodes.node(AND2, word[-1], _inverse(nodes, nothing))
        known = [nodes.node(XOR2, bit, negative) for bit in word[:-1]]
        known.append(_inverse(nodes, negative))
    result = {}
    for bit in own:
        op, constant = Op(comparisons.op[bit]), int(comparisons.constant[bit])
        if op == Op.MISSING:
            result[bit] = missing
            continue
        if op >= Op.BIT:
            value = word[constant]
            if op == Op.GRAY:
                value = nodes.node(XOR2, value, word[min(constant + 1, width - 1)])
        else:
            key = _key(comparisons, bit, column)
            value = (_above if op == Op.GREATER else _equal)(nodes, known, key)
        result[bit] = nodes.node(MUX, missing, value, ZERO)
    return result


def _key(comparisons: Comparisons, bit: int, column: Column) -> int:
    """The constant of a comparison in the order of `_column`."""
    width = column.dtype.itemsize * 8
    if not column.is_float:
        return (int(comparisons.constant[bit]) % (1 << width)) ^ 1 << (width - 1)
    return float_key(comparisons.value(bit), column)


def float_key(value: float | int, column: Column) -> int:
    """A floating point number as a whole one of the same order: all bits inverted of a negative one, else the sign."""
    width = column.dtype.itemsize * 8
    bits = int(np.asarray(value, column.dtype).view(f"<u{column.dtype.itemsize}"))
    if value == 0:
        return 1 << (width - 1)
    return ~bits % (1 << width) if bits >> (width - 1) else bits | 1 << (width - 1)
