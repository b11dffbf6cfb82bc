"""Circuits of few inputs, built anew of their tables: the same function, never more gates."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.circuit import Circuit, CircuitBuilder
from lgn_lightning.circuit.passes.flat import simplify
from lgn_lightning.circuit.passes.tabulate import tabulate
from tests.circuit.random_circuits import random_circuit

small_circuits = st.builds(
    random_circuit,
    seed=st.integers(0, 2**31),
    inputs=st.integers(1, 10),
    gates=st.integers(0, 120),
    classes=st.integers(1, 3),
    group=st.integers(1, 4),
)


@settings(max_examples=60, deadline=None)
@given(small_circuits)
def test_all_inputs_give_the_same(circuit: Circuit) -> None:
    before = simplify(circuit)
    after = tabulate(before)
    assert after.num_gates <= before.num_gates
    assert after.verify(circuit).exhaustive
    assert after.verify(circuit).equal


def test_a_long_way_round_becomes_short() -> None:
    builder = CircuitBuilder()
    a, b, c, _ = builder.inputs(4).tolist()
    # (a and b) or (a and c) or (b and c), of minterms.
    terms = []
    for values in ((1, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)):
        ab = builder.gates([{(1, 1): 1, (1, 0): 2, (0, 1): 4}[values[:2]]], [a], [b])
        terms.append(int(builder.gates([1 if values[2] else 2], ab, [c])[0]))
    node = terms[0]
    for term in terms[1:]:
        node = int(builder.gates([7], [node], [term])[0])
    circuit = builder.finish([node])
    assert tabulate(circuit).num_gates <= 4 < simplify(circuit).num_gates


def test_wide_circuits_stay() -> None:
    circuit = random_circuit(1, inputs=30, gates=500)
    assert tabulate(circuit) is circuit
    assert np.array_equal(circuit.optimize().scores(np.eye(30, dtype=bool)), circuit.scores(np.eye(30, dtype=bool)))
