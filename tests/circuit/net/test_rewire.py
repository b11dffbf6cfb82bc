"""Circuits on other inputs."""

from __future__ import annotations

import numpy as np

from lgn_lightning.circuit.net.rewire import ONE, ZERO, rewired
from tests.circuit.random_circuits import random_bits, random_circuit


def test_inputs_are_permuted_joined_and_fixed() -> None:
    circuit = random_circuit(inputs=5)
    source = np.array([2, ZERO, 0, ONE, 2])
    moved = rewired(circuit, source, 3)
    bits = random_bits(moved, 50)
    read = np.stack([bits[:, 2], np.zeros(50, bool), bits[:, 0], np.ones(50, bool), bits[:, 2]], axis=1)
    assert np.array_equal(moved.scores(bits), circuit.scores(read))
    assert type(moved) is type(circuit)


def test_without_constants_no_gate_is_added() -> None:
    circuit = random_circuit(inputs=3)
    assert rewired(circuit, np.array([4, 0, 1]), 6, constants=False).num_gates == circuit.num_gates
