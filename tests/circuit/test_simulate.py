from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from lgn_lightning.circuit import Circuit, CircuitError, LoopedCircuit
from lgn_lightning.circuit.simulate import pack_bits, unpack_bits
from tests.circuit.random_circuits import circuits, image_circuit, random_bits, random_circuit, slow_scores
from tests.circuit.random_conv_nets import tree_net


@settings(deadline=None, max_examples=30)
@given(circuits)
def test_simulation_agrees_with_one_gate_at_a_time(circuit: Circuit) -> None:
    bits = random_bits(circuit, 5)
    assert np.array_equal(circuit.scores(bits), slow_scores(circuit, bits))


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_packing_and_back(count: int) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (count, 7)).astype(bool)
    words = pack_bits(bits)
    assert words.shape == (7, -(-count // 64))
    for sample in range(count):
        assert np.array_equal(words[:, sample // 64] >> np.uint64(sample % 64) & np.uint64(1), bits[sample])
    assert np.array_equal(unpack_bits(words, count), bits)


def test_pixels_become_thresholds_in_feature_order() -> None:
    circuit = image_circuit()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 1, 3, 5)).astype(np.uint8)
    pixels[0, 0, 0, :3] = 63, 64, 200
    bits = np.concatenate([(pixels > level).reshape(9, -1) for level in (63, 200)], axis=1)
    assert np.array_equal(circuit.scores(pixels), circuit.scores(bits))
    assert np.array_equal(circuit.scores(pixels.reshape(9, 15)), circuit.scores(bits))


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((3, 11), bool),
        np.zeros((3, 12), np.uint8),
        np.zeros((3, 12), np.float32),
        np.zeros(12, bool),
    ],
)
def test_wrong_samples_are_refused(x: np.ndarray) -> None:
    with pytest.raises(CircuitError, match=r"bool \[N, 12\]"):
        random_circuit().scores(x)


def test_wrong_samples_of_looped_circuits_are_refused() -> None:
    looped = LoopedCircuit.from_module(tree_net())
    with pytest.raises(CircuitError, match=r"words must be uint64 \[768, w\]"):
        looped.simulate(np.zeros((3, 1), np.uint64))
    with pytest.raises(CircuitError, match="samples must be"):
        looped.scores(np.zeros((2, 1, 8, 8), np.uint8))
