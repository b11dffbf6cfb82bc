"""What a circuit costs on an FPGA: six-input lookup tables and their depth, as yosys maps them."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lgn_lightning.circuit.check.tools import ToolError, run_yosys
from lgn_lightning.circuit.emit.verilog import emit_verilog
from lgn_lightning.circuit.net.netlist import Netlist


@dataclass(frozen=True)
class FpgaReport:
    """Lookup tables of up to six inputs: of the whole circuit, on its longest path, and of its gates alone."""

    luts: int
    depth: int
    logic_luts: int


def fpga_report(circuit: Netlist, timeout: float = 1800) -> FpgaReport:
    """Maps a circuit to six-input lookup tables with yosys; a ToolError if that is missing, fails or is too slow."""
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
