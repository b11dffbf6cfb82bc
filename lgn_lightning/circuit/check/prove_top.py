"""A proof that the top module of exported Verilog is the design of a circuit, a fixed number of clock cycles late."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lgn_lightning.circuit.check.prove import Proof, prove_files
from lgn_lightning.circuit.check.prove_tables import inputs_of_tables, prove_tables
from lgn_lightning.circuit.check.tools import TOOL_SECONDS, ToolError, run_yosys
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.emit.verilog import Verilog, sample_ports
from lgn_lightning.circuit.emit.verilog_luts import YOSYS_CELL, as_yosys_cells
from lgn_lightning.circuit.hardware.design import design_of, with_encoder
from lgn_lightning.circuit.hardware.result_port import port
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.simulate import encode


def prove_top(circuit: Netlist, verilog: Verilog, name: str, timeout: float = TOOL_SECONDS) -> Proof:
    """Proves that a top module gives scores and decision of a circuit's design, for all inputs, after its latency.

    Of lookup tables each is compared first, which takes seconds.

    The registers are those of a pipeline if on all paths to a gate there are as many of them: then they delay, and as
    wires leave the function, which ABC compares. So thresholds, gates, sums and decision are those of `design_of` and
    `with_encoder`.

    Args:
        circuit: The circuit, optimised as the exported one was.
        verilog: What was exported.
        name: Name of the export.
        timeout: Seconds that yosys, and then ABC, may take.

    Raises:
        ToolError: If a tool is missing or has no answer, or the ports are of fixed point.
    """
    design = design_of(circuit)
    net = with_encoder(design, circuit).netlist
    suffix, ports = sample_ports(circuit)
    if sum(width for _, width in ports) != net.num_inputs or verilog.fixed:
        raise ToolError("ports of fixed point are not those of the design")
    with tempfile.TemporaryDirectory(prefix="lgn-") as temporary:
        folder = Path(temporary)
        # Without these words lookup tables have their models, where they are no cells of yosys.
        text = f"`undef SYNTHESIS\n`undef YOSYS\n{as_yosys_cells(verilog.text)}"
        (folder / "net.v").write_text(text, encoding="utf-8")
        steps = ["read_verilog net.v", f"hierarchy -top {name}{suffix}", f"chtype -set $lut t:{YOSYS_CELL}", "proc"]
        steps += ["flatten", "techmap -D NOLUT", "opt_clean", "write_blif net.blif"]
        run_yosys("; ".join(steps), folder, timeout, failure="yosys cannot read the Verilog")
        text = (folder / "net.blif").read_text(encoding="utf-8")
        if late := latencies(text) - {verilog.latency}:
            found = " and ".join(map(str, sorted(late)))
            return Proof(False, "yosys", f"there are paths with {found} registers, not {verilog.latency}")
        wires = re.sub(r"^\.latch (\S+) (\S+).*$", r".names \1 \2\n1 1", text, flags=re.MULTILINE)
        renamed: dict[str, str] = {}
        for port_name, width in ports:
            for bit in range(width):
                renamed[f"{port_name}[{bit}]" if width > 1 else port_name] = f"x[{len(renamed)}]"
        width = net.outputs.size - design.num_scores
        for what, start, bits in (("scores", 0, design.num_scores), (port(circuit), design.num_scores, width)):
            renamed |= {(f"{what}[{bit}]" if bits > 1 else what): f"y{start + bit}" for bit in range(bits)}
        top = "\n".join(_renamed(wires, renamed)) + "\n"
        inputs = inputs_of_tables(verilog.text)
        if inputs is not None and prove_tables(net, top.replace(" own_", " "), inputs):
            return Proof(True, "yosys", "each table computes the gates between its node and those that it reads")
        (folder / "top.blif").write_text(top, encoding="utf-8")
        (folder / "design.blif").write_text(emit_blif(net), encoding="utf-8")
        proof = prove_files(folder / "design.blif", folder / "top.blif", timeout, net.num_inputs)
    example = proof.counterexample
    if example is None or circuit.is_plain:
        return proof
    if circuit.num_pixels is None:
        return replace(proof, counterexample=None)
    pixels = np.packbits(example.reshape(1, -1, 8), axis=2, bitorder="little")[..., 0]
    return replace(proof, counterexample=encode(circuit, pixels)[0])


def _renamed(text: str, names: Mapping[str, str]) -> Iterator[str]:
    """Lines of BLIF with other names of some signals, and without the input ``clk``; continued lines are joined."""
    for line in text.replace("\\\n", " ").splitlines():
        kind, *signals = line.split() or [""]
        if kind in (".inputs", ".outputs", ".names"):
            # What has no new name may have one that another gets.
            new = [names.get(signal, f"own_{signal}") for signal in signals if kind != ".inputs" or signal != "clk"]
            yield " ".join([kind, *new])
        else:
            yield line


def latencies(blif: str) -> set[int]:
    """How many registers are on paths from inputs to outputs of a circuit; two numbers or more where paths differ.

    If all operands of each gate come through as many registers, and so do all outputs, the circuit is a function and a
    delay. Constants are the same at any time, and none are counted behind them.

    Raises:
        ToolError: If there is a loop, or a signal without a driver.
    """
    drivers: dict[str, tuple[int, list[str]]] = {}
    lines = blif.replace("\\\n", " ").splitlines()
    inputs = {word for line in lines if line.startswith(".inputs") for word in line.split()[1:]}
    outputs = [word for line in lines if line.startswith(".outputs") for word in line.split()[1:]]
    for line in lines:
        words = line.split()
        if line.startswith(".names"):
            drivers[words[-1]] = 0, words[1:-1]
        elif line.startswith(".latch"):
            drivers[words[2]] = 1, [words[1]]
    most = sum(len(read) + 1 for _, read in drivers.values())
    stages: dict[str, set[int]] = {name: {0} for name in inputs}  # no stage of constants
    for output in outputs:
        stack = [output]
        while stack:
            signal = stack[-1]
            if signal in stages:
                stack.pop()
                continue
            if signal not in drivers:
                raise ToolError(f"the netlist of yosys has nothing that drives {signal}")
            registers, read = drivers[signal]
            if waiting := [other for other in read if other not in stages]:
                if len(stack) > most:
                    raise ToolError("the netlist of yosys has a loop")
                stack += waiting
                continue
            found = set().union(*(stages[other] for other in read))
            if len(found) > 1:
                return found
            stages[signal] = {stage + registers for stage in found}
            stack.pop()
    return set().union(*(stages[output] for output in outputs))
