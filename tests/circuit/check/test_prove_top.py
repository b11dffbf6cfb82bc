"""Proofs of whole top modules, with their pipelines: equal, changed in one place, or late."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lgn_lightning.circuit import Verilog, emit_verilog
from lgn_lightning.circuit.check.prove_top import latencies, prove_top
from lgn_lightning.circuit.check.tools import ToolError
from tests.circuit.emit.test_axi_stream import pixel_circuit, row_circuit
from tests.circuit.random_circuits import random_circuit
from tests.circuit.tools import needs, needs_abc

pytestmark = [needs("yosys"), needs_abc]


@pytest.mark.parametrize(("pipeline", "luts"), [(0, None), (2, None), (2, "ecp5"), (3, "lut6")])
@pytest.mark.parametrize("circuit", [pixel_circuit(), row_circuit(), random_circuit(1, 1, 8, 1, 1)], ids=str)
def test_a_top_module_is_its_design(circuit: Any, pipeline: int, luts: str | None) -> None:
    verilog = emit_verilog(circuit, name="net", pipeline=pipeline, luts=luts)
    assert prove_top(circuit, verilog, "net")


def changed(verilog: Verilog, pattern: str, other: str) -> Verilog:
    text, count = re.subn(pattern, other, verilog.text, count=0 if pattern.startswith(">") else 1)
    assert count
    return replace(verilog, text=text)


@pytest.mark.parametrize(
    ("pattern", "other"),
    [
        (r"> 8'd60\b", "> 8'd61"),  # a threshold
        (r"(wire s\d+ = )([^;]*)", r"\1~(\2)"),  # a sum or comparison
        (r"(assign class_index = {)(\w+), (\w+)", r"\1\3, \2"),
    ],
)
def test_one_change_anywhere_is_found(pattern: str, other: str) -> None:
    circuit = pixel_circuit()
    for pipeline in (0, 3):
        verilog = emit_verilog(circuit, name="net", pipeline=pipeline)
        assert not prove_top(circuit, changed(verilog, pattern, other), "net")


def test_a_register_too_many_or_too_few_is_found() -> None:
    circuit = pixel_circuit()
    verilog = emit_verilog(circuit, name="net", pipeline=3)
    late = changed(verilog, r"(n\d+_r2 <= )(n\d+)_r1;", r"\1\2;")
    assert "registers, not 11" in prove_top(circuit, late, "net").log
    assert (
        f"paths with {verilog.latency} registers, not {verilog.latency + 1}"
        in prove_top(circuit, replace(verilog, latency=verilog.latency + 1), "net").log
    )


def test_ports_of_fixed_point_are_left_to_the_simulation() -> None:
    verilog = emit_verilog(row_circuit(), name="net", ports={"size": (12, 4)})
    with pytest.raises(ToolError, match="fixed point"):
        prove_top(row_circuit(), verilog, "net")


def test_latency_counts_registers_on_all_paths() -> None:
    head = ".model m\n.inputs a \\\n b\n.outputs y\n"
    balanced = ".latch a p\n.latch p q\n.latch b r\n.latch r s\n.names q s y\n11 1\n"
    assert latencies(head + balanced) == {2}
    assert latencies(head + ".latch a p re clk 2\n.names p b y\n11 1\n") == {0, 1}
    assert latencies(head + ".latch a p re clk 2\n.names one\n1\n.names p one y\n11 1\n") == {1}
    assert latencies(head + ".names y\n1\n") == set()
    with pytest.raises(ToolError, match="loop"):
        latencies(head + ".names y a z\n11 1\n.names z y\n1 1\n")
    with pytest.raises(ToolError, match="drives q"):
        latencies(head + ".names q y\n1 1\n")
