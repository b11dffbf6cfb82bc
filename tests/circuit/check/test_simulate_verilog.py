"""Verilog in Icarus Verilog, compared with its circuit."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit import emit_verilog
from lgn_lightning.circuit.check.simulate_verilog import run_bench, simulate_verilog
from lgn_lightning.circuit.check.tools import ToolError
from tests.circuit.random_circuits import changed, image_circuit

needs_icarus = pytest.mark.skipif(not (shutil.which("iverilog") and shutil.which("vvp")), reason="no iverilog")
VECTORS = np.random.default_rng(0).integers(0, 256, (8, 1, 3, 5)).astype(np.uint8)


@needs_icarus
@pytest.mark.parametrize("pipeline", [0, 3])
def test_equal_and_changed(pipeline: int) -> None:
    circuit = image_circuit()
    verilog = emit_verilog(circuit, name="net", pipeline=pipeline)
    result = simulate_verilog(circuit, verilog, VECTORS, "net")
    assert (result.equal, result.samples, result.counterexample) == (True, 8, None)
    other = changed(circuit)
    result = simulate_verilog(other, verilog, VECTORS, "net")
    assert not result.equal
    assert result.counterexample is not None
    bits = result.counterexample[None]
    assert not np.array_equal(circuit.scores(bits), other.scores(bits))


@needs_icarus
def test_verilog_that_icarus_refuses_is_an_error() -> None:
    circuit = image_circuit()
    verilog = emit_verilog(circuit, name="net")
    with pytest.raises(LgnError, match="refuses"):
        simulate_verilog(circuit, replace(verilog, text="module net (;"), VECTORS, "net")


def test_without_icarus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    circuit = image_circuit()
    with pytest.raises(ToolError, match="iverilog"):
        simulate_verilog(circuit, emit_verilog(circuit, name="net"), VECTORS, "net")


@needs_icarus
def test_a_simulation_ends_in_time() -> None:
    circuit = image_circuit()
    verilog = emit_verilog(circuit, name="net")
    endless = "module endless;\n    reg x = 0;\n    always #1 x = !x;\nendmodule\n"
    with pytest.raises(ToolError, match="did not end within 2 s"):
        run_bench(verilog.text, endless, "net", 2)
