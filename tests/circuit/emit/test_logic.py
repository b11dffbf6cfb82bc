from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lgn_lightning.circuit import CircuitError
from lgn_lightning.circuit.check import tools
from lgn_lightning.circuit.check.prove import prove, prove_files
from lgn_lightning.circuit.check.tools import ABC_NAMES, ToolError, find_abc
from lgn_lightning.circuit.emit.logic import emit_aiger, emit_blif
from tests.circuit.random_circuits import random_circuit
from tests.circuit.tools import needs_abc


@needs_abc
def test_aiger_and_blif_say_the_same(tmp_path) -> None:
    # Every gate id on every pair of operands, among them equal ones.
    a, b = (part.ravel() for part in np.meshgrid([0, 1, 2], [0, 1, 2]))
    circuit = replace(
        random_circuit(inputs=3, gates=144),
        gates=np.repeat(np.arange(16), 9).astype(np.uint8),
        a=np.tile(a, 16).astype(np.int32),
        b=np.tile(b, 16).astype(np.int32),
        outputs=np.arange(147, dtype=np.int32),
        num_classes=1,
    )
    (tmp_path / "net.aig").write_bytes(emit_aiger(circuit))
    (tmp_path / "net.blif").write_text(emit_blif(circuit))
    assert prove_files(tmp_path / "net.aig", tmp_path / "net.blif")


def test_blif_of_three_inputs() -> None:
    circuit = replace(random_circuit(inputs=3, gates=1, arity=3), gates=np.array([0b00000001], np.uint8))
    circuit = replace(
        circuit,
        a=np.array([0], np.int32),
        b=np.array([1], np.int32),
        c=np.array([2], np.int32),
        outputs=np.array([3], np.int32),
        num_classes=1,
    )
    assert ".names x[0] x[1] x[2] n0\n111 1\n.names n0 y0\n1 1\n.end\n" in emit_blif(circuit)


def test_errors(monkeypatch) -> None:
    with pytest.raises(CircuitError, match="two-input"):
        emit_aiger(random_circuit(arity=3))
    with pytest.raises(CircuitError, match="num_inputs: 12 and 13"):
        prove(random_circuit(), random_circuit(inputs=13))
    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    with pytest.raises(ToolError, match=ABC_NAMES[0]):
        find_abc()
