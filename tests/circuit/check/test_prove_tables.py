"""Table by table: what is right is proven, and each single change is found."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lgn_lightning.circuit import optimize_for_export
from lgn_lightning.circuit.check.prove_tables import prove_tables
from lgn_lightning.circuit.check.prove_verilog import prove_verilog
from lgn_lightning.circuit.check.tools import run_yosys
from lgn_lightning.circuit.emit.verilog import emit_verilog
from lgn_lightning.circuit.emit.verilog_luts import YOSYS_CELL, as_yosys_cells
from lgn_lightning.circuit.hardware.design import design_of
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.simulate import pack_bits, simulate
from tests.circuit.random_circuits import image_circuit, random_circuit
from tests.circuit.tools import needs


def blif_of(circuit: Netlist, folder: Path, luts: str, pipeline: int = 0) -> str:
    """A file of lookup tables as yosys reads it, with registers as wires."""
    text = emit_verilog(circuit, name="net", luts=luts, pipeline=pipeline).text
    (folder / "net.v").write_text(f"`undef SYNTHESIS\n{as_yosys_cells(text)}")
    steps = f"chtype -set $lut t:{YOSYS_CELL}; proc; techmap -D NOLUT; opt_clean; write_blif net.blif"
    run_yosys(f"read_verilog net.v; hierarchy -top net; {steps}", folder, 60)
    scores, blif = design_of(circuit).num_scores, (folder / "net.blif").read_text()
    blif = re.sub(r"^\.latch (\S+) (\S+).*$", r".names \1 \2\n1 1", blif, flags=re.MULTILINE)
    blif = re.sub(r"scores\[(\d+)\]", r"y\1", blif)
    return re.sub(r"class_index\[(\d+)\]", lambda found: f"y{scores + int(found[1])}", blif)


@needs("yosys")
@pytest.mark.parametrize(("luts", "inputs"), [("xilinx", 6), ("ecp5", 4)])
def test_each_change_is_found(tmp_path, luts: str, inputs: int) -> None:
    circuit = optimize_for_export(random_circuit(1, inputs=14, gates=120, classes=3, group=12))[0]
    net = design_of(circuit).netlist
    for pipeline in (0, 2):
        assert prove_tables(net, blif_of(circuit, tmp_path, luts, pipeline), inputs)
    blif = blif_of(circuit, tmp_path, luts)
    rows = [found.span() for found in re.finditer(r"^[01-]+ 1\n", blif, re.MULTILINE)]
    assert len(rows) > 100
    # A cube less, or a buffer that becomes a constant; those of tables with unused inputs may not matter.
    for start, end in rows[:: len(rows) // 60] if inputs == 6 else []:
        assert not prove_tables(net, blif[:start] + blif[end:], inputs)
    every = pack_bits((np.arange(1 << 14)[:, None] >> np.arange(14) & 1).astype(np.bool_))
    found = 0
    for gate in range(0, net.num_gates, 4):
        gates = net.gates.copy()
        gates[gate] ^= 255
        other = replace(net, gates=gates)
        if not np.array_equal(simulate(other, every), simulate(net, every)):
            assert not prove_tables(other, blif, inputs)
            found += 1
    assert found > 5


@needs("yosys")
def test_a_file_that_was_exported_needs_no_solver(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgn_lightning.circuit.check.prove_top.prove_files", None)
    for circuit in (image_circuit(), random_circuit(2)):
        small = optimize_for_export(circuit)[0]
        (tmp_path / "net.v").write_text(emit_verilog(small, name="net", luts="lut6", pipeline=1).text)
        assert prove_verilog(circuit, tmp_path / "net.v").tool == "yosys"
