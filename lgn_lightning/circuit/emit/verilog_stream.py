"""Writes a sequential circuit as clocked Verilog-2001: one step a clock, with reset and enable; and its test bench."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.emit.expressions import gate_expression
from lgn_lightning.circuit.emit.text import template
from lgn_lightning.circuit.emit.verilog import (
    CONSTANTS,
    SampleWords,
    Verilog,
    bit_ports,
    check_module,
    declare_ports,
    emit_verilog,
    input_port,
    sample_ports,
    sample_words,
)
from lgn_lightning.circuit.hardware.result_port import port, result_of
from lgn_lightning.circuit.net.decoding import Decoding
from lgn_lightning.circuit.net.kernel import identity_kernel
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.net.sequential import FULL_BIT, SequentialNetlist
from lgn_lightning.circuit.passes.flat import remove_dead_gates
from lgn_lightning.circuit.run.sequences import (
    SequenceEngine,
    plain_bits,
    running_sums,
    sequence_frames,
    sequence_lengths,
)

#: Width of a score that is summed over steps.
_SUM_BITS: Final = 32


def emit_verilog_stream(circuit: SequentialNetlist, *, name: str = "lgn_net") -> Verilog:
    """Writes a sequential circuit as Verilog.

    At a rising edge of ``clk`` with ``enable`` the top module takes a step; from then on, while ``valid``, its outputs
    are the scores and what they say, until the next edge. ``reset``, at an edge, is the state before the first step.
    Between edges a step's gates come before a register, sums and decision behind it.

    Args:
        circuit: The circuit; only dead gates are left out, so optimise it before.
        name: Name of the top module.

    Raises:
        CircuitError: If ``name`` is no identifier, or scores that are summed over the steps decide on something else
            than classes.
    """
    check_module(name)
    summed = circuit.readout == "sum"
    if summed and circuit.decoding.kind != "argmax":
        raise CircuitError("Verilog decides on scores that are summed over the steps for classes alone")
    outputs, state = circuit.counted.outputs.size, circuit.num_state
    score = emit_verilog(_sums_alone(circuit), name=f"{name}_score")
    decision = port(circuit.counted)
    bits = _SUM_BITS if summed else score.score_bits
    parts = [
        f"// A logic gate network with {state} bits of state, written by lgn-lightning. A step a clock with enable.\n"
        f"// Latency: 1 clock cycles. The score of class c is scores[{bits} * c +: {bits}].\n`default_nettype none\n\n",
        _logic(circuit, name),
        _without_head(score.text),
    ]
    x, connect = "x", "    "
    if not circuit.is_plain:
        encoder = _encoder_alone(circuit)
        parts.append(_without_head(emit_verilog(encoder, name=f"{name}_encoder").text))
        suffix, inner = sample_ports(encoder)
        outer = sample_ports(circuit)[1]  # beside ports of its own a column may have another name
        joined = ", ".join(f".{own}({other})" for (own, _), (other, _) in zip(inner, outer, strict=True))
        x, module = "x_", f"{name}_encoder{suffix}"
        connect = (
            f"    wire [{circuit.num_inputs - 1}:0] x_;\n"
            f"    {module} encoder_ ({joined}, .scores(), .labels(x_));\n    "
        )
    top = template("stream.v.in").format(
        name=name,
        ports=declare_ports(circuit),
        results=f"    output wire [{bits * circuit.num_classes - 1}:0] scores,\n"
        f"    output wire [{score.class_bits - 1}:0] {decision}",
        encoder=connect,
        state=f"    reg [{state - 1}:0] state_;\n    wire [{state - 1}:0] next_;\n" if state else "",
        state_and_input=f"{{state_, {x}}}" if state else x,
        last=outputs - 1,
        wires=",\n        ".join(
            f".y{i}({f'out_[{i}]' if i < outputs else f'next_[{i - outputs}]'})" for i in range(outputs + state)
        ),
        begin=f"            state_ <= {state}'b{_binary(circuit.initial)};\n" if state else "",
        follow="                state_ <= next_;\n" if state else "",
        clear="            sums_ <= 0;\n" if summed else "",
        add="            if (valid) sums_ <= scores;\n" if summed else "",
        scoring=_summed(circuit, name, score, bits)
        if summed
        else f"    {name}_score score_ (.x(y_), .scores(scores), .{decision}({decision}));\n",
    )
    text = "".join(parts) + top + "`default_nettype wire\n"
    return Verilog(text, 1, bits, score.class_bits)


def _logic(circuit: SequentialNetlist, name: str) -> str:
    """The gates of a step as a combinational module, as `emit_verilog` writes those of any circuit."""
    step = remove_dead_gates(circuit.step)
    inputs = step.num_inputs

    def wire(node: int) -> str:
        return f"x[{node}]" if node < inputs else f"n{node - inputs}"

    operands = [operand.tolist() for operand in step.operands]
    lines = []
    for gate, table in enumerate(step.gates.tolist()):
        names = [wire(operand[gate]) for operand in operands]
        lines.append(f"    wire n{gate} = {gate_expression(table, names, zero=CONSTANTS[0], one=CONSTANTS[1])};\n")
    lines += [f"    assign y{index} = {wire(node)};\n" for index, node in enumerate(step.outputs.tolist())]
    ports = input_port("x", inputs) + bit_ports("output", step.outputs.size)
    return f"module {name}_logic (\n{ports}\n);\n{''.join(lines)}endmodule\n\n"


def _sums_alone(circuit: SequentialNetlist) -> Netlist:
    """A circuit without gates that counts the output bits and decides."""
    wires = identity_kernel(circuit.counted.outputs.size)
    return replace(wires, num_classes=circuit.num_classes, tau=circuit.tau, decoding=circuit.decoding)


def _encoder_alone(circuit: SequentialNetlist) -> Netlist:
    """A circuit without gates each of whose labels is one input bit."""
    count = circuit.num_inputs
    labels = Decoding("labels", (1,) * count, (1.0,) * count, (0.0,) * count)
    return replace(identity_kernel(count), decoding=labels, **circuit.encoding)


def _without_head(text: str) -> str:
    """The modules of a file alone."""
    start, end = text.index("\nmodule ") + 1, text.rindex("endmodule") + len("endmodule")
    return text[start:end] + "\n\n"


def _binary(bits: NDArray[np.bool_]) -> str:
    return "".join("1" if bit else "0" for bit in bits[::-1])


def _summed(circuit: SequentialNetlist, name: str, score: Verilog, bits: int) -> str:
    """Scores that are summed over the steps, and the class of the highest of the sums."""
    classes, narrow = circuit.num_classes, score.score_bits
    adders = "".join(
        f"    assign scores[{bits * c + bits - 1}:{bits * c}] = sums_[{bits * c + bits - 1}:{bits * c}] +\n"
        f"        (valid && !full_ ? {{{bits - narrow}'b0, counts_[{narrow * c + narrow - 1}:{narrow * c}]}}\n"
        f"        : {bits}'d0);\n"
        for c in range(classes)
    )
    return template("stream_sums.v.in").format(
        name=name,
        top=bits * classes - 1,
        counts=narrow * classes - 1,
        adders=adders,
        bits=bits,
        classes=classes,
        best=score.class_bits - 1,
        full=" | ".join(f"sums_[{bits * c + FULL_BIT}]" for c in range(classes)),
    )


@dataclass(frozen=True)
class StreamVectors:
    """Steps of sequences, one after the other, and what they must give.

    Attributes:
        words: The steps as bits of the ports.
        first: 1 at the first step of a sequence, ``[steps]``.
        scores: int64 ``[steps, classes]``, summed up to there where the circuit sums them.
        results: Bits of the port that is the decision.
    """

    words: SampleWords
    first: NDArray[np.int64]
    scores: NDArray[np.int64]
    results: list[int]

    @classmethod
    def of(cls, circuit: SequentialNetlist, sequences: ArrayLike) -> StreamVectors:
        """Simulates whole sequences, as `SequenceEngine` takes them; padding is no step."""
        frames = sequence_frames(circuit, sequences)
        ends = sequence_lengths(circuit, frames)
        each = SequenceEngine(circuit, "numpy").every_step(frames).astype(np.int64)
        if circuit.readout == "sum":
            each = running_sums(each)
        steps = np.broadcast_to(np.arange(frames.shape[1]), frames.shape[:2])
        there = steps < ends[:, None]
        samples, wanted, first = frames[there], each[there], (steps[there] == 0).astype(np.int64)
        words, _ = sample_words(circuit, plain_bits(circuit, samples))
        return cls(words, first, wanted, result_of(circuit.counted, wanted))


def emit_stream_bench(
    circuit: SequentialNetlist,
    verilog: Verilog,
    sequences: ArrayLike,
    *,
    name: str = "lgn_net",
) -> str:
    """Writes a self-checking test bench over sequences: it prints ``PASS``, or each wrong step and ``FAIL``.

    Before each sequence stands a reset, and at every third clock there is none with enable, so that both are tried.
    What is expected is simulated; other arguments as of `emit_verilog_stream` and `SequenceEngine`.
    """
    steps = StreamVectors.of(circuit, sequences)
    width = steps.words.width
    lines = []
    for index, row in enumerate(steps.scores.tolist()):
        value = sum(score << (c * verilog.score_bits) for c, score in enumerate(row))
        lines.append(f"        vectors[{index}] = {width}'h{steps.words.bits[index]:x};")
        lines.append(f"        first[{index}] = 1'b{steps.first[index]};")
        lines.append(f"        wanted_scores[{index}] = {verilog.score_bits * circuit.num_classes}'h{value:x};")
        lines.append(f"        wanted_result[{index}] = {verilog.class_bits}'h{steps.results[index]:x};")
    return template("stream_bench.v.in").format(
        name=name,
        connect=steps.words.connect,
        result=port(circuit.counted),
        width=width - 1,
        score_width=verilog.score_bits * circuit.num_classes - 1,
        class_width=verilog.class_bits - 1,
        count=len(steps.first),
        vectors="\n".join(lines),
    )
