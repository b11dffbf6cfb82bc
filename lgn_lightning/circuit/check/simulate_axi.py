"""Simulation of an AXI4-Stream top level by cocotb in Icarus Verilog, with pauses of both sides at random."""

import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from numpy.typing import ArrayLike

from lgn_lightning.circuit.check.tools import TOOL_SECONDS, ToolError, run_program
from lgn_lightning.circuit.check.verify import Verification
from lgn_lightning.circuit.emit.axi_stream import AxiStream


def simulate_axi(
    axi: AxiStream, samples: ArrayLike, text: str | None = None, timeout: float = TOOL_SECONDS
) -> Verification:
    """Compares results of a top level with its circuit's: at full speed, with random pauses, and behind broken packets.

    Args:
        axi: The top level.
        samples: As for the test bench of the circuit.
        text: Its Verilog; what `AxiStream.text` gives if there is none.
        timeout: Seconds that the simulation may take.

    Raises:
        ToolError: Without cocotb or Icarus Verilog, or if it takes longer.
    """
    if find_spec("cocotb") is None:
        raise ToolError("cocotb is not installed: pip install 'lgn-lightning[fpga]'")
    if shutil.which("iverilog") is None:
        raise ToolError("Icarus Verilog is not on PATH (Debian: apt-get install iverilog)")
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        folder = Path(name)
        vectors = axi.vectors(samples, ["net.v", "axis.v"])
        contents = {
            "net.v": axi.verilog.text,
            "axis.v": axi.text() if text is None else text,
            "vectors.json": vectors,
            "bench.py": axi.bench("bench.py", "vectors.json"),
        }
        for file, content in contents.items():
            (folder / file).write_text(content, encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COCOTB")}
        done = run_program([sys.executable, "bench.py"], folder, timeout, "the simulation", environment)
        if "TESTS=" not in done.stdout + done.stderr:
            raise ToolError(f"cocotb did not run:\n{(done.stderr or done.stdout).strip()[-1000:]}")
        return Verification(done.returncode == 0, False, vectors.count('"tdata"'))
