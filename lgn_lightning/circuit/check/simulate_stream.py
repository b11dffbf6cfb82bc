"""Simulation of the Verilog of a sequential circuit in Icarus Verilog, step by step."""

from numpy.typing import ArrayLike

from lgn_lightning.circuit.check.simulate_verilog import run_bench
from lgn_lightning.circuit.check.tools import TOOL_SECONDS
from lgn_lightning.circuit.check.verify import Verification
from lgn_lightning.circuit.emit.verilog import Verilog
from lgn_lightning.circuit.emit.verilog_stream import emit_stream_bench
from lgn_lightning.circuit.net.sequential import SequentialNetlist


def simulate_verilog_stream(
    circuit: SequentialNetlist,
    verilog: Verilog,
    sequences: ArrayLike,
    name: str = "net",
    timeout: float = TOOL_SECONDS,
) -> Verification:
    """Compares the Verilog, of the top module ``name``, with a circuit on sequences; errors as of `run_bench`."""
    bench = emit_stream_bench(circuit, verilog, sequences, name=name)
    output = run_bench(verilog.text, bench, name, timeout)
    return Verification(output.strip().startswith("PASS"), False, bench.count("] = 1'b"))
