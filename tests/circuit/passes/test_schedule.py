from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from lgn_lightning.circuit import Circuit
from lgn_lightning.circuit.native import chain_order
from lgn_lightning.circuit.passes.schedule import reorder
from tests.circuit.random_circuits import circuits2, random_bits


@settings(deadline=None, max_examples=30)
@given(circuit=circuits2)
def test_chain_order_is_topological(circuit: Circuit) -> None:
    circuit = circuit.remove_dead_gates()
    order = chain_order(circuit)
    assert np.array_equal(np.sort(order), np.arange(circuit.num_gates))
    moved = reorder(circuit, order)  # Circuit refuses operands that come later
    bits = random_bits(circuit, 64)
    assert np.array_equal(moved.scores(bits), circuit.scores(bits))
