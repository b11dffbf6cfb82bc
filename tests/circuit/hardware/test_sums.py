from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.circuit.hardware.decision import exceeds
from lgn_lightning.circuit.hardware.nodes import Bit, Nodes
from lgn_lightning.circuit.hardware.sums import total
from lgn_lightning.circuit.net.rewire import ONE, ZERO


def values(nodes: Nodes, inputs: list[int]) -> dict[Bit, int]:
    """Every node's value, one node at a time."""
    known = {ZERO: 0, ONE: 1, **dict(enumerate(inputs))}
    for index, (table, operands) in enumerate(zip(nodes.tables, nodes.operands, strict=True)):
        entry = sum(known[operand] << 2 - place for place, operand in enumerate(operands))
        known[nodes.num_inputs + index] = table >> (7 - entry) & 1
    return known


@given(
    columns=st.lists(st.lists(st.integers(-2, 11), max_size=25), min_size=1, max_size=4),
    width=st.integers(1, 9),
    bits=st.lists(st.integers(0, 1), min_size=12, max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_sums_of_any_bits(columns: list[list[int]], width: int, bits: list[int]) -> None:
    nodes = Nodes(12)
    result = total(nodes, columns, width)
    known = values(nodes, bits)
    wanted = sum(known[bit] << weight for weight, column in enumerate(columns) for bit in column)
    assert len(result) == width
    assert sum(known[bit] << place for place, bit in enumerate(result)) == wanted % (1 << width)


@given(
    pairs=st.lists(st.tuples(st.integers(-2, 9), st.integers(-2, 9)), max_size=14),
    bits=st.lists(st.integers(0, 1), min_size=10, max_size=10),
    late=st.lists(st.integers(0, 20), min_size=10, max_size=10),
)
@settings(max_examples=200, deadline=None)
def test_comparisons_of_bits_that_come_early_or_late(
    pairs: list[tuple[int, int]], bits: list[int], late: list[int]
) -> None:
    nodes = Nodes(10, late)
    result = exceeds(nodes, [x for x, _ in pairs], [y for _, y in pairs])
    known = values(nodes, bits)
    numbers = [sum(known[pair[side]] << place for place, pair in enumerate(pairs)) for side in (0, 1)]
    assert known[result] == (numbers[0] > numbers[1])


@pytest.mark.parametrize("many", [6, 36, 400])
def test_a_compressor_takes_a_table_for_each_bit_that_goes(many: int) -> None:
    nodes = Nodes(many)
    width = many.bit_length()
    total(nodes, [list(range(many))], width)
    reads: dict[int, set[Bit]] = {}
    for cell, operands in zip(nodes.cells, nodes.operands, strict=True):
        outside = {bit for bit in operands if bit < many or nodes.cells[bit - many] != cell}
        reads.setdefault(cell, set()).update(outside)
    assert max(map(len, reads.values())) <= 6
    results = np.unique(nodes.cells).size * 3
    assert results <= (many - width) * 1.1 + 8
