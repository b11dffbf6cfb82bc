from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, CircuitError
from lgn_lightning.circuit.emit.verilog import emit_test_bench, emit_verilog, vector_order
from lgn_lightning.circuit.emit.verilog_stream import emit_verilog_stream
from tests.circuit.random_circuits import image_circuit, random_bits, random_circuit
from tests.circuit.random_streams import random_stream
from tests.circuit.tools import needs


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


def test_vectors_let_every_class_win() -> None:
    scores = np.eye(4, dtype=np.int32)[[2, 2, 2, 0, 2, 3, 0]]
    assert vector_order(scores).tolist() == [3, 0, 5, 6, 1, 2, 4]


def test_bad_options() -> None:
    with pytest.raises(CircuitError, match="Verilog module"):
        emit_verilog(random_circuit(), name="3x")
    for name in ("reg", "logic"):
        with pytest.raises(CircuitError, match="Verilog module"):
            emit_verilog(random_circuit(), name=name)
        with pytest.raises(CircuitError, match="Verilog module"):
            emit_verilog_stream(random_stream(), name=name)
    with pytest.raises(CircuitError, match="pipeline"):
        emit_verilog(random_circuit(), pipeline=-1)
    circuit = random_circuit()
    with pytest.raises(CircuitError, match="at least one sample"):
        emit_test_bench(circuit, emit_verilog(circuit), np.zeros((0, 12), bool))
