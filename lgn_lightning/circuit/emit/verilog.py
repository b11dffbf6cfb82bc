"""Writes a circuit as Verilog-2001: gates, sums, decision; combinational or pipelined; with a test bench."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.emit.expressions import gate_expression
from lgn_lightning.circuit.emit.text import is_identifier, template
from lgn_lightning.circuit.emit.verilog_luts import LUT_CELLS
from lgn_lightning.circuit.emit.verilog_rows import Fixed, RowPorts
from lgn_lightning.circuit.hardware.design import design_of, with_encoder
from lgn_lightning.circuit.hardware.result_port import describe_port, port, result_bits, result_of
from lgn_lightning.circuit.hardware.tables import map_netlist
from lgn_lightning.circuit.net.netlist import CircuitError, CircuitInputs, Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO
from lgn_lightning.circuit.net.sequential import SequentialNetlist
from lgn_lightning.circuit.passes.flat import remove_dead_gates
from lgn_lightning.circuit.simulate import check_samples, encode, scores

# A net of one class with one output has no adder and no argmax, so nothing to clock.
_CLOCKED = "    // verilator lint_off UNUSED\n    input wire clk,\n    // verilator lint_on UNUSED\n"

_HEAD = """// A logic gate network, written by lgn-lightning.
// Latency: {latency} clock cycles{behind}; initiation interval 1.
// The score of class c is scores[{bits} * c +: {bits}].{more}
`default_nettype none

"""

#: Zero and one, which are never delayed.
CONSTANTS = ("1'b0", "1'b1")

_KEYWORDS = frozenset(template("verilog_keywords.txt").split())  # of IEEE 1364-2005
#: What IEEE 1800-2017 adds to them, as most tools read any file as SystemVerilog; and two of Icarus Verilog.
_LATER = frozenset(template("systemverilog_keywords.txt").split())


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
        fixed: Columns whose ports are of fixed point.
    """

    text: str
    latency: int
    score_bits: int
    class_bits: int
    fixed: Mapping[str, Fixed] = field(default_factory=dict)


def emit_verilog(
    circuit: Netlist,
    *,
    name: str = "lgn_net",
    pipeline: int = 0,
    ports: Mapping[str, Fixed] | None = None,
    luts: str | None = None,
) -> Verilog:
    """Writes a circuit as Verilog.

    Args:
        circuit: The circuit; only dead gates are left out, so optimise it before.
        name: Name of the top module.
        pipeline: Gate levels between registers, through gates, sums and decision; a compressor or a part of a
            comparison counts two. The bits of an encoder have registers, too. A new input is taken every clock cycle.
            0 for a combinational circuit.
        ports: Columns of a table whose ports are signed numbers: their width, and how many bits of it are a fraction.
            Others have the bits of their types.
        luts: Lookup tables that the design is mapped to, one of `LUT_CELLS`; ``pipeline`` is then in levels of tables.
            There is one module, ``name_pixels``, or ``name`` where the inputs are no pixels. None for expressions.

    Raises:
        CircuitError: If ``name`` is no identifier, ``pipeline`` is negative, or a port or ``luts`` cannot be.
        BuildError: With ``luts``, without a C++ compiler.
    """
    check_module(name)
    if pipeline < 0:
        raise CircuitError(f"pipeline must be 0 or the gate levels of a stage, got {pipeline}")
    if luts is not None and luts not in LUT_CELLS:
        raise CircuitError(f"luts must be one of {', '.join(LUT_CELLS)}, got {luts!r}")
    writer = _Writer(remove_dead_gates(circuit), name, pipeline, luts)
    tables_alone = luts is not None and circuit.levels is not None
    latency = writer.latency + (pipeline > 0 and not circuit.is_plain and not tables_alone)
    more = f"; {writer.latency} behind the encoder" if latency > writer.latency else ""
    head = _HEAD.format(latency=latency, behind=more, bits=writer.score_bits, more=describe_port(circuit))
    text = head + (writer.logic() + writer.sums() + writer.top() if luts is None else writer.tables())
    if circuit.levels is not None and luts is None:
        text += writer.pixels(circuit.levels.tolist())
    if circuit.comparisons is not None:
        text += writer.rows(row_ports(circuit, ports))
    elif ports:
        raise CircuitError("ports are those of a table's columns, and this circuit has none")
    return Verilog(text + "`default_nettype wire\n", latency, writer.score_bits, writer.class_bits, dict(ports or {}))


def check_module(name: str) -> None:
    """Refuses, by a CircuitError, what is no name of a module."""
    if not is_identifier(name) or name in _KEYWORDS | _LATER:
        raise CircuitError(f"{name!r} cannot be a Verilog module: use letters, digits and underscores, and no keyword")


class _Body:
    """Declarations of a module, and the registers between its stages.

    Args:
        stages: The stage of every node, see `Design.stages`.
        names: How a node is called in the stage in which it is made.
    """

    def __init__(self, stages: list[int], names: dict[int, str]) -> None:
        self.stages, self.names = stages, names
        self.lines: list[str] = []
        self._delayed: dict[tuple[int, int], str] = {}

    def at(self, node: int, stage: int) -> str:
        """Name of a node's value in a later stage: each stage in between adds a register."""
        name = self.names[node]
        late = 0 if name in CONSTANTS else stage - self.stages[node]
        if late <= 0:
            return name
        if (node, stage) not in self._delayed:
            self.at(node, stage - 1)
            self._delayed[node, stage] = f"{name.replace('[', '').rstrip(']')}_r{late}"
        return self._delayed[node, stage]

    def text(self) -> str:
        lines = [*self.lines, *(f"    reg {name};" for name in self._delayed.values())]
        if self._delayed:
            lines.append("    always @(posedge clk) begin")
            lines += [f"        {name} <= {self.at(node, when - 1)};" for (node, when), name in self._delayed.items()]
            lines.append("    end")
        return "\n".join(lines) + "\n"


def bit_ports(direction: str, count: int) -> str:
    """Output bits are ports of their own: a vector of thousands of bits makes event-driven simulators quadratic."""
    return ",\n".join(f"    {direction} wire y{index}" for index in range(count))


def input_port(name: str, width: int) -> str:
    return _maybe_unread(f"    input wire [{width - 1}:0] {name},") + "\n"


def _maybe_unread(ports: str) -> str:
    """Ports some of which, or some bits of which, may have no reader."""
    return f"    // verilator lint_off UNUSED\n{ports}\n    // verilator lint_on UNUSED"


class _Writer:
    """Writes the modules of one circuit."""

    def __init__(self, circuit: Netlist, name: str, pipeline: int, luts: str | None = None) -> None:
        self.circuit, self.name, self.pipeline = circuit, name, pipeline
        self.design = design_of(circuit)
        if luts is not None:
            self.cells = LUT_CELLS[luts]
            whole = self.design if circuit.levels is None else with_encoder(self.design, circuit)
            self.mapped = map_netlist(whole.netlist, self.cells.inputs)
            self.outputs: Sequence[int] = self.mapped.outputs
            self.stages = self.mapped.stages(pipeline)
        else:
            self.outputs = self.design.netlist.outputs.tolist()
            self.stages = self.design.stages(pipeline).tolist()
        self.score_bits, self.class_bits = result_bits(circuit)
        self.connect = ".clk(clk), " if pipeline else ""
        self.decision = port(circuit)
        self.connect_results = f".scores(scores), .{self.decision}({self.decision})"
        self.results = (
            f"    output wire [{self.score_bits * circuit.num_classes - 1}:0] scores,\n"
            f"    output wire [{self.class_bits - 1}:0] {self.decision}"
        )

    @property
    def latency(self) -> int:
        """Clock cycles from the input bits to the results, which come out of registers."""
        last = max([self.stages[node] for node in self.outputs if node >= 0], default=0)
        return last + 1 if self.pipeline else 0

    def module(self, suffix: str, ports: str, body: str) -> str:
        clock = _CLOCKED if self.pipeline else ""
        return f"module {self.name}{suffix} (\n{clock}{ports}\n);\n{body}endmodule\n\n"

    def logic(self) -> str:
        """The gates. Each output has the stage in which it is made."""
        inputs, gates = self.circuit.num_inputs, self.circuit.num_gates
        body = self._nodes({node: f"x[{node}]" for node in range(inputs)}, range(gates), "n")
        nodes = self.circuit.outputs.tolist()
        places = [f"    assign y{index} = {body.names[node]};\n" for index, node in enumerate(nodes)]
        ports = input_port("x", inputs) + bit_ports("output", len(nodes))
        return self.module("_logic", ports, body.text() + "".join(places))

    def sums(self) -> str:
        """Compressors and comparators behind the gates."""
        net, first = self.design.netlist, self.circuit.num_gates
        names = {node: f"y{index}" for index, node in reversed(list(enumerate(self.circuit.outputs.tolist())))}
        body = self._nodes(names, range(first, net.num_gates), "s")
        results = self._results([body.at(node, self.latency) for node in net.outputs.tolist()])
        ports = f"{_maybe_unread(bit_ports('input', self.circuit.outputs.size) + ',')}\n{self.results}"
        return self.module("_sums", ports, body.text() + results)

    def _results(self, bits: list[str]) -> str:
        scores, decision = bits[: self.design.num_scores], bits[self.design.num_scores :]
        return f"    assign scores = {_joined(scores)};\n    assign {self.decision} = {_joined(decision)};\n"

    def tables(self) -> str:
        """The whole design as lookup tables, the encoder of pixels among them."""
        net, cells = self.mapped, self.cells
        suffix, port = ("", "x") if self.circuit.levels is None else ("_pixels", "pixels")
        body = _Body(self.stages, {node: f"{port}[{node}]" for node in range(net.num_inputs)})
        body.names |= {ZERO: CONSTANTS[0], ONE: CONSTANTS[1]}
        for index, (read, table) in enumerate(zip(net.leaves, net.tables, strict=True)):
            node = net.num_inputs + index
            body.names[node] = f"t{index}"
            wires = [body.at(leaf, self.stages[node]) for leaf in read]
            body.lines += [f"    wire t{index};", cells.instance(self.name, f"lut{index}", f"t{index}", table, wires)]
        results = self._results([body.at(node, self.latency) for node in net.outputs])
        count = f"{len(net.tables)} lookup tables of {cells.inputs} inputs"
        comment = f"// Module {self.name}{suffix}: {count}, {max(net.levels())} levels.\n\n"
        models = comment + cells.models(self.name, map(cells.size, map(len, net.leaves)))
        return models + self.module(suffix, input_port(port, net.num_inputs) + self.results, body.text() + results)

    def _nodes(self, names: dict[int, str], gates: range, prefix: str) -> _Body:
        """Some nodes of the design, in a module whose ports have ``names``."""
        net = self.design.netlist
        body = _Body(self.stages, names)
        tables = net.gates.tolist()
        operands = np.stack(net.operands, axis=1).tolist()
        for index, gate in enumerate(gates):
            node = net.num_inputs + gate
            if tables[gate] in (0, 255):
                names[node] = CONSTANTS[tables[gate] == 255]
                continue
            read = [body.at(operand, self.stages[node]) for operand in operands[gate]]
            names[node] = f"{prefix}{index}"
            body.lines.append(f"    wire {names[node]} = {gate_expression(tables[gate], read)};")
        return body

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
                wires.append(f"    wire x{t * pixels + p}_ = {value};\n")
        return self._encoded("_pixels", input_port("pixels", 8 * pixels), "".join(wires))

    def rows(self, ports: RowPorts) -> str:
        """Columns are ports; each bit is a wire of its own, as in `pixels`."""
        body, count = ports.comparators(self.circuit.inputs_read.tolist())
        comment = f"// {count} comparators of columns with constants.\n{ports.fixed_text()}"
        return comment + self._encoded("_rows", ports.declarations(), body)

    def _encoded(self, suffix: str, ports: str, body: str) -> str:
        """The net behind the wires of an encoder, in a pipeline behind registers."""
        read: list[int] = self.circuit.inputs_read.tolist() if self.pipeline else []
        if read:
            body += "".join(f"    reg x{bit}_r_;\n" for bit in read) + "    always @(posedge clk) begin\n"
            body += "".join(f"        x{bit}_r_ <= x{bit}_;\n" for bit in read) + "    end\n"
        kept = set(read)
        bits = [f"x{index}_r_" if index in kept else f"x{index}_" for index in range(self.circuit.num_inputs)]
        joined = ",\n        ".join(reversed(bits))
        net = f"    {self.name} net ({self.connect}.x({{{joined}}}),\n        {self.connect_results});\n"
        return self.module(suffix, ports + self.results, body + net)


def row_ports(circuit: CircuitInputs, fixed: Mapping[str, Fixed] | None = None) -> RowPorts:
    """The ports of the columns of a circuit that has some."""
    assert circuit.comparisons is not None
    reserved = frozenset({*_KEYWORDS, "clk", "scores", "class_index", "labels", "numbers", "net"})
    control = ("reset", "enable", "valid") if isinstance(circuit, SequentialNetlist) else ()
    return RowPorts(circuit.comparisons, reserved, _LATER.union(control), fixed or {})


def declare_ports(circuit: CircuitInputs) -> str:
    """The ports of `sample_ports` in the head of a module."""
    if circuit.comparisons is not None:
        return row_ports(circuit).declarations()
    return "".join(input_port(name, width) for name, width in sample_ports(circuit)[1])


def sample_ports(circuit: CircuitInputs, ports: Mapping[str, Fixed] | None = None) -> tuple[str, list[tuple[str, int]]]:
    """The module that takes whole samples, as what follows the name of an export; and its ports, names and widths."""
    if circuit.comparisons is not None:
        return "_rows", row_ports(circuit, ports).widths
    if circuit.num_pixels is not None:
        return "_pixels", [("pixels", 8 * circuit.num_pixels)]
    return "", [("x", circuit.num_inputs)]


def _joined(bits: list[str]) -> str:
    """A vector of bits, the lowest first."""
    return f"{{{', '.join(reversed(bits))}}}"


@dataclass(frozen=True)
class SampleWords:
    """Samples as bits of the ports of a module, ``name`` and ``suffix``, and how ``vector`` feeds them."""

    suffix: str
    width: int
    bits: list[int]
    connect: str


def sample_words(
    circuit: CircuitInputs, samples: ArrayLike, fixed: Mapping[str, Fixed] | None = None
) -> tuple[SampleWords, ArrayLike]:
    """Samples as bits of ports, and the samples again, as far as ports of fixed point hold them."""
    kind, rows = check_samples(circuit, samples)
    if kind == "rows" and circuit.comparisons is not None:
        ports = row_ports(circuit, fixed)
        nearest = ports.nearest(rows.view(circuit.comparisons.row_dtype)[:, 0])
        return SampleWords("_rows", *ports.vectors(nearest, "vector")), nearest
    suffix, name, width = "", "x", circuit.num_inputs
    if kind == "pixels":
        suffix, [(name, width)] = sample_ports(circuit)
    words = rows if kind == "pixels" else np.packbits(encode(circuit, samples), axis=1, bitorder="little")
    bits = [int.from_bytes(row.tobytes(), "little") & ((1 << width) - 1) for row in words]
    return SampleWords(suffix, width, bits, f".{name}(vector)"), samples


def emit_test_bench(circuit: Netlist, verilog: Verilog, samples: ArrayLike, *, name: str = "lgn_net") -> str:
    """Writes a self-checking test bench: it prints ``PASS`` and the number of vectors, or each wrong one and ``FAIL``.

    Args:
        circuit: The circuit whose scores are expected (the simulated ones).
        verilog: What `emit_verilog` made of it, or of an optimised one.
        samples: Test vectors, as `Circuit.scores` takes them; pixels go through the module ``name_pixels``, rows
            through ``name_rows``.
        name: Name of the top module.
    """
    words, samples = sample_words(circuit, samples, verilog.fixed)
    expected = scores(circuit, samples)
    if not words.bits:
        raise CircuitError("a test bench needs at least one sample")
    score_width = verilog.score_bits * circuit.num_classes
    lines = []
    results = result_of(circuit, expected)
    for index, row in enumerate(expected.tolist()):
        value = sum(score << (c * verilog.score_bits) for c, score in enumerate(row))
        lines.append(f"        vectors[{index}] = {words.width}'h{words.bits[index]:x};")
        lines.append(f"        wanted_scores[{index}] = {score_width}'h{value:x};")
        lines.append(f"        wanted_class[{index}] = {verilog.class_bits}'h{results[index]:x};")
    clocked = verilog.latency > 0
    return template("test_bench.v.in").format(
        name=name,
        result=port(circuit),
        module=f"{name}{words.suffix}",
        connect=words.connect,
        clock=".clk(clk), " if clocked else "",
        width=words.width - 1,
        score_width=score_width - 1,
        class_width=verilog.class_bits - 1,
        count=len(words.bits),
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
