"""The Verilog that is placed: the net between shift registers, as an image has more bits than a package has pins."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from lgn_lightning.circuit.emit.text import template
from lgn_lightning.circuit.emit.verilog import emit_verilog, sample_ports
from lgn_lightning.circuit.emit.verilog_stream import emit_verilog_stream
from lgn_lightning.circuit.hardware.design import design_of, with_encoder
from lgn_lightning.circuit.hardware.result_port import port
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.sequential import SequentialNetlist


@dataclass(frozen=True)
class Harness:
    """A net with registers in front of each of its inputs and behind each of its outputs.

    Attributes:
        text: Verilog: the modules of the net; ``measured``, which is the net with what it decides and without scores;
            and ``harness``, a shift register of all input bits that it reads in front of it, and one behind it that
            takes in what it decides.
        latency: Clock cycles of the net; 0 for a combinational one.
        inputs: Bits that the net reads.
        outputs: Bits that it decides on.
    """

    text: str
    latency: int
    inputs: int
    outputs: int


def harness(circuit: Netlist | SequentialNetlist, pipeline: int = 0, luts: str | None = None) -> Harness:
    """Writes the harness of a circuit, optimised before, as `emit_verilog` does with its ``pipeline`` and ``luts``."""
    suffix, ports = sample_ports(circuit)
    width = sum(bits for _, bits in ports)
    if isinstance(circuit, SequentialNetlist):
        verilog, suffix, decision = emit_verilog_stream(circuit, name="net"), "", port(circuit.counted)
        read, controls = list(range(width)), [("reset", 1), ("enable", 1)]
    else:
        verilog, decision = emit_verilog(circuit, name="net", pipeline=pipeline, luts=luts), port(circuit)
        read, controls = with_encoder(design_of(circuit), circuit).netlist.inputs_read.tolist(), []
    # What is read comes from the shift register, in order; what is not, is 0.
    sources = ["1'b0"] * width
    for place, bit in enumerate(read):
        sources[bit] = f"x[{place}]"
    connect, place = [], len(read)
    for name, bits in controls:
        connect.append(f".{name}(x[{place}])")
        place += bits
    ends = list(accumulate(bits for _, bits in ports))
    for (name, bits), end in zip(ports, ends, strict=True):
        connect.append(f".{name}({{{', '.join(reversed(sources[end - bits : end]))}}})")
    if verilog.latency:
        connect.append(".clk(clk)")
    text = template("harness.v.in").format(
        inputs=place - 1,
        shifted=f"{{x[{place - 2}:0], d}}" if place > 1 else "d",
        outputs=verilog.class_bits - 1,
        results=f"{{sent[{verilog.class_bits - 2}:0], 1'b0}}" if verilog.class_bits > 1 else "1'b0",
        module=f"net{suffix}",
        connect=",\n        ".join(connect),
        decision=decision,
    )
    return Harness(verilog.text + text, verilog.latency, place, verilog.class_bits)
