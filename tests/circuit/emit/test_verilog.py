from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, CircuitError
from lgn_lightning.circuit.check.fpga_report import FpgaReport, fpga_report
from lgn_lightning.circuit.check.prove import prove_files
from lgn_lightning.circuit.check.tools import ABC_NAMES, ToolError
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.emit.verilog import emit_test_bench, emit_verilog, vector_order
from tests.circuit.random_circuits import image_circuit, random_bits, random_circuit


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def simulate(folder: Path, text: str, bench: str) -> str:
    (folder / "net.v").write_text(text)
    (folder / "net_tb.v").write_text(bench)
    subprocess.run(["iverilog", "-g2001", "-Wall", "-o", "net.vvp", "net.v", "net_tb.v"], cwd=folder, check=True)
    return subprocess.run(["vvp", "net.vvp"], cwd=folder, capture_output=True, text=True, check=True).stdout


def cases() -> list[tuple[Circuit, np.ndarray]]:
    plain, odd, mapped = random_circuit(), random_circuit(2, inputs=9, classes=7, group=13), random_circuit(4, arity=3)
    single = random_circuit(6, classes=1, group=1)
    image = image_circuit()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 3, 5)).astype(np.uint8)
    return [*((circuit, random_bits(circuit, 40)) for circuit in (plain, odd, mapped, single)), (image, pixels)]


@needs("iverilog", "vvp")
@pytest.mark.parametrize("pipeline", [0, 1, 3])
@pytest.mark.parametrize("number", range(5))
def test_simulated_verilog_agrees(tmp_path, number: int, pipeline: int) -> None:
    circuit, samples = cases()[number]
    verilog = emit_verilog(circuit, name="net", pipeline=pipeline)
    assert (verilog.latency > 0) == (pipeline > 0)
    bench = emit_test_bench(circuit, verilog, samples, name="net")
    assert simulate(tmp_path, verilog.text, bench).strip() == "PASS 40 vectors"


@needs("iverilog", "vvp")
def test_the_bench_finds_a_wrong_net(tmp_path) -> None:
    circuit = random_circuit()
    verilog = emit_verilog(random_circuit(seed=1), name="net")
    bench = emit_test_bench(circuit, verilog, random_bits(circuit, 20), name="net")
    assert "FAIL" in simulate(tmp_path, verilog.text, bench)


@needs("verilator")
@pytest.mark.parametrize("pipeline", [0, 2])
@pytest.mark.parametrize("number", range(5))
def test_verilator_finds_nothing(tmp_path, number: int, pipeline: int) -> None:
    circuit, _ = cases()[number]
    (tmp_path / "net.v").write_text(emit_verilog(circuit.remove_dead_gates(), name="net", pipeline=pipeline).text)
    top = "net_pixels" if circuit.levels is not None else "net"
    command = ["verilator", "--lint-only", "-Wall", "-Wno-DECLFILENAME", "--top-module", top, "net.v"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@needs("yosys", ABC_NAMES[0])
def test_verilog_read_by_yosys_is_proven_equal(tmp_path) -> None:
    circuit = random_circuit(1, inputs=30, gates=500, group=30)
    (tmp_path / "net.v").write_text(emit_verilog(circuit.optimize(2), name="net").text)
    (tmp_path / "raw.blif").write_text(emit_blif(circuit))
    script = "read_verilog net.v; hierarchy -top net_logic; proc; techmap; write_blif net.blif"
    subprocess.run(["yosys", "-q", "-p", script], cwd=tmp_path, check=True)
    assert prove_files(tmp_path / "raw.blif", tmp_path / "net.blif")


def test_vectors_let_every_class_win() -> None:
    scores = np.eye(4, dtype=np.int32)[[2, 2, 2, 0, 2, 3, 0]]
    assert vector_order(scores).tolist() == [3, 0, 5, 6, 1, 2, 4]


def test_bad_options() -> None:
    with pytest.raises(CircuitError, match="Verilog module"):
        emit_verilog(random_circuit(), name="3x")
    with pytest.raises(CircuitError, match="pipeline"):
        emit_verilog(random_circuit(), pipeline=-1)
    circuit = random_circuit()
    with pytest.raises(CircuitError, match="at least one sample"):
        emit_test_bench(circuit, emit_verilog(circuit), np.zeros((0, 12), bool))


@needs("yosys")
def test_report_counts_lookup_tables(monkeypatch) -> None:
    # The AND of eight inputs takes two tables, one behind the other; a sum of one output takes none.
    node = np.arange(8, 15, dtype=np.int32)
    circuit = Circuit(
        num_inputs=8,
        gates=np.ones(7, np.uint8),
        a=np.concatenate([[0], node[:-1]]).astype(np.int32),
        b=np.arange(1, 8, dtype=np.int32),
        outputs=node[-1:].copy(),
        num_classes=1,
    )
    assert fpga_report(circuit) == FpgaReport(luts=2, depth=2, logic_luts=2)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolError, match="yosys is not on PATH"):
        fpga_report(circuit)
