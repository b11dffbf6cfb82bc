from __future__ import annotations

import subprocess

from lgn_lightning.circuit.check.prove import prove_files
from lgn_lightning.circuit.check.tools import ABC_NAMES
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.emit.verilog import emit_verilog
from tests.circuit.random_circuits import random_circuit
from tests.circuit.tools import needs


@needs("yosys", ABC_NAMES[0])
def test_verilog_read_by_yosys_is_proven_equal(tmp_path) -> None:
    circuit = random_circuit(1, inputs=30, gates=500, group=30)
    (tmp_path / "net.v").write_text(emit_verilog(circuit.optimize(2), name="net").text)
    (tmp_path / "raw.blif").write_text(emit_blif(circuit))
    script = "read_verilog net.v; hierarchy -top net_logic; proc; techmap; write_blif net.blif"
    subprocess.run(["yosys", "-q", "-p", script], cwd=tmp_path, check=True)
    assert prove_files(tmp_path / "raw.blif", tmp_path / "net.blif")
