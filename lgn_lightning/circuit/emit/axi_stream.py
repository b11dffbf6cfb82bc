"""An AXI4-Stream top level around the Verilog of a circuit: Verilog, VHDL, cocotb test bench, and what its bits are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from lgn_lightning.circuit.emit.text import template
from lgn_lightning.circuit.emit.verilog import Verilog, row_ports, sample_ports, sample_words
from lgn_lightning.circuit.emit.verilog_stream import StreamVectors
from lgn_lightning.circuit.hardware.result_port import fixed_point, port, result_of
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.net.sequential import SequentialNetlist
from lgn_lightning.circuit.simulate import scores

#: Widths of a beat: whole bytes, as AXI4-Stream has them.
_MOST_WIDTH: Final = 4096


@dataclass(frozen=True)
class AxiStream:
    """The top level of a circuit.

    Attributes:
        circuit: The circuit.
        verilog: Its Verilog, which the top level stands beside.
        name: Name of the export; the top level is the module ``name_axis``.
        width: Bits of a beat.

    Raises:
        CircuitError: If a beat is no whole number of bytes.
    """

    circuit: Netlist | SequentialNetlist
    verilog: Verilog
    name: str
    width: int = 32

    def __post_init__(self) -> None:
        check_beat(self.width)

    @property
    def stateful(self) -> bool:
        return isinstance(self.circuit, SequentialNetlist)

    @cached_property
    def decided(self) -> Netlist:
        """The circuit of the scores: of one step, where there is state."""
        return self.circuit.counted if isinstance(self.circuit, SequentialNetlist) else self.circuit

    @cached_property
    def ports(self) -> list[tuple[str, int, int]]:
        """Ports of the net: name, width, and at which bit of a sample it begins, which is that of a byte."""
        _, ports = sample_ports(self.circuit, self.verilog.fixed)
        return [(name, width, start) for (name, width), start in zip(ports, _starts(ports), strict=True)]

    @property
    def beats(self) -> int:
        """Beats of a sample."""
        _, width, start = self.ports[-1]
        return -(-(start + width) // self.width)

    @property
    def latency(self) -> int:
        """Clock cycles from the last beat of a sample to its result, if nobody waits."""
        return self.verilog.latency + 2

    @property
    def depth(self) -> int:
        """Results that there is room for: as many as can be on their way when samples come in each cycle, or more."""
        return 1 << (self.verilog.latency + 2).bit_length()

    @property
    def result_bytes(self) -> int:
        """Bytes of a result."""
        return -(-self.verilog.class_bits // 8)

    def text(self) -> str:
        """The module ``name_axis`` in Verilog-2001."""
        beats, latency, bits = self.beats, self.verilog.latency, self.verilog.class_bits
        user = self.verilog.score_bits * self.circuit.num_classes
        connect = [f".{name}(sample[{start + width - 1}:{start}])" for name, width, start in self.ports]
        connect += [".scores(scores)", f".{port(self.decided)}(decision)"]
        closing = ""
        if self.stateful:
            connect = [".clk(aclk)", ".reset(!aresetn || closing)", ".enable(start)", *connect, ".valid(push)"]
            closing = (
                "    wire push;\n    // Behind the last step of a packet the state begins anew.\n    reg closing;\n"
                "    always @(posedge aclk) closing <= aresetn && ends;\n"
            )
        elif latency:
            connect.insert(0, ".clk(aclk)")
        joined = ",\n        ".join([*connect, *self._further_connections()])
        padding = 8 * self.result_bytes - bits
        address = self.depth.bit_length() - 1
        return template("axi_stream.v.in").format(
            name=self.name,
            module=self.module,
            beats=beats,
            width=self.width,
            packet=self._packet,
            latency=self.latency,
            depth=self.depth,
            width_top=self.width - 1,
            data_top=8 * self.result_bytes - 1,
            user_top=user - 1,
            sample_top=beats * self.width - 1,
            beats_top=beats - 1,
            count_top=address,
            address_top=address - 1,
            gate=" && !ends" if self.stateful else "",
            following="place << 1" if beats > 1 else "1",
            scores_top=user - 1,
            decision_top=bits - 1,
            net=f"{closing}    {self.module} net (\n        {joined}\n    );",
            delay=_delay(latency, not self.stateful),
            result_top=8 * self.result_bytes + user,
            result=f"scores, {f'{padding}{chr(39)}d0, ' if padding else ''}decision",
            further=self._further_ports(),
            inside=self._further_body(),
        )

    # Empty here: a proof watches the top level from inside by these.

    def _further_ports(self) -> str:
        return ""

    def _further_connections(self) -> list[str]:
        return []

    def _further_body(self) -> str:
        return ""

    @property
    def module(self) -> str:
        """The module of the net."""
        return self.name + ("" if self.stateful else sample_ports(self.circuit)[0])

    @property
    def _packet(self) -> str:
        return "a sequence of samples, one a step" if self.stateful else "one sample or several"

    def vhdl(self) -> str:
        """The entity ``name_axis_vhdl``."""
        user = self.verilog.score_bits * self.circuit.num_classes
        signals = [
            ("aclk", "in", 0),
            ("aresetn", "in", 0),
            ("s_axis_tdata", "in", self.width),
            ("s_axis_tvalid", "in", 0),
            ("s_axis_tready", "out", 0),
            ("s_axis_tlast", "in", 0),
            ("m_axis_tdata", "out", 8 * self.result_bytes),
            ("m_axis_tuser", "out", user),
            ("m_axis_tvalid", "out", 0),
            ("m_axis_tready", "in", 0),
            ("m_axis_tlast", "out", 0),
        ]

        def declared(space: str) -> str:
            kinds = [
                f"{space}{name} : {way} " + (f"std_logic_vector({width - 1} downto 0)" if width else "std_logic")
                for name, way, width in signals
            ]
            return ";\n".join(kinds)

        mapped = ",\n".join(f"            {name} => {name}" for name, _, _ in signals)
        return template("axi_stream.vhd.in").format(
            name=self.name, ports=declared(" " * 8), inner=declared(" " * 12), map=mapped
        )

    def vectors(self, samples: ArrayLike, sources: list[str]) -> str:
        """Packets of beats and their results as JSON, for the test bench; with state each sequence is a packet."""
        if isinstance(self.circuit, SequentialNetlist):
            steps = StreamVectors.of(self.circuit, samples)
            words, wanted, results = steps.words, steps.scores, steps.results
            first = np.flatnonzero(steps.first).tolist()
        else:
            words, samples = sample_words(self.circuit, samples, self.verilog.fixed)
            wanted = scores(self.circuit, samples).astype(np.int64)
            results = result_of(self.circuit, wanted)
            first = np.cumsum([0, *(1 + i % 4 for i in range(len(results)))]).tolist()  # packets of one to four
        rows = []
        for bits, row, result in zip(words.bits, wanted.tolist(), results, strict=True):
            user = sum(score << (c * self.verilog.score_bits) for c, score in enumerate(row))
            rows.append({"beats": self.beats_of(bits), "tdata": f"{result:x}", "tuser": f"{user:x}"})
        packets = [rows[start:end] for start, end in zip(first, [*first[1:], len(rows)], strict=True)]
        content = {
            "module": f"{self.name}_axis",
            "sources": sources,
            "width": self.width,
            "beats": self.beats,
            "latency": self.latency,
            "packets": [packet for packet in packets if packet],
        }
        return json.dumps(content, indent=1) + "\n"

    def beats_of(self, bits: int) -> list[str]:
        """The beats of a sample, hexadecimal, of the bits of all ports one after the other."""
        sample, place = 0, 0
        for _, width, start in self.ports:
            sample |= (bits >> place & ((1 << width) - 1)) << start
            place += width
        mask = (1 << self.width) - 1
        return [f"{sample >> (beat * self.width) & mask:x}" for beat in range(self.beats)]

    def bench(self, file: str, vectors: str) -> str:
        """The cocotb test bench, which reads the vectors from a file."""
        return template("axi_stream_cocotb.py.in").format(
            module=f"{self.name}_axis",
            file=file,
            vectors=vectors,
            but=", but one behind each packet" if self.stateful else "",
            pauses="2 + len(packets)" if self.stateful else "2",
        )

    def readme(self) -> str:
        """What the bits of the streams are, in Markdown."""
        kind = port(self.decided)
        results = {
            "class_index": "the number of the class of the highest score",
            "labels": "bit *c* is label *c*",
            "numbers": "numbers in fixed point",
        }
        meaning = results.get(kind, "the level")
        if kind == "numbers":
            fixed = fixed_point(self.decided)
            meaning = f"number *c* is `$signed(tdata[{fixed.width}·c +: {fixed.width}])` / 2^{fixed.fraction}"
        names = self.circuit.class_names or ()
        state = (
            "A packet is a sequence: each sample is a step and has a result, and behind `tlast` the state begins anew."
            if self.stateful
            else "A packet may hold several samples; the result of the last one has `tlast`."
        )
        return template("axi_stream.md.in").format(
            name=self.name,
            beats=self.beats,
            width=self.width,
            latency=self.latency,
            depth=self.depth,
            state=state,
            bytes="one byte" if self.result_bytes == 1 else f"{self.result_bytes} bytes",
            meaning=meaning,
            score_bits=self.verilog.score_bits,
            inputs="\n".join(self._input_rows()),
            classes="\n| number | name |\n|--:|---|\n" * bool(names)
            + "".join(f"| {i} | {_escaped(name)} |\n" for i, name in enumerate(names)),
        )

    def _input_rows(self) -> list[str]:
        """A table of what each bit of a sample is."""
        lines = ["| what | bits of the sample | first beat, its bit | type |", "|---|---|---|---|"]

        def row(what: str, start: int, width: int, kind: str) -> None:
            place = f"{start // self.width}, {start % self.width}"
            lines.append(f"| {what} | {start} … {start + width - 1} | {place} | {kind} |")

        if self.circuit.image_shape is not None:
            channels, height, width = self.circuit.image_shape
            for channel in range(channels):
                for line in range(height):
                    start = 8 * (channel * height + line) * width
                    row(f"channel {channel}, row {line}, columns 0 … {width - 1}", start, 8 * width, "a byte a pixel")
            return lines
        if self.circuit.columns is None:
            row("input bits 0, 1, …", 0, self.circuit.num_inputs, "a bit each")
            return lines
        fixed = self.verilog.fixed
        ports = row_ports(self.circuit, fixed)
        named = dict(zip(ports.names, self.circuit.columns, strict=True))
        missing = dict(zip(ports.missing, ports.names, strict=True))
        for name, width, start in self.ports:
            column = named.get(name)
            if column is None:
                row(f"whether {missing[name]} is missing", start, width, "a bit")
                continue
            codes = ", ".join(f"{code} {_escaped(text)}" for code, text in column.codes.items())
            row(_escaped(column.name), start, width, ports.type_of(column) + (f": {codes}" if codes else ""))
        return lines


def check_beat(width: int) -> None:
    """Refuses, by a CircuitError, what is no width of a beat."""
    if not 0 < width <= _MOST_WIDTH or width % 8:
        raise CircuitError(f"a beat has 8, 16, …, {_MOST_WIDTH} bits, not {width}")


def _starts(ports: list[tuple[str, int]]) -> list[int]:
    """Where each port begins in a sample: at a byte."""
    return [8 * start for start in accumulate((-(-width // 8) for _, width in ports[:-1]), initial=0)]


def _delay(latency: int, with_push: bool) -> str:
    """Verilog of ``push`` and ``push_ends``: ``start`` and ``ends``, as late as the results of the net."""
    lines = []
    for name, source in (("push", "start"), ("push_ends", "ends"))[not with_push :]:
        late = f"{source}_late"
        value = f"{{{late}[{latency - 2}:0], {source}}}" if latency > 1 else source
        if latency:
            lines.append(f"    reg [{latency - 1}:0] {late};")
            lines.append(f"    always @(posedge aclk) {late} <= aresetn ? {value} : 0;")
        lines.append(f"    wire {name} = {f'{late}[{latency - 1}]' if latency else source};")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
