"""A formal proof that a Verilog file computes a circuit: read back by yosys, compared by Berkeley ABC."""

import re
import shutil
import tempfile
from pathlib import Path

from lgn_lightning.circuit.check.prove import Proof, prove, prove_files
from lgn_lightning.circuit.check.prove_top import prove_top
from lgn_lightning.circuit.check.tools import TOOL_SECONDS, ToolError, find_abc, run_yosys
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.emit.text import template
from lgn_lightning.circuit.emit.verilog import Verilog
from lgn_lightning.circuit.emit.verilog_rows import read_fixed
from lgn_lightning.circuit.hardware.result_port import result_bits
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.passes.optimize import optimize_for_export


def prove_verilog(circuit: Netlist, path: Path, timeout: float = TOOL_SECONDS) -> Proof:
    """Proves that the gates of an exported Verilog file (its module ``…_logic``) compute a circuit's output bits.

    Group sums and argmax are not part of the proof, nor is the latency of a pipeline, whose registers count as wires;
    the test bench checks those. A file of lookup tables has no such module: all of it is proven, see `prove_top`, to be
    the design of the circuit, optimised. Yosys, and then ABC, may take ``timeout`` seconds; a ToolError if one is
    missing or gives no answer.
    """
    find_abc()
    if module_of_tables(path.read_text(encoding="utf-8")):
        return _prove_tables(circuit, path, timeout)
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        folder = Path(name)
        verilog_to_blif(path, folder / "verilog.blif", timeout)
        (folder / "circuit.blif").write_text(emit_blif(circuit))
        return prove_files(folder / "circuit.blif", folder / "verilog.blif", timeout, circuit.num_inputs)


def module_of_tables(text: str) -> str | None:
    """The module of lookup tables of a file that is one of these; None if it has expressions."""
    found = re.search(r"^// Module (\w+): \d+ lookup tables", text, re.MULTILINE)
    return found[1] if found else None


def _prove_tables(circuit: Netlist, path: Path, timeout: float) -> Proof:
    optimised = optimize_for_export(circuit)[0]
    gates = prove(circuit, optimised, timeout)
    if not gates:
        return gates
    name, verilog = read_verilog(circuit, path)
    return prove_top(optimised, verilog, name, timeout)


def read_verilog(circuit: Netlist, path: Path) -> tuple[str, Verilog]:
    """Reads the name of the top module of exported Verilog, and the file; a ToolError if that is incomplete."""
    text = path.read_text(encoding="utf-8")
    tables = module_of_tables(text)
    name = tables.removesuffix("_pixels") if tables else _logic_module(text, path).removesuffix("_logic")
    suffix = "_pixels" if circuit.levels is not None else "_rows" if circuit.comparisons is not None else ""
    top = name + suffix
    if not re.search(rf"^module {top}\b", text, re.MULTILINE):
        raise ToolError(f"{path} has no module {top}")
    latency = re.search(r"^// Latency: (\d+) ", text, re.MULTILINE)
    if latency is None and "posedge" in text:
        raise ToolError(f"{path} does not say its latency, in a line like `// Latency: 9 clock cycles`")
    return name, Verilog(text, int(latency[1]) if latency else 0, *result_bits(circuit), read_fixed(text))


def _logic_module(text: str, path: Path) -> str:
    found = re.search(r"^module (\w+_logic)\b", text, re.MULTILINE)
    if found is None:
        raise ToolError(f"{path} is no Verilog of lgn export: it has no module …_logic")
    return found[1]


def verilog_to_blif(path: Path, target: Path, timeout: float = TOOL_SECONDS) -> None:
    """Writes the module ``…_logic`` of a Verilog file as BLIF, read by yosys; a ToolError if that cannot be."""
    text = path.read_text(encoding="utf-8")
    top = _logic_module(text, path)
    # `read_verilog` splits paths at spaces, so everything has a plain name in one folder.
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        folder = Path(name)
        (folder / "net.v").write_text(text)
        (folder / "wires.v").write_text(template("wires.v"))
        steps = ["read_verilog net.v", f"hierarchy -top {top}", "proc", "flatten"]
        if "posedge" in text:
            steps += ["techmap -map wires.v", f"delete -port {top}/clk"]
        steps += ["techmap", "opt_clean", "write_blif net.blif"]
        run_yosys("; ".join(steps), folder, timeout, failure=f"yosys cannot read {path}")
        shutil.copyfile(folder / "net.blif", target)
