"""Circuit files keep what a circuit knows."""

from __future__ import annotations

import pytest

from lgn_lightning.circuit import LoopedCircuit
from lgn_lightning.circuit.file import circuit_from_bytes, circuit_to_bytes
from tests.circuit.net.test_looped import tree_net
from tests.circuit.random_circuits import image_circuit, random_circuit


@pytest.mark.parametrize("loops", [False, True])
def test_a_circuit_keeps_the_preparation_of_its_images(loops: bool) -> None:
    plain = LoopedCircuit.from_module(tree_net()) if loops else image_circuit()
    circuit = plain.with_preparation("resize")
    assert circuit != plain
    assert circuit_from_bytes(circuit_to_bytes(circuit)) == circuit
    assert b"preparation" not in circuit_to_bytes(plain)  # so that files are as they were before there was one
    assert circuit_from_bytes(circuit_to_bytes(plain)).preparation is None
    assert circuit.optimize().preparation == "resize"
    if isinstance(circuit, LoopedCircuit):
        assert circuit.unroll().optimize().preparation == "resize"
    assert random_circuit().with_preparation("resize").preparation is None  # it takes bits and no images
