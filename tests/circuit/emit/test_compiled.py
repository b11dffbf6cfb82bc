from __future__ import annotations

import numpy as np
import pytest

from lgn_lightning.circuit import CircuitError, CompiledCircuit
from lgn_lightning.circuit.emit.compiler import CompilerError, compile_source
from tests.circuit.random_circuits import random_bits, random_circuit


def test_packed_words(tmp_path) -> None:
    circuit = random_circuit()
    compile_source(circuit.to_c(word_bits=16), tmp_path / "net.so")
    library = CompiledCircuit(tmp_path / "net.so")
    bits = random_bits(circuit, 50)
    padded = np.zeros((64, 12), bool)
    padded[:50] = bits
    words = (padded.reshape(4, 16, 12) << np.arange(16)[None, :, None]).sum(axis=1).astype(np.uint16)
    assert np.array_equal(library.packed(words, 50), circuit.scores(bits))
    with pytest.raises(CircuitError, match=r"int16 \[4, 12\]"):
        library.packed(words.astype(np.int32), 50)


def test_a_file_that_is_no_library(tmp_path) -> None:
    with pytest.raises(CompilerError, match="no library at"):
        CompiledCircuit(tmp_path / "none.so")
    (tmp_path / "x.so").write_text("x")
    with pytest.raises(CompilerError, match="not a compiled circuit"):
        CompiledCircuit(tmp_path / "x.so")
