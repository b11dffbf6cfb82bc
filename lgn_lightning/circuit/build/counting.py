"""Gates that count bits and compare the count with a number."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.gates import AND, OR, XOR


def function_of_count(builder: NetlistBuilder, nodes: NodeIds, values: Sequence[bool]) -> NodeIds:
    """Adds gates for a function of how many bits are one.

    Args:
        builder: Where to.
        nodes: Bits to count, ``[n, m]``.
        values: Of the function at the counts 0 to m.

    Returns:
        Nodes of its value, ``[n]``.
    """
    steps = [count for count in range(1, len(values)) if values[count] != values[count - 1]]
    digits = _count(builder, [nodes[:, place] for place in range(nodes.shape[1])]) if steps else []
    value = np.full(len(nodes), builder.constant(values[0]), np.int32)
    for least in steps:
        value = _gates(builder, XOR, value, _at_least(builder, digits, least))
    return value


def _gates(builder: NetlistBuilder, gate: int, a: NodeIds, b: NodeIds) -> NodeIds:
    return builder.gates(np.full(len(a), gate, np.uint8), a, b)


def _count(builder: NetlistBuilder, column: list[NodeIds]) -> list[NodeIds]:
    """Binary digits of the number of ones, the lowest first: full and half adders, digit by digit."""
    digits = []
    while column:
        carries = []
        while len(column) > 1:
            a, b, *column = column
            half, carry = _gates(builder, XOR, a, b), _gates(builder, AND, a, b)
            if column:
                c, *column = column
                carry = _gates(builder, OR, carry, _gates(builder, AND, half, c))
                half = _gates(builder, XOR, half, c)
            column.append(half)  # behind the others, so that adders form a tree
            carries.append(carry)
        digits += column
        column = carries
    return digits


def _at_least(builder: NetlistBuilder, digits: list[NodeIds], least: int) -> NodeIds:
    """Whether a binary number is at least ``least`` > 0."""
    enough: NDArray[np.int32] | None = None  # of the lower digits; None stands for true
    for place, digit in enumerate(digits):
        if least >> place & 1:
            enough = digit if enough is None else _gates(builder, AND, digit, enough)
        elif enough is not None:
            enough = _gates(builder, OR, digit, enough)
    assert enough is not None
    return enough
