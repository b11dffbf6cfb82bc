from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lgn_lightning.circuit import CircuitError, Decoding, LoopedCircuit
from lgn_lightning.circuit.check.verify import differences_around
from tests.circuit.random_circuits import image_circuit, random_bits, random_circuit
from tests.circuit.random_conv_nets import tree_net


@pytest.mark.parametrize("inputs", [6, 40])
def test_equal_circuits(inputs: int) -> None:
    circuit = random_circuit(inputs=inputs)
    result = circuit.verify(circuit.optimize(3))
    assert result
    assert result.exhaustive == (inputs == 6)
    assert result.samples == (64 if inputs == 6 else 1 << 14)
    assert result.counterexample is None


@pytest.mark.parametrize("inputs", [6, 40])
def test_a_changed_gate_is_found(inputs: int) -> None:
    circuit = random_circuit(inputs=inputs)
    gates = circuit.gates.copy()
    live = int(circuit.outputs[circuit.outputs >= inputs][0]) - inputs
    gates[live] ^= 15
    changed = replace(circuit, gates=gates)
    result = circuit.verify(changed)
    assert not result
    assert result.counterexample is not None
    sample = result.counterexample[None]
    assert not np.array_equal(circuit.scores(sample), changed.scores(sample))


def test_samples_of_the_user_are_tried_too() -> None:
    # An AND of 40 inputs differs from constant 0 on one input alone, which no random sample hits.
    inputs = 40
    node = np.arange(inputs, 2 * inputs - 1, dtype=np.int32)
    circuit = replace(
        random_circuit(inputs=inputs, gates=inputs - 1),
        gates=np.ones(inputs - 1, np.uint8),
        a=np.concatenate([[0], node[:-1]]).astype(np.int32),
        b=np.arange(1, inputs, dtype=np.int32),
        outputs=node[-1:].copy(),
        num_classes=1,
    )
    zero = replace(circuit, gates=np.concatenate([circuit.gates[:-1], [0]]).astype(np.uint8))
    assert circuit.verify(zero)
    assert not circuit.verify(zero, np.ones((1, inputs), bool))


def test_circuits_that_cannot_be_compared() -> None:
    with pytest.raises(CircuitError, match="cannot be compared"):
        random_circuit(inputs=3).verify(random_circuit(inputs=4))
    assert random_bits(random_circuit(), 2).shape == (2, 12)


def test_looped_circuits_are_compared_with_flat_ones() -> None:
    looped = LoopedCircuit.from_module(tree_net())
    assert looped.verify(looped.optimize().unroll())
    outputs = looped.outputs.copy()
    outputs[0] = outputs[-1]
    assert not looped.verify(replace(looped, tail=replace(looped.tail, outputs=outputs)))


def test_what_is_around_the_gates_is_compared() -> None:
    circuit = image_circuit()
    assert circuit.levels is not None
    darker = replace(circuit, levels=circuit.levels // 2)
    assert differences_around(circuit, darker) == ["thresholds"]
    with pytest.raises(CircuitError, match="read samples in different ways: they differ in thresholds"):
        circuit.verify(darker)
    names = [f"class {c}" for c in range(circuit.num_classes)]
    swapped = replace(circuit, class_names=tuple(names[::-1]), tau=9.0)
    assert differences_around(replace(circuit, class_names=tuple(names)), swapped) == ["tau", "names of classes"]
    assert differences_around(replace(circuit, class_names=None), swapped) == ["tau"]  # only one has names
    assert circuit.verify(swapped)  # equal scores
    labels = circuit.with_decoding(Decoding("labels", *((1,) * circuit.num_classes for _ in range(3))))
    assert differences_around(circuit, labels) == ["decisions"]
    plain = replace(circuit, levels=None, image_shape=None)
    assert differences_around(plain, circuit) == []
    assert circuit.verify(plain)
