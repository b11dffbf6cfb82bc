"""State bits that need no register go, and nothing else changes; ABC agrees."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from lgn_lightning.circuit import CircuitBuilder, SequentialCircuit, optimize_for_export
from lgn_lightning.circuit.check.prove_sequential import prove_reduced, prove_sequential
from lgn_lightning.circuit.net.rewire import ONE, ZERO
from lgn_lightning.circuit.passes.state import UNREAD, find_state, reduce_state
from tests.circuit.random_streams import random_sequences, random_stream, streams
from tests.circuit.tools import needs_abc


def wired(following: str, initial: list[bool]) -> SequentialCircuit:
    """A circuit of one input x whose state bits become what a letter each says, and whose output is bit 0."""
    builder = CircuitBuilder()
    x, *state = builder.inputs(1 + len(initial)).tolist()
    made = {"0": builder.constant(False), "1": builder.constant(True), "x": x}
    made |= {chr(ord("a") + i): bit for i, bit in enumerate(state)}
    made["p"] = int(builder.gates([6], [x], [state[0]])[0])  # parity of x and bit 0
    made["q"] = int(builder.gates([6], [state[1]], [x])[0])  # likewise of bit 1
    step = builder.finish([state[0], *(made[letter] for letter in following)])
    return SequentialCircuit(1, step, np.array(initial), 1)


def test_constants_equal_and_unread_bits_are_found() -> None:
    # a: parity; b: the same from its own copy; c: stays 1; d: reads c alone, so 1; e: a copy of x that nobody reads.
    circuit = wired("pqccx", [False, False, True, True, False])
    source, kept = find_state(circuit)
    assert source.tolist() == [0, 0, ONE, ONE, UNREAD]
    assert kept.tolist() == [0]
    small = reduce_state(circuit)
    assert (small.num_state, small.num_gates) == (1, 1)
    other = wired("pqccx", [False, True, True, False, False])  # b is not a: it begins otherwise
    source, kept = find_state(other)
    assert source.tolist() == [0, UNREAD, ONE, UNREAD, UNREAD]
    assert find_state(wired("bbccx", [False, False, False, True, False]))[0].tolist()[0] == ZERO


def test_a_bit_that_changes_once_is_no_constant() -> None:
    source, _ = find_state(wired("bc1", [False, False, False]))
    assert source.tolist() == [0, 1, 2]


@settings(max_examples=10, deadline=None)
@given(streams)
def test_scores_stay(circuit: SequentialCircuit) -> None:
    small = circuit.optimize()
    assert small.num_state <= circuit.num_state
    x = random_sequences(circuit, 64, 40)
    assert np.array_equal(small.every_step(x), circuit.every_step(x))
    assert circuit.verify(small, steps=20)


@needs_abc
@settings(max_examples=6, deadline=None)
@given(streams)
def test_abc_proves_it(circuit: SequentialCircuit) -> None:
    small, _ = optimize_for_export(circuit)
    assert prove_reduced(circuit, small)
    assert prove_sequential(circuit, circuit)


@needs_abc
def test_what_differs_is_found() -> None:
    circuit = random_stream(3, gates=40)
    begins = circuit.with_step(circuit.step, ~circuit.initial)
    assert not prove_sequential(circuit, begins)
    gates = circuit.step.gates.copy()
    gates[circuit.step.outputs.max() - circuit.step.num_inputs] ^= 15
    other = circuit.with_step(circuit.step.with_gates(gates, circuit.step.operands, circuit.step.outputs))
    assert not prove_sequential(circuit, other)
    assert not circuit.verify(other)
