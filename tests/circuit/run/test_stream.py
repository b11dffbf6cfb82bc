"""Streams: one step at a call, and their state in files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from lgn_lightning.base.columns import Column, Comparisons, Op
from lgn_lightning.circuit import CircuitError, SequentialCircuit
from tests.circuit.random_streams import random_sequences, random_stream, streams


@settings(max_examples=10, deadline=None)
@given(streams)
def test_steps_are_those_of_a_sequence(circuit: SequentialCircuit) -> None:
    x = random_sequences(circuit, 3, 8)
    each = circuit.every_step(x)
    wanted = each.cumsum(1) if circuit.readout == "sum" else each
    one, many = circuit.stream(), circuit.stream(3)
    for t in range(8):
        assert np.array_equal(one.step(x[0, t]), wanted[0, t])
        assert np.array_equal(many.step(x[:, t]), wanted[:, t])
        assert np.array_equal(many.decide(), wanted[:, t].argmax(1))
    one.reset()
    assert np.array_equal(one.state[0], circuit.initial)
    assert np.array_equal(one.step(x[1, 0]), wanted[1, 0])


def test_padding_is_no_step() -> None:
    circuit = random_stream()
    streams, x = circuit.stream(3), random_sequences(circuit, 3, 2).astype(np.uint8)
    streams.step(x[:, 0])
    state = streams.state
    x[1, 1] = 255
    with pytest.raises(CircuitError, match=r"stream 1 got a step that is padding .* at step 1"):
        streams.step(x[:, 1])
    assert streams.steps == 1
    assert np.array_equal(streams.state, state)
    with pytest.raises(CircuitError, match="stream 0 got a step that is padding"):
        circuit.stream().step(x[1, 1])


def test_missing_values_are_a_step_of_a_stream() -> None:
    bits = Comparisons((Column("a", "float32"),), np.zeros(6), np.full(6, Op.GREATER), np.arange(6.0).view(np.int64))
    circuit = replace(random_stream(), comparisons=bits)
    stream = circuit.stream()
    x = np.array([[2.5], [np.nan], [4.5]], np.float32)
    for row, wanted in zip(x, circuit.every_step(x[None])[0], strict=True):
        assert np.array_equal(stream.step(row), wanted)
    with pytest.raises(CircuitError, match="stream 0 got a step that is padding"):
        stream.step(np.full((1, 4), 255, np.uint8))


def test_a_saved_state_goes_on_where_it_was(tmp_path: Path) -> None:
    circuit = random_stream(readout="sum")
    x = random_sequences(circuit, 2, 10)
    stream = circuit.stream(2)
    for t in range(5):
        stream.step(x[:, t])
    stream.save(tmp_path / "state")
    wanted = [stream.step(x[:, t]) for t in range(5, 10)]
    other = circuit.stream(2, "numpy")
    other.load(tmp_path / "state")
    assert other.steps == 5
    assert np.array_equal([other.step(x[:, t]) for t in range(5, 10)], wanted)


def test_another_state_is_refused(tmp_path: Path) -> None:
    circuit, path = random_stream(), tmp_path / "state"
    circuit.stream().save(path)
    with pytest.raises(CircuitError, match="the state of another circuit"):
        random_stream(seed=5).stream().load(path)
    with pytest.raises(CircuitError, match="holds 1 streams and not 2"):
        circuit.stream(2).load(path)
    data = path.read_bytes()
    for bad, message in ((data[:40], "no file of a stream"), (data[:-1] + b"x", "corrupt"), (b"x" * 99, "no file of")):
        path.write_bytes(bad)
        with pytest.raises(CircuitError, match=message):
            circuit.stream().load(path)
    with pytest.raises(CircuitError, match="at least one"):
        circuit.stream(0)
    with pytest.raises(CircuitError, match=r"a step of 2 streams is \[2, …\]"):
        circuit.stream(2).step(np.zeros((3, 6), bool))
