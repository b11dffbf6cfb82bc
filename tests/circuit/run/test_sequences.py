"""Circuits with state over sequences: every engine gives what one bit at a time gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from lgn_lightning.base.columns import Column, Comparisons, Op
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
    for scores in (circuit.scores, circuit.every_step, circuit.compile().every_step):
        with pytest.raises(CircuitError, match="sequence 2 has a step that is padding"):
            scores(padded)
    with pytest.raises(CircuitError, match="sequence 2 has a step that is padding"):
        circuit.scores(padded, lengths)
    padded[2] = 255
    for scores in (circuit.scores, circuit.every_step):
        with pytest.raises(CircuitError, match="sequence 2 has no step"):
            scores(padded)


@pytest.mark.parametrize("readout", ["last", "sum"])
def test_no_step_is_taken_behind_the_end(readout: str) -> None:
    circuit = random_stream(readout=readout)
    x = random_sequences(circuit, 4, 6)
    ends = np.array([6, 1, 3, 2])
    there = np.arange(6) < ends[:, None]
    wanted = circuit.every_step(x)
    places = np.minimum(np.arange(6), ends[:, None] - 1)
    behind = 0 if readout == "sum" else np.take_along_axis(wanted, places[:, :, None], 1)
    wanted = np.where(there[:, :, None], wanted, behind)
    padded = np.where(there[:, :, None], x, 255).astype(np.uint8)
    assert np.array_equal(circuit.every_step(padded), wanted)
    assert np.array_equal(circuit.every_step(x, ends), wanted)
    assert np.array_equal(circuit.compile().every_step(padded), wanted)


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_whole_numbers_are_no_padding(kind: str) -> None:
    constants = np.arange(-3, 3) if kind == "int32" else (np.arange(-3, 3) + 0.5).view(np.int64)
    bits = Comparisons((Column("a", kind),), np.zeros(6), np.full(6, Op.GREATER), constants)
    circuit = replace(random_stream(inputs=6), comparisons=bits)
    x = np.array([[[2], [-1], [-1]], [[0], [-1], [1]]])
    wanted = circuit.scores(x.astype(np.float64))
    for dtype in (np.int8, np.int16, np.int32, np.int64, np.float32):
        assert np.array_equal(circuit.scores(x.astype(dtype)), wanted), dtype
        assert np.array_equal(circuit.compile()(x.astype(dtype)), wanted), dtype
    for dtype in (np.uint8, np.uint16, np.uint32):
        most = np.full((1, 2, 1), np.iinfo(dtype).max, dtype)
        assert np.array_equal(circuit.scores(most), circuit.scores(most.astype(np.float64))), dtype
    rows = x.astype(kind).view(np.uint8).copy()
    rows[0, 2] = rows[1, 1:] = 255
    wanted = circuit.scores(x, [2, 1] if kind == "float32" else [1, 1])
    assert np.array_equal(circuit.scores(rows), wanted)
    assert np.array_equal(circuit.scores(rows.view(circuit.comparisons.row_dtype)[..., 0]), wanted)
    assert circuit.scores(x[:0].astype(np.float32)).shape == circuit.scores(rows[:0]).shape == (0, 3)


def test_what_is_no_sequence_is_refused() -> None:
    circuit = random_stream(inputs=6)
    x = random_sequences(circuit, 4, 6)
    for bad, message in (
        (x[0], "sequences are"),
        (x[:, :0], "no step"),
        (x[:, :, :5], r"samples must be bool \[N, 6\]"),
        (x.astype(np.float32), "convert bits first"),
        (np.full((4, 6, 6), 7, np.uint8), "0 or 1, and 255"),
        (np.where(np.arange(6) == 2, 255, x).astype(np.uint8), "padding, in all of their bits"),
    ):
        with pytest.raises(CircuitError, match=message):
            circuit.scores(bad)
    for lengths in ([1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 7], [1.0, 2.0, 3.0, 4.0]):
        with pytest.raises(CircuitError, match="lengths"):
            circuit.scores(x, lengths)
