from __future__ import annotations

from dataclasses import replace

import pytest

from lgn_lightning.circuit.check.prove import prove
from tests.circuit.random_circuits import random_circuit
from tests.circuit.tools import needs_abc


@needs_abc
@pytest.mark.parametrize("seed", range(3))
def test_abc_proves_raw_optimised_and_mapped_equal(seed: int) -> None:
    circuit = random_circuit(seed, inputs=40, gates=600, group=30)
    assert prove(circuit, circuit.optimize(2))
    assert prove(circuit, circuit.optimize(3))


@needs_abc
def test_abc_finds_a_changed_gate() -> None:
    circuit = random_circuit()
    gates = circuit.gates.copy()
    gates[int(circuit.outputs.max()) - 12] ^= 15
    proof = prove(circuit, replace(circuit, gates=gates))
    assert not proof
    assert "NOT EQUIVALENT" in proof.log
