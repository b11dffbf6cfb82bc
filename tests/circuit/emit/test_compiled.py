from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import of it fails
import numpy as np
from lgn_lightning.circuit import CompiledCircuit
library = CompiledCircuit("net.so")
bits = np.load("bits.npy")
np.save("scores.npy", library.scores(bits))
assert (library.predict(bits) == library.scores(bits).argmax(1)).all()
"""


def test_it_runs_without_torch(tmp_path: Path) -> None:
    circuit = random_circuit()
    compile_source(circuit.to_c(), tmp_path / "net.so")
    np.save(tmp_path / "bits.npy", random_bits(circuit, 50))
    run = [sys.executable, "-c", WITHOUT_TORCH]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "scores.npy"), circuit.scores(random_bits(circuit, 50)))
