"""Writes a circuit as Verilog-2001: gates, adder trees, decision; combinational or pipelined; with a test bench."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.base.columns import Comparisons
from lgn_lightning.circuit.emit.decisions import describe_port, fixed_point, port, result_bits, result_of
from lgn_lightning.circuit.emit.expressions import gate_expression
from lgn_lightning.circuit.emit.text import is_identifier, template
from lgn_lightning.circuit.emit.verilog_rows import Fixed, RowPorts, read_fixed
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.passes.flat import remove_dead_gates
from lgn_lightning.circuit.simulate import check_samples, encode, scores

# A net of one class with one output has no adder and no argmax, so nothing to clock.
_CLOCKED = "    // verilator lint_off UNUSED\n    input wire clk,\n    // verilator lint_on UNUSED\n"

_HEAD = """// A logic gate network, written by lgn-lightning.
// Latency: {latency} clock cycles. The score of class c is scores[{bits} * c +: {bits}].{more}
`default_nettype none

"""

_KEYWORDS = frozenset(template("verilog_keywords.txt").split())  # of IEEE 1364-2005


@dataclass(frozen=True)
class Verilog:
    """A circuit in Verilog.

    Attributes:
        text: The source: modules ``name`` (input bits → scores and ``class_index``, ``labels`` or ``numbers``),
            ``name_logic`` and ``name_sums`` inside it, and ``name_pixels`` or
            ``name_rows`` around it where the circuit has an encoder.
        latency: Clock cycles from an input to its result; 0 for a combinational circuit.
        score_bits: Width of a score; class *c* has bits ``[c · score_bits +: score_bits]`` of ``scores``.
        class_bits: Width of ``class_index``, of all ``labels`` or of all ``numbers``.
    """

    text: str
    latency: int
    score_bits: int
    class_bits: int


def emit_verilog(
    circuit: Netlist, *, name: str = "lgn_net", pipeline: int = 0, ports: Mapping[str, Fixed] | None = None
) -> Verilog:
    """Writes a circuit as Verilog.

    Args:
        circuit: The circuit; only dead gates are left out, so optimise it before.
        name: Name of the top module.
        pipeline: Gate levels between registers; 0 for a combinational circuit. With a pipeline, every level of the
            adder trees and of the argmax has registers too, and a new input is taken every clock cycle.
        ports: Columns of a table whose ports are signed numbers: their width, and how many bits of it are a fraction.
            Others have the bits of their types.

    Raises:
        CircuitError: If ``name`` is no identifier, ``pipeline`` is negative, or a port cannot be.
    """
    if not is_identifier(name) or name in _KEYWORDS:
        raise CircuitError(f"{name!r} cannot be a Verilog module: use letters, digits and underscores, and no keyword")
    if pipeline < 0:
        raise CircuitError(f"pipeline must be 0 or the gate levels of a stage, got {pipeline}")
    writer = _Writer(remove_dead_gates(circuit), name, pipeline)
    (logic, logic_latency), (sums, sums_latency) = writer.logic(), writer.sums()
    latency = logic_latency + sums_latency
    head = _HEAD.format(latency=latency, bits=writer.score_bits, more=describe_port(circuit))
    text = head + logic + sums + writer.top()
    if circuit.levels is not None:
        text += writer.pixels(circuit.levels.tolist())
    if circuit.comparisons is not None:
        text += writer.rows(row_ports(circuit.comparisons, ports or {}))
    elif ports:
        raise CircuitError("ports are those of a table's columns, and this circuit has none")
    return Verilog(text + "`default_nettype wire\n", latency, writer.score_bits, writer.class_bits)


class _Body:
    """Declarations of a module, and the registers between its stages."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.shifts: list[tuple[str, str]] = []

    def wire(self, name: str, value: str, width: int = 1) -> str:
        self.lines.append(f"    wire {_range(width)}{name} = {value};")
        return name

    def register(self, name: str, source: str, width: int = 1) -> str:
        self.lines.append(f"    reg {_range(width)}{name};")
        self.shifts.append((name, source))
        return name

    def text(self) -> str:
        lines = list(self.lines)
        if self.shifts:
            lines.append("    always @(posedge clk) begin")
            lines += [f"        {name} <= {source};" for name, source in self.shifts]
            lines.append("    end")
        return "\n".join(lines) + "\n"


def _signed(width: int, value: int) -> str:
    return f"{'-' if value < 0 else ''}{width}'sd{abs(value)}"


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def _bits(direction: str, count: int) -> str:
    """Output bits are ports of their own: a vector of thousands of bits makes event-driven simulators quadratic."""
    return ",\n".join(f"    {direction} wire y{index}" for index in range(count))


def _input(name: str, width: int) -> str:
    """A port some bits of which may have no reader."""
    line = f"    input wire [{width - 1}:0] {name},"
    return f"    // verilator lint_off UNUSED\n{line}\n    // verilator lint_on UNUSED\n"


class _Writer:
    """Writes the modules of one circuit."""

    def __init__(self, circuit: Netlist, name: str, pipeline: int) -> None:
        self.circuit, self.name, self.pipeline = circuit, name, pipeline
        self.score_bits, self.class_bits = result_bits(circuit)
        self.connect = ".clk(clk), " if pipeline else ""
        self.decision = port(circuit)
        self.connect_results = f".scores(scores), .{self.decision}({self.decision})"
        self.results = (
            f"    output wire [{self.score_bits * circuit.num_classes - 1}:0] scores,\n"
            f"    output wire [{self.class_bits - 1}:0] {self.decision}"
        )

    def module(self, suffix: str, ports: str, body: str) -> str:
        clock = _CLOCKED if self.pipeline else ""
        return f"module {self.name}{suffix} (\n{clock}{ports}\n);\n{body}endmodule\n\n"

    def logic(self) -> tuple[str, int]:
        """The gates, and their latency."""
        circuit, inputs, pipeline = self.circuit, self.circuit.num_inputs, self.pipeline
        body = _Body()
        levels = [0] * inputs + circuit.gate_levels.tolist()
        stage = [max(0, level - 1) // pipeline if pipeline else 0 for level in levels]
        delayed: dict[tuple[int, int], str] = {}

        def at(node: int, when: int) -> str:
            """Name of a node's value in a later stage: each stage in between adds a register."""
            if when <= stage[node]:
                return f"x[{node}]" if node < inputs else f"n{node - inputs}"
            key = node, when
            if key not in delayed:
                before = at(node, when - 1)
                label = f"x{node}" if node < inputs else f"n{node - inputs}"
                delayed[key] = body.register(f"{label}_r{when - stage[node]}", before)
            return delayed[key]

        operands = [operand.tolist() for operand in circuit.operands]
        for gate, table in enumerate(circuit.gates.tolist()):
            now = stage[inputs + gate]
            names = [at(operand[gate], now) for operand in operands]
            body.wire(f"n{gate}", gate_expression(table, names, zero="1'b0", one="1'b1"))
        last = max(stage) + 1 if pipeline else 0
        places = [f"    assign y{index} = {at(node, last)};\n" for index, node in enumerate(circuit.outputs.tolist())]
        ports = _input("x", inputs) + _bits("output", len(places))
        return self.module("_logic", ports, body.text() + "".join(places)), last

    def sums(self) -> tuple[str, int]:
        """Adder trees and argmax, and their latency."""
        circuit, clocked = self.circuit, self.pipeline > 0
        body = _Body()
        group = circuit.outputs.size // circuit.num_classes
        scores, latency = [], 0
        for c in range(circuit.num_classes):
            terms = [(f"y{c * group + index}", 1) for index in range(group)]
            level = 0
            while len(terms) > 1:
                terms = _adder_level(body, f"s{c}_{level}", terms, clocked)
                level += 1
            latency = level if clocked else 0
            scores.append(body.wire(f"score{c}", terms[0][0], self.score_bits))
        if circuit.decoding.kind != "argmax":
            body.lines.append(f"    assign {self.decision} = {self.decided(body, scores)};")
            body.lines.append(f"    assign scores = {{{', '.join(reversed(scores))}}};")
            return self._sums(body), latency
        # A tournament: the right side wins only if it is strictly higher, so the first of equals stays.
        players = [(score, f"{self.class_bits}'d{c}") for c, score in enumerate(scores)]
        held = scores
        level = 0
        while len(players) > 1:
            players = self._argmax_level(body, f"m{level}", players)
            level += 1
            if clocked:
                held = [body.register(f"score{c}_r{level}", name, self.score_bits) for c, name in enumerate(held)]
                latency += 1
        body.lines.append(f"    assign class_index = {players[0][1]};")
        body.lines.append(f"    assign scores = {{{', '.join(reversed(held))}}};")
        return self._sums(body), latency

    def _sums(self, body: _Body) -> str:
        ports = f"{_bits('input', self.circuit.outputs.size)},\n{self.results}"
        return self.module("_sums", ports, body.text())

    def decided(self, body: _Body, scores: list[str]) -> str:
        """What the scores say by thresholds or as numbers."""
        decoding = self.circuit.decoding
        if decoding.kind == "numbers":
            fixed = fixed_point(self.circuit)
            for c, (s, o, score) in enumerate(zip(fixed.scale, fixed.offset, scores, strict=True)):
                wide = f"$signed({{{fixed.width - self.score_bits}'b0, {score}}})"
                value = f"{_signed(fixed.width, o)} + {_signed(fixed.width, s)} * {wide}"
                body.lines.append(f"    wire signed [{fixed.width - 1}:0] number{c} = {value};")
            return f"{{{', '.join(f'number{c}' for c in reversed(range(len(scores))))}}}"
        if decoding.kind == "labels":
            reached = [self._reaches(score, t) for score, t in zip(scores, decoding.thresholds, strict=True)]
            return f"{{{', '.join(reversed(reached))}}}"
        text = f"{self.class_bits}'d0"
        for level, threshold in enumerate(decoding.thresholds, 1):
            text = f"{self._reaches(scores[0], threshold)} ? {self.class_bits}'d{level} : {text}"
        return text

    def _reaches(self, score: str, threshold: float) -> str:
        # Out of the score's range the comparison as such would be a lint error.
        if threshold <= 0:
            return "1'b1"
        return f"({score} >= {self.score_bits}'d{threshold})" if threshold < 1 << self.score_bits else "1'b0"

    def _argmax_level(self, body: _Body, label: str, players: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Lets neighbours play; a player is the name of a score and that of its class."""
        winners = []
        last = len(players) <= 2  # the score of the last winner is not needed
        for index in range(0, len(players), 2):
            pair, prefix = players[index : index + 2], f"{label}_{index // 2}"
            score, number = pair[0]
            if len(pair) > 1:
                wins = body.wire(f"{prefix}_wins", f"{pair[1][0]} > {score}")
                if not last:
                    score = body.wire(f"{prefix}_score", f"{wins} ? {pair[1][0]} : {score}", self.score_bits)
                number = body.wire(f"{prefix}_class", f"{wins} ? {pair[1][1]} : {number}", self.class_bits)
            if self.pipeline:
                if not last:
                    score = body.register(f"{prefix}_score_r", score, self.score_bits)
                number = body.register(f"{prefix}_class_r", number, self.class_bits)
            winners.append((score, number))
        return winners

    def top(self) -> str:
        """Gates and sums together."""
        count = self.circuit.outputs.size
        wires = "".join(f"    wire y{index};\n" for index in range(count))
        joined = ",\n        ".join(f".y{index}(y{index})" for index in range(count))
        return self.module(
            "",
            f"    input wire [{self.circuit.num_inputs - 1}:0] x,\n{self.results}",
            f"{wires}    {self.name}_logic logic_part ({self.connect}.x(x),\n        {joined});\n"
            f"    {self.name}_sums sums_part ({self.connect}{self.connect_results},\n"
            f"        {joined});\n",
        )

    def pixels(self, levels: list[int]) -> str:
        """Pixel p is ``pixels[8p +: 8]``; the thresholds become comparators with constants.

        Each bit is a wire of its own, joined once: event-driven simulators evaluate every reader of a vector for each
        bit that is driven on its own.
        """
        pixels = self.circuit.num_inputs // len(levels)
        wires = []
        for t, level in enumerate(levels):
            for p in range(pixels):
                # 255 is never exceeded; the comparison as such would be a lint error.
                value = f"pixels[{8 * p + 7}:{8 * p}] > 8'd{level}" if level < 255 else "1'b0"
                wires.append(f"    wire x{t * pixels + p} = {value};\n")
        joined = ",\n        ".join(f"x{index}" for index in reversed(range(len(wires))))
        return self.module(
            "_pixels",
            _input("pixels", 8 * pixels) + self.results,
            f"{''.join(wires)}    {self.name} net ({self.connect}.x({{{joined}}}),\n        {self.connect_results});\n",
        )

    def rows(self, ports: RowPorts) -> str:
        """Columns are ports; each bit is a wire of its own, as in `pixels`."""
        circuit = self.circuit
        read = np.unique(np.concatenate([*circuit.operands, circuit.outputs]))
        body, count = ports.comparators(read[read < circuit.num_inputs].tolist())
        joined = ",\n        ".join(f"x{index}" for index in reversed(range(circuit.num_inputs)))
        return f"// {count} comparators of columns with constants.\n{ports.fixed_text()}" + self.module(
            "_rows",
            ports.declarations() + self.results,
            f"{body}    {self.name} net ({self.connect}.x({{{joined}}}),\n        {self.connect_results});\n",
        )


def row_ports(comparisons: Comparisons, fixed: Mapping[str, Fixed]) -> RowPorts:
    """The ports of the columns."""
    reserved = frozenset({*_KEYWORDS, "clk", "scores", "class_index", "labels", "numbers", "net"})
    return RowPorts(comparisons, reserved, fixed)


def _adder_level(body: _Body, label: str, terms: list[tuple[str, int]], clocked: bool) -> list[tuple[str, int]]:
    """Adds neighbours. Terms are names with their highest values, so that every sum is as narrow as can be."""
    result = []
    for index in range(0, len(terms), 2):
        pair, name = terms[index : index + 2], f"{label}_{index // 2}"
        highest = sum(bound for _, bound in pair)
        width = highest.bit_length()
        text = pair[0][0]
        if len(pair) > 1:
            extended = [
                f"{{{width - bound.bit_length()}'b0, {term}}}" if bound.bit_length() < width else term
                for term, bound in pair
            ]
            text = body.wire(name, " + ".join(extended), width)
        if clocked:
            text = body.register(f"{name}_r", text, width)
        result.append((text, highest))
    return result


def emit_test_bench(circuit: Netlist, verilog: Verilog, samples: ArrayLike, *, name: str = "lgn_net") -> str:
    """Writes a self-checking test bench: it prints ``PASS`` and the number of vectors, or each wrong one and ``FAIL``.

    Args:
        circuit: The circuit whose scores are expected (the simulated ones).
        verilog: What `emit_verilog` made of it, or of an optimised one.
        samples: Test vectors, as `Circuit.scores` takes them; pixels go through the module ``name_pixels``, rows
            through ``name_rows``.
        name: Name of the top module.
    """
    kind, rows = check_samples(circuit, samples)
    with_pixels = kind != "bits"
    vectors: list[int] = []
    if kind == "rows" and circuit.comparisons is not None:
        ports = row_ports(circuit.comparisons, read_fixed(verilog.text))
        nearest = ports.nearest(rows.view(circuit.comparisons.row_dtype)[:, 0])
        samples, (width, vectors, connect) = nearest, ports.vectors(nearest, "rows")
    expected = scores(circuit, samples)
    if rows.shape[0] == 0:
        raise CircuitError("a test bench needs at least one sample")
    if not vectors:
        width = 8 * rows.shape[1] if with_pixels else circuit.num_inputs
        words = rows if with_pixels else np.packbits(encode(circuit, samples), axis=1, bitorder="little")
        vectors = [int.from_bytes(row.tobytes(), "little") & ((1 << width) - 1) for row in words]
    inputs, module = (kind, f"{name}_{kind}") if with_pixels else ("x", name)
    connect = connect if kind == "rows" else f".{inputs}({inputs})"
    score_width = verilog.score_bits * circuit.num_classes
    lines = []
    results = result_of(circuit, expected)
    for index, row in enumerate(expected.tolist()):
        value = sum(score << (c * verilog.score_bits) for c, score in enumerate(row))
        lines.append(f"        vectors[{index}] = {width}'h{vectors[index]:x};")
        lines.append(f"        wanted_scores[{index}] = {score_width}'h{value:x};")
        lines.append(f"        wanted_class[{index}] = {verilog.class_bits}'h{results[index]:x};")
    clocked = verilog.latency > 0
    return template("test_bench.v.in").format(
        name=name,
        result=port(circuit),
        module=module,
        port=inputs,
        connect=connect,
        clock=".clk(clk), " if clocked else "",
        width=width - 1,
        score_width=score_width - 1,
        class_width=verilog.class_bits - 1,
        count=rows.shape[0],
        latency=verilog.latency,
        vectors="\n".join(lines),
    )


def vector_order(scores: NDArray[np.integer]) -> NDArray[np.intp]:
    """An order of samples, by their scores ``[N, classes]``, in which the classes of the highest ones come in turn.

    Noise lets few classes of a trained net win: without it the first vectors leave most of an argmax untried.
    """
    classes = scores.argmax(axis=1)
    turn = np.zeros(classes.size, np.intp)
    for k in np.unique(classes):
        turn[classes == k] = np.arange(np.count_nonzero(classes == k))
    return np.lexsort((classes, turn))
