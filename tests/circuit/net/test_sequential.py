"""Circuits with state as data and in files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from lgn_lightning.circuit import Circuit, CircuitError, SequentialCircuit, load_circuit
from lgn_lightning.circuit.file import circuit_from_bytes, circuit_to_bytes
from tests.circuit.random_circuits import random_circuit
from tests.circuit.random_streams import random_stream, streams


@settings(max_examples=10, deadline=None)
@given(streams)
def test_a_file_keeps_it(circuit: SequentialCircuit) -> None:
    named = circuit.with_class_names([f"c{i}" for i in range(circuit.num_classes)])
    assert circuit_from_bytes(circuit_to_bytes(named)) == named


def test_files_are_read_in_their_form(tmp_path: Path) -> None:
    circuit = random_stream()
    circuit.save(tmp_path / "a.lgn")
    assert isinstance(load_circuit(tmp_path / "a.lgn"), SequentialCircuit)
    assert SequentialCircuit.load(tmp_path / "a.lgn") == circuit
    with pytest.raises(CircuitError, match="holds a SequentialCircuit"):
        Circuit.load(tmp_path / "a.lgn")
    # What older releases say of it: they read versions up to 3.
    assert int.from_bytes((tmp_path / "a.lgn").read_bytes()[8:12], "little") == 4
    assert int.from_bytes(circuit_to_bytes(random_circuit())[8:12], "little") == 1


def test_parts_that_do_not_fit_are_refused() -> None:
    circuit = random_stream(inputs=6, state=5)
    for changes, message in (
        ({"initial": circuit.initial[:4]}, "takes 10 bits, and this one 11"),
        ({"num_inputs": 7}, "takes 12 bits"),
        ({"readout": "first"}, "readout must be"),
        ({"scan": "rows"}, "scan must be"),
        ({"num_classes": 5}, "do not split into 5"),
        ({"class_names": ("a",)}, "1 class names for 3"),
    ):
        with pytest.raises(CircuitError, match=message):
            replace(circuit, **changes)
    wide = replace(circuit.step, num_classes=1)
    with pytest.raises(CircuitError, match="a class of its own"):
        replace(circuit, step=wide)
    few = replace(circuit.step, outputs=circuit.step.outputs[:5], num_classes=5)
    with pytest.raises(CircuitError, match="gives no scores"):
        replace(circuit, step=few)
    assert np.array_equal(circuit.initial, replace(circuit, readout="sum").initial)
