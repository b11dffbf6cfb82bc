import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, Decoding, Engine
from lgn_lightning.report.importance import importance
from tests.circuit.random_circuits import random_bits, random_circuit


def flipped(circuit: Circuit, bits: np.ndarray, node: int) -> np.ndarray:
    other = bits.copy()
    other[:, node] = ~other[:, node]
    return circuit.predict(other)


@pytest.mark.parametrize("kind", ["argmax", "levels", "labels", "numbers"])
def test_flips_are_those_of_the_samples(kind: str) -> None:
    groups = 1 if kind == "levels" else 3
    parts = {
        "argmax": {},
        "levels": {"thresholds": (3, 6), "scale": (1.0,), "offset": (0.0, 0.0)},
        "labels": {"thresholds": (3, 4, 5), "scale": (1.0,) * 3, "offset": (0.0,) * 3},
        "numbers": {"scale": (0.5, -2.0, 1.0), "offset": (0.0,) * 3},
    }
    circuit = random_circuit(2, inputs=9, gates=25, classes=groups, group=8).with_decoding(
        Decoding(kind, **parts[kind])
    )
    bits = random_bits(circuit, 150)
    before = circuit.predict(bits)
    found = importance(Engine(circuit, "numpy"), bits, [np.arange(4), np.arange(4, 9)])
    changes = []
    for node in range(9):
        after = flipped(circuit, bits, node)
        change = np.abs(after - before) if kind == "numbers" else after != before
        changes.append(change.reshape(len(bits), -1).max(1).astype(float))
    assert found.bits == pytest.approx([change.mean() for change in changes])
    assert found.groups == pytest.approx([np.max(changes[:4], 0).mean(), np.max(changes[4:], 0).mean()])
    assert found.groups.max() > 0


def test_inputs_that_are_not_read_change_nothing() -> None:
    none = np.zeros(1, np.int32)
    circuit = Circuit(3, np.array([3], np.uint8), none, none, np.array([3, 0], np.int32), 2)  # a copy of input 0
    found = importance(Engine(circuit, "numpy"), random_bits(circuit, 50), [np.array([0]), np.array([1, 2])])
    assert found.bits[1:].tolist() == [0, 0]
    assert found.groups[1] == 0
