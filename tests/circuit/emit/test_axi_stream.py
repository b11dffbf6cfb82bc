"""The AXI4-Stream top level in Icarus Verilog under random back-pressure, by the cocotb test bench that is exported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lgn_lightning.base.columns import Column, Comparisons, Op
from lgn_lightning.circuit import Circuit, CircuitError, SequentialCircuit, export_circuit
from lgn_lightning.circuit.emit.axi_stream import AxiStream
from lgn_lightning.circuit.emit.verilog import emit_verilog
from lgn_lightning.deploy.trial import random_samples
from tests.circuit.random_circuits import random_bits, random_circuit
from tests.circuit.random_streams import random_sequences, random_stream
from tests.circuit.tools import needs

needs_cocotb = pytest.mark.skipif(find_spec("cocotb") is None, reason="cocotb is not installed")
TABLE = Comparisons(
    (Column("size", "float32"), Column("is big", "boolean"), Column("count", "int64")),
    np.array([0, 0, 1, 2, 2]),
    np.array([Op.GREATER, Op.MISSING, Op.EQUAL, Op.GREATER, Op.BIT]),
    np.array([int(np.float64(0.5).view(np.int64)), 0, 1, 7, 3]),
)


def pixel_circuit() -> Circuit:
    return random_circuit(3, 40, 90, 3, 7, levels=[60, 130], image_shape=(1, 4, 5), class_names=("a", "b|c", "d"))


def row_circuit() -> Circuit:
    plain = random_circuit(5, 5, 40, 2, 5)
    return Circuit(5, plain.gates, plain.a, plain.b, plain.outputs, 2, comparisons=TABLE)


def export(circuit: Circuit | SequentialCircuit, folder: Path, samples: Any = None, **options: Any) -> Path:
    if samples is None:
        samples = random_samples(circuit, 40)
    export_circuit(circuit, folder, "net", ("verilog",), samples=samples, top="axi-stream", **options)
    return folder / "net_axis_cocotb.py"


def run(bench: Path, simulator: str = "icarus") -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COCOTB")}
    command = [sys.executable, str(bench), simulator]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=bench.parent)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "pixels, pipeline": (pixel_circuit, {"pipeline": 3}),
    "pixels, one beat a sample": (pixel_circuit, {"pipeline": 2, "beat": 160}),
    "bits, combinational": (lambda: random_circuit(1, 37, 60, 4, 5), {"beat": 16}),
    "bits, combinational, one beat": (lambda: random_circuit(1, 8, 60, 4, 5), {"beat": 8}),
    "rows": (row_circuit, {"pipeline": 4, "beat": 24}),
    "rows, fixed point": (row_circuit, {"ports": {"size": (12, 4), "count": (7, 0)}}),
    "state": (random_stream, {"beat": 8}),
    "state, several beats, sums": (lambda: random_stream(2, inputs=19, readout="sum"), {"beat": 8}),
}


@needs("iverilog", "vvp")
@needs_cocotb
@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_the_circuit_whoever_waits(name: str, tmp_path: Path) -> None:
    make, options = CASES[name]
    circuit = make()
    samples = random_sequences(circuit, 9, 5) if isinstance(circuit, SequentialCircuit) else None
    bench = export(circuit, tmp_path, samples, **options)
    files = set(tmp_path.iterdir())
    done = run(bench)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "FAIL=0" in done.stdout
    left = {path for path in tmp_path.iterdir() if path.name != "__pycache__"}
    assert left == files  # so that the folder is still that of an export


@needs("iverilog", "vvp")
@needs_cocotb
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("free <= 16", "free <= 31"),  # more samples are let in than there is room for
        ("start_late[9:0], start}", "start_late[9:0], taken}"),
        ("last || s_axis_tlast ? 1", "last ? 1"),  # an incomplete sample is not dropped
        ("if (pop) tail", "if (m_axis_tvalid) tail"),
    ],
)
def test_the_bench_finds_mistakes(right: str, wrong: str, tmp_path: Path) -> None:
    bench = export(pixel_circuit(), tmp_path, pipeline=3)
    top = tmp_path / "net_axis.v"
    text = top.read_text()
    assert right in text
    top.write_text(text.replace(right, wrong))
    assert run(bench).returncode == 1


@needs("verilator")
@needs_cocotb
@pytest.mark.soak
def test_in_verilator(tmp_path: Path) -> None:
    if version("cocotb") >= "2" and _verilator() < (5, 36):
        pytest.skip("cocotb 2 wants Verilator 5.036")
    done = run(export(pixel_circuit(), tmp_path, pipeline=3), "verilator")
    assert done.returncode == 0, done.stdout[-3000:]


def _verilator() -> tuple[int, ...]:
    said = subprocess.run(["verilator", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, said.split()[1].split(".")))


@needs("verilator")
@pytest.mark.parametrize("circuit", [pixel_circuit(), random_stream(2, inputs=19), row_circuit()], ids=str)
def test_the_top_level_is_without_warnings(circuit: Any, tmp_path: Path) -> None:
    samples = random_sequences(circuit, 2, 2) if isinstance(circuit, SequentialCircuit) else None
    export(circuit, tmp_path, samples)
    command = [
        "verilator",
        "--lint-only",
        "-Wall",
        "-Wno-DECLFILENAME",
        "--top-module",
        "net_axis",
        "net_axis.v",
        "net.v",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs("iverilog", "vvp", "ghdl")
@needs_cocotb
def test_the_entity_of_vhdl_passes_everything_on(tmp_path: Path) -> None:
    bench = export(pixel_circuit(), tmp_path, pipeline=3)
    command = ["ghdl", "--synth", "--std=08", "--out=verilog", "net_axis.vhd", "-e", "net_axis_vhdl"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    made = made[made.index("module net_axis_vhdl") :]  # without the black box
    text = (tmp_path / "net_axis.v").read_text()
    around = re.sub(r"\bnet_axis\b", "inner_axis", made).replace("net_axis_vhdl", "net_axis")
    (tmp_path / "net_axis.v").write_text(re.sub(r"\bnet_axis\b", "inner_axis", text) + around)
    done = run(bench)
    assert done.returncode == 0, done.stdout[-3000:]


def test_samples_are_cut_into_beats_at_bytes() -> None:
    circuit = row_circuit()
    axi = AxiStream(circuit, emit_verilog(circuit, name="net"), "net", 24)
    assert axi.ports == [("size", 32, 0), ("is_big", 32, 32), ("count", 64, 64)]
    assert axi.beats == 6
    assert axi.beats_of(0x0807060504030201_000000AA_44332211) == ["332211", "aa44", "10000", "40302", "70605", "8"]
    fixed = AxiStream(circuit, emit_verilog(circuit, name="net", ports={"size": (12, 4)}), "net", 8)
    assert fixed.ports[:2] == [("size", 12, 0), ("size_missing", 1, 16)]
    assert fixed.beats_of(0x1FFF)[:3] == ["ff", "f", "1"]


def test_the_readme_says_what_the_bits_are(tmp_path: Path) -> None:
    export(pixel_circuit(), tmp_path, beat=64)
    text = (tmp_path / "net_axis.md").read_text()
    assert "| channel 0, row 3, columns 0 … 4 | 120 … 159 | 1, 56 | a byte a pixel |" in text
    assert "| 1 | b\\|c |" in text
    export(row_circuit(), tmp_path, random_samples(row_circuit(), 3))
    kind = "int32, -2147483648 if missing: 0 false, 1 true"
    assert f"| is big | 32 … 63 | 1, 0 | {kind} |" in (tmp_path / "net_axis.md").read_text()
    vectors = json.loads((tmp_path / "net_axis_vectors.json").read_text())
    assert vectors["beats"] == 4
    assert [len(packet) for packet in vectors["packets"]] == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"), [({"beat": 12}, "8, 16"), ({"beat": 0}, "8, 16"), ({"top": "x"}, "top must")]
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments = {"top": "axi-stream", **options}
    with pytest.raises(CircuitError, match=message):
        export_circuit(
            random_circuit(), tmp_path, "net", ("verilog",), samples=random_bits(random_circuit(), 2), **arguments
        )
    assert not list(tmp_path.iterdir())
