"""What a circuit costs on an FPGA: six-input lookup tables and their depth, as yosys maps them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit.emit.verilog import emit_verilog
from lgn_lightning.circuit.net.netlist import Netlist


class FpgaReportError(LgnError):
    """yosys is missing or failed."""


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
        FpgaReportError: If yosys is missing, fails or takes longer than ``timeout`` seconds.
    """
    whole, depth = _map(circuit, "net", timeout)
    logic, _ = _map(circuit, "net_logic", timeout)
    return FpgaReport(whole, depth, logic)


def _map(circuit: Netlist, top: str, timeout: float) -> tuple[int, int]:
    tool = shutil.which("yosys")
    if tool is None:
        raise FpgaReportError("yosys is not on PATH; install it for the report (Debian: apt-get install yosys)")
    script = f"read_verilog net.v; synth -flatten -noabc -top {top}; abc -lut 6; opt_clean; stat; ltp"
    with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
        (Path(folder) / "net.v").write_text(emit_verilog(circuit, name="net").text)
        try:
            run = subprocess.run(
                [tool, "-p", script], cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise FpgaReportError(f"yosys did not end within {timeout:.0f} s; allow more time") from error
    length = re.findall(r"Longest topological path in .*\(length=(\d+)\)", run.stdout)
    if run.returncode or not length:
        raise FpgaReportError(f"yosys failed:\n{(run.stderr or run.stdout).strip()[-2000:]}")
    luts = re.findall(r"\$lut\s+(\d+)", run.stdout)
    return int(luts[-1]) if luts else 0, int(length[-1])
