"""What a circuit costs on an FPGA: six-input lookup tables and their depth, as yosys maps them."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lgn_lightning.circuit.check.tools import ToolError, run_yosys
from lgn_lightning.circuit.emit.verilog import emit_verilog
from lgn_lightning.circuit.net.netlist import Netlist


@dataclass(frozen=True)
class FpgaReport:
    """Mapping of the combinational circuit, group sums and argmax included.

    Attributes:
        luts: Lookup tables of up to six inputs.
        depth: Lookup tables on the longest path.
        logic_luts: Those of the gates alone, without group sums and argmax.
    """

    luts: int
    depth: int
    logic_luts: int


def fpga_report(circuit: Netlist, timeout: float = 1800) -> FpgaReport:
    """Maps a circuit to six-input lookup tables with yosys.

    Raises:
        ToolError: If yosys is missing, fails or takes longer than ``timeout`` seconds.
    """
    whole, depth = _map(circuit, "net", timeout)
    logic, _ = _map(circuit, "net_logic", timeout)
    return FpgaReport(whole, depth, logic)


def _map(circuit: Netlist, top: str, timeout: float) -> tuple[int, int]:
    script = f"read_verilog net.v; synth -flatten -noabc -top {top}; abc -lut 6; opt_clean; stat; ltp"
    with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
        (Path(folder) / "net.v").write_text(emit_verilog(circuit, name="net").text)
        log = run_yosys(script, Path(folder), timeout)
    length = re.findall(r"Longest topological path in .*\(length=(\d+)\)", log)
    luts = re.findall(r"\$lut\s+(\d+)", log)
    if not length:
        raise ToolError(f"yosys named no longest path:\n{log.strip()[-2000:]}")
    return int(luts[-1]) if luts else 0, int(length[-1])
