"""Simulation of emitted Verilog in Icarus Verilog: sums, argmax and latency, which proofs of the gates leave out."""

import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit.check.tools import TOOL_SECONDS, ToolError, run_program
from lgn_lightning.circuit.check.verify import Verification
from lgn_lightning.circuit.emit.verilog import Verilog, emit_test_bench
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.simulate import encode


def simulate_verilog(
    circuit: Netlist, verilog: Verilog, vectors: NDArray[Any], name: str, timeout: float = TOOL_SECONDS
) -> Verification:
    """Compares Verilog, of the top module ``name``, with a circuit on samples.

    A ToolError without Icarus Verilog, or if that takes more than ``timeout`` seconds.
    """
    output = run_bench(verilog.text, emit_test_bench(circuit, verilog, vectors, name=name), name, timeout)
    wrong = re.search(r"^vector (\d+):", output, re.MULTILINE)
    example = encode(circuit, vectors[int(wrong[1])][None])[0] if wrong else None
    return Verification(output.strip().startswith("PASS"), False, len(vectors), example)


def run_bench(text: str, bench: str, name: str, timeout: float) -> str:
    """What a test bench prints.

    Raises:
        ToolError: Without Icarus Verilog, or if it takes more than ``timeout`` seconds.
        LgnError: If it refuses the sources, or the simulation fails.
    """
    if shutil.which("iverilog") is None or shutil.which("vvp") is None:
        raise ToolError("Icarus Verilog is not on PATH (Debian: apt-get install iverilog)")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lgn-") as temporary:
        folder = Path(temporary)
        (folder / "net.v").write_text(text, encoding="utf-8")
        (folder / "net_tb.v").write_text(bench, encoding="utf-8")
        command = ["iverilog", "-g2001", "-o", "net.vvp", "net.v", "net_tb.v"]
        compiled = run_program(command, folder, timeout, "Icarus Verilog")
        if compiled.returncode:
            raise LgnError(f"Icarus Verilog refuses module {name}:\n{compiled.stderr.strip()[-2000:]}")
        left = max(1.0, timeout - (time.monotonic() - start))
        ran = run_program(["vvp", "net.vvp"], folder, left, "the simulation")
        if ran.returncode:
            raise LgnError(f"the simulation of module {name} failed: {ran.stderr.strip()[-500:]}")
        return ran.stdout
