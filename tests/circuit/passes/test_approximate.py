from __future__ import annotations

import numpy as np
import pytest

from lgn_lightning.circuit import CircuitError
from lgn_lightning.circuit.net.decoding import Decoding
from lgn_lightning.circuit.passes.approximate import leave_out_bits
from tests.circuit.random_circuits import gates_of, random_circuit


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("arity", [2, 3])
def test_decisions_stay_and_bits_go(share: float, arity: int) -> None:
    circuit = random_circuit(1, arity=arity, inputs=12, gates=300, classes=4, group=30).remove_dead_gates()
    samples = np.random.default_rng(0).integers(0, 2, (500, 12)).astype(np.bool_)
    smaller, left_out, changed = leave_out_bits(circuit, samples, share)
    differs = int((smaller.predict(samples) != circuit.predict(samples)).sum())
    assert differs == changed <= share * len(samples)
    assert left_out > 0
    assert smaller.num_gates < circuit.num_gates + 2  # the constants are gates
    assert (smaller.num_inputs, smaller.outputs.size) == (circuit.num_inputs, circuit.outputs.size)
    if share:
        assert left_out > leave_out_bits(circuit, samples)[1]


def test_a_bit_that_always_matters_stays() -> None:
    circuit = gates_of([(3, 0, 1), (12, 0, 1)], [3, 4])  # x0, and not x0
    samples = np.array([[0, 0, 0], [1, 0, 0]], np.bool_)
    smaller, left_out, _ = leave_out_bits(circuit, samples)
    assert left_out == 1  # x0 against a constant says as much
    assert np.array_equal(smaller.predict(samples), circuit.predict(samples))


def test_labels_and_numbers() -> None:
    circuit = random_circuit(2, classes=3, group=20)
    samples = np.random.default_rng(0).integers(0, 2, (200, circuit.num_inputs)).astype(np.bool_)
    labels = circuit.with_decoding(Decoding("labels", (8, 9, 10), (1.0,) * 3, (0.0,) * 3))
    smaller, left_out, _ = leave_out_bits(labels, samples)
    assert left_out > 0
    assert np.array_equal(smaller.predict(samples), labels.predict(samples))
    with pytest.raises(CircuitError, match="numbers"):
        leave_out_bits(circuit.with_decoding(Decoding("numbers", (), (1.0,) * 3, (0.0,) * 3)), samples)
