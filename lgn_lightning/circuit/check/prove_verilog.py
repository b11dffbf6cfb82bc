"""A formal proof that a Verilog file computes a circuit: read back by yosys, compared by Berkeley ABC."""

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from lgn_lightning.circuit.check.prove import Proof, prove, prove_files
from lgn_lightning.circuit.check.tools import ToolError, find_abc, run_yosys
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.emit.text import template
from lgn_lightning.circuit.emit.verilog import Verilog
from lgn_lightning.circuit.emit.verilog_luts import YOSYS_CELL, as_yosys_cells
from lgn_lightning.circuit.hardware.design import design_of, with_encoder
from lgn_lightning.circuit.hardware.result_port import port, result_bits
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.passes.optimize import optimize_for_export
from lgn_lightning.circuit.simulate import encode


def prove_verilog(circuit: Netlist, path: Path, timeout: float = 600) -> Proof:
    """Proves that the gates of an exported Verilog file (its module ``…_logic``) compute a circuit's output bits.

    Group sums and argmax are not part of the proof, nor is the latency of a pipeline, whose registers count as wires;
    the test bench checks those. Of a file of lookup tables all of it is: the tables compute the scores and the decision
    of the netlist that they were made of, which is the circuit, optimised, and its sums. Yosys, and then ABC, may take
    ``timeout`` seconds; a ToolError if one is missing or gives no answer.
    """
    find_abc()
    if top := module_of_tables(path.read_text(encoding="utf-8")):
        return _prove_tables(circuit, path, top, timeout)
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        folder = Path(name)
        verilog_to_blif(path, folder / "verilog.blif", timeout)
        (folder / "circuit.blif").write_text(emit_blif(circuit))
        return prove_files(folder / "circuit.blif", folder / "verilog.blif", timeout, circuit.num_inputs)


def module_of_tables(text: str) -> str | None:
    """The module of lookup tables of a file that is one of these; None if it has expressions."""
    found = re.search(r"^// Module (\w+): \d+ lookup tables", text, re.MULTILINE)
    return found[1] if found else None


def _prove_tables(circuit: Netlist, path: Path, top: str, timeout: float) -> Proof:
    optimised = optimize_for_export(circuit)[0]
    gates = prove(circuit, optimised, timeout)
    if not gates:
        return gates
    design = design_of(optimised)
    of_pixels = circuit.levels is not None
    if of_pixels:
        design = with_encoder(design, optimised)
    net = design.netlist
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        folder = Path(name)
        verilog_to_blif(path, folder / "tables.blif", timeout, top)
        names = re.compile(rf"(?<!\w)(pixels|scores|{port(circuit)})(?:\[(\d+)\])?(?![\w\[])")
        first = {"scores": "y{0}", "pixels": "x[{0}]"}

        def renamed(found: re.Match[str]) -> str:
            index = int(found[2] or 0)
            return first[found[1]].format(index) if found[1] in first else f"y{design.num_scores + index}"

        (folder / "tables.blif").write_text(names.sub(renamed, (folder / "tables.blif").read_text()))
        (folder / "design.blif").write_text(emit_blif(net))
        proof = prove_files(folder / "design.blif", folder / "tables.blif", timeout, net.num_inputs)
    if proof.counterexample is None or not of_pixels:
        return proof
    pixels = np.packbits(proof.counterexample.reshape(1, -1, 8), axis=2, bitorder="little")[..., 0]
    return replace(proof, counterexample=encode(circuit, pixels)[0])


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
    return name, Verilog(text, int(latency[1]) if latency else 0, *result_bits(circuit))


def _logic_module(text: str, path: Path) -> str:
    found = re.search(r"^module (\w+_logic)\b", text, re.MULTILINE)
    if found is None:
        raise ToolError(f"{path} is no Verilog of lgn export: it has no module …_logic")
    return found[1]


def verilog_to_blif(path: Path, target: Path, timeout: float = 600, top: str | None = None) -> None:
    """Writes a module of a Verilog file, ``…_logic`` if none is named, as BLIF, read by yosys.

    A ToolError if that cannot be.
    """
    text = path.read_text(encoding="utf-8")
    top = top or _logic_module(text, path)
    # `read_verilog` splits paths at spaces, so everything has a plain name in one folder.
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        folder = Path(name)
        # Without these words lookup tables have their models, where they are no cells of yosys.
        (folder / "net.v").write_text(f"`undef SYNTHESIS\n`undef YOSYS\n{as_yosys_cells(text)}")
        (folder / "wires.v").write_text(template("wires.v"))
        steps = ["read_verilog net.v", f"hierarchy -top {top}", f"chtype -set $lut t:{YOSYS_CELL}", "proc", "flatten"]
        if "posedge" in text:
            steps += ["techmap -map wires.v", f"delete -port {top}/clk"]
        steps += ["techmap -D NOLUT", "opt_clean", "write_blif net.blif"]
        run_yosys("; ".join(steps), folder, timeout, failure=f"yosys cannot read {path}")
        shutil.copyfile(folder / "net.blif", target)
