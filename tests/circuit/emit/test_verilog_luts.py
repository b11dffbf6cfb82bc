from __future__ import annotations

import re

import numpy as np
import pytest

from lgn_lightning.circuit import CircuitError
from lgn_lightning.circuit.check.prove_verilog import prove_verilog, read_verilog
from lgn_lightning.circuit.check.tools import ABC_NAMES, run_yosys
from lgn_lightning.circuit.emit.verilog import emit_test_bench, emit_verilog
from lgn_lightning.circuit.emit.verilog_luts import LUT_CELLS, as_yosys_cells
from tests.circuit.emit.test_verilog import cases, simulate
from tests.circuit.random_circuits import image_circuit, random_circuit
from tests.circuit.tools import needs


@needs("iverilog", "vvp")
@pytest.mark.parametrize("luts", list(LUT_CELLS))
@pytest.mark.parametrize("pipeline", [0, 2])
def test_simulated_tables_agree(tmp_path, luts: str, pipeline: int) -> None:
    for circuit, samples in cases():
        verilog = emit_verilog(circuit, name="net", pipeline=pipeline, luts=luts)
        assert (verilog.latency > 0) == (pipeline > 0)
        bench = emit_test_bench(circuit, verilog, samples, name="net")
        assert simulate(tmp_path, verilog.text, bench).strip() == "PASS 40 vectors"


@needs("yosys", ABC_NAMES[0])
@pytest.mark.parametrize("luts", ["lut6", "xilinx", "ecp5"])
@pytest.mark.parametrize("pipeline", [0, 2])
def test_the_whole_file_is_proven_and_a_changed_table_is_found(tmp_path, luts: str, pipeline: int) -> None:
    circuit, path = image_circuit(), tmp_path / "net.v"
    text = emit_verilog(circuit.optimize(2), name="net", pipeline=pipeline, luts=luts).text
    path.write_text(text)
    assert prove_verilog(circuit, path)
    name, verilog = read_verilog(circuit, path)
    assert (name, verilog.latency > 0) == ("net", pipeline > 0)
    parts = re.split(r"(?<='h)([0-9a-f]+)(?=\))", text)
    last = len(parts) - 2  # the last table: a bit of the decision or of a score
    parts[last] = f"{int(parts[last], 16) ^ 1:x}"
    path.write_text("".join(parts))
    proof = prove_verilog(circuit, path)
    assert not proof
    assert proof.counterexample is not None
    assert proof.counterexample.shape == (circuit.num_inputs,)


@needs("yosys")
@pytest.mark.parametrize(
    ("luts", "script"), [("lut6", "synth -flatten -lut 6"), ("xilinx", "synth_xilinx -flatten -noiopad -noclkbuf")]
)
def test_yosys_keeps_the_tables(tmp_path, luts: str, script: str) -> None:
    text = emit_verilog(random_circuit(1, classes=3, group=40).optimize(2), name="net", luts=luts).text
    (tmp_path / "net.v").write_text(text)
    log = run_yosys(f"read_verilog net.v; {script} -top net; stat", tmp_path, 60)
    cells = re.findall(r"^\s+(?:net_lut|LUT)[1-6]\s+(\d+)$", log[log.rindex("Number of cells") :], re.MULTILINE)
    wanted = re.search(r"^// Module net: (\d+) lookup tables", text, re.MULTILINE)
    assert wanted is not None
    assert sum(map(int, cells)) == int(wanted[1]) > 0


def test_bad_luts() -> None:
    with pytest.raises(CircuitError, match="luts must be one of"):
        emit_verilog(random_circuit(), luts="lut9")


def test_unused_inputs_are_zero_and_change_nothing() -> None:
    line = LUT_CELLS["ecp5"].instance("net", "lut0", "t0", 0b0110, ["x[0]", "x[1]"])
    assert "16'h6666" in line
    assert line.count("1'b0") == 2
    assert np.all([name.isidentifier() for name in LUT_CELLS])


@pytest.mark.parametrize("luts", list(LUT_CELLS))
def test_all_instances_become_cells_of_yosys(luts: str) -> None:
    text = emit_verilog(image_circuit().optimize(2), name="net", luts=luts).text
    cells = as_yosys_cells(text)
    wanted = re.search(r": (\d+) lookup tables", text)
    assert wanted is not None
    assert cells.count("lgn_table #(") == int(wanted[1])
    assert set(re.findall(r"^    (\w+) #\(", cells, re.MULTILINE)) == {"lgn_table"}
