from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, CircuitError, CompiledCircuit, export_circuit
from tests.circuit.random_circuits import image_circuit
from tests.circuit.tools import STRICT, check_library


def test_exported_files(tmp_path) -> None:
    circuit = image_circuit()
    exported = export_circuit(circuit, tmp_path / "out", "epoch=3-step=7", ("library", "circuit"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(exported.sha256())
    assert Circuit.load(exported.files["circuit"]) == circuit
    check_library(circuit, CompiledCircuit(exported.files["library"], exported.name))
    assert CompiledCircuit(exported.files["library"], exported.name).class_names == circuit.class_names
    header = exported.files["header"]
    sizes = "EPOCH_3_STEP_7_NUM_PIXELS == 15 && EPOCH_3_STEP_7_WORD_BITS == 64"
    (tmp_path / "use.cpp").write_text(
        f'#include "{header}"\nint main() {{ int a[{sizes} ? 1 : -1]; return sizeof a == 0; }}\n'
    )
    if shutil.which("g++"):
        subprocess.run(["g++", *STRICT, "-fsyntax-only", tmp_path / "use.cpp"], check=True)
    pixels = np.zeros((3, 1, 3, 5), np.uint8)
    other = export_circuit(circuit, tmp_path / "rtl", "net", ("verilog", "blif", "aiger"), pipeline=2, samples=pixels)
    assert {path.name for path in other.files.values()} == {"net.v", "net_tb.v", "net.blif", "net.aig"}
    assert all(path.stat().st_size for path in other.files.values())
    with pytest.raises(CircuitError, match="unknown format pdf"):
        export_circuit(circuit, tmp_path, "net", ("pdf",))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/tmp/x", "a/"])
def test_names_that_are_no_file_name(tmp_path, name: str) -> None:
    with pytest.raises(CircuitError, match="name="):
        export_circuit(image_circuit(), tmp_path / "nm", name)
    assert not list(tmp_path.iterdir())
