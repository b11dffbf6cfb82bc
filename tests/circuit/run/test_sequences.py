"""Circuits with state over sequences: every engine gives what one bit at a time gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from lgn_lightning.circuit import CircuitError, SequenceEngine, SequentialCircuit
from lgn_lightning.circuit.simulate import pack_bits
from tests.circuit.engines import AVAILABLE
from tests.circuit.random_streams import random_sequences, random_stream, slow_sequence, streams


@settings(max_examples=15, deadline=None)
@given(streams)
def test_simulation_is_that_of_one_bit_at_a_time(circuit: SequentialCircuit) -> None:
    x = random_sequences(circuit, 3, 9)
    each = np.stack([slow_sequence(circuit, sequence) for sequence in x])
    assert np.array_equal(circuit.every_step(x), each)
    lengths = np.array([1, 9, 4])
    for count, end, scores in zip(range(3), lengths, circuit.scores(x, lengths), strict=True):
        wanted = each[count, :end].sum(0) if circuit.readout == "sum" else each[count, end - 1]
        assert np.array_equal(scores, wanted)


@settings(max_examples=10, deadline=None)
@given(streams)
def test_all_engines_agree(circuit: SequentialCircuit) -> None:
    x = random_sequences(circuit, 130, 7)
    lengths = np.random.default_rng(0).integers(1, 8, len(x))
    wanted, whole = circuit.scores(x, lengths), circuit.scores(x)
    words = np.stack([pack_bits(x[:, t]) for t in range(7)])
    for name, isa in AVAILABLE:
        engine = SequenceEngine(circuit, name, isa=isa)
        assert np.array_equal(engine(x, lengths), wanted), name
        assert np.array_equal(engine.packed(words, len(x)), whole), name
        assert np.array_equal(engine.every_step(x), circuit.every_step(x)), name
        assert np.array_equal(engine.predict(x), whole.argmax(1)), name


def test_padding_stands_at_the_end() -> None:
    circuit = random_stream()
    x = random_sequences(circuit, 4, 6)
    lengths = np.array([6, 1, 3, 2])
    padded = np.where(np.arange(6)[:, None] < lengths[:, None, None], x, 255).astype(np.uint8)
    assert np.array_equal(circuit.scores(padded), circuit.scores(x, lengths))
    padded[2, 1] = 255
    with pytest.raises(CircuitError, match="sequence 2 has a step that is padding"):
        circuit.scores(padded)
    padded[2] = 255
    with pytest.raises(CircuitError, match="sequence 2 has no step"):
        circuit.scores(padded)


def test_what_is_no_sequence_is_refused() -> None:
    circuit = random_stream(inputs=6)
    x = random_sequences(circuit, 4, 6)
    for bad, message in (
        (x[0], "sequences are"),
        (x[:, :0], "no step"),
        (x[:, :, :5], r"samples must be bool \[N, 6\]"),
        (x.astype(np.float32), "convert bits first"),
        (np.full((4, 6, 6), 7, np.uint8), "0 or 1, and 255"),
    ):
        with pytest.raises(CircuitError, match=message):
            circuit.scores(bad)
    for lengths in ([1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 7], [1.0, 2.0, 3.0, 4.0]):
        with pytest.raises(CircuitError, match="lengths"):
            circuit.scores(x, lengths)
