"""What a proof sees of an AXI4-Stream top level: a stand-in for the net, and what always holds inside."""

from __future__ import annotations

from typing import Final

from lgn_lightning.circuit.emit.axi_stream import AxiStream
from lgn_lightning.circuit.emit.text import template
from lgn_lightning.circuit.hardware.result_port import port

#: What the checker hands to the top level for the proof.
PROBE: Final = (
    "missing",
    "ahead",
    "beat",
    "watching",
    "wanted",
    "wanted_last",
    "held",
    "held_bit",
    "held_last",
    "first",
    "parity",
)


class WatchedAxi(AxiStream):
    """The top level around `stand_in`, with `PROBE` as further ports, and an output ``sound``.

    ``sound`` is whether what always holds inside does. Arguments are those of `AxiStream`.
    """

    def _further_ports(self) -> str:
        wide = {"missing": "[15:0] ", "ahead": "[15:0] ", "beat": f"[{self.beats - 1}:0] "}
        ports = [f"input wire {wide.get(own, '')}{own}" for own in PROBE]
        return "".join(f",\n    {own}" for own in [*ports, "output wire sound"])

    def _further_connections(self) -> list[str]:
        return [f".stand_in_{own}_({own})" for own in self._registers]

    def _further_body(self) -> str:
        shown = "".join(f"    wire {wide}{own};\n" for own, wide in self._registers.items())
        return shown + self._sound()

    @property
    def _registers(self) -> dict[str, str]:
        """Those of `stand_in`, and how wide they are."""
        if self.stateful:
            return {"odd": "", "shown": "", "y": ""}
        return {"late": f"[{self.verilog.latency - 1}:0] "} if self.verilog.latency else {}

    def stand_in(self) -> str:
        """A module with the ports of the net that passes on the first bit of a sample, as late as the net.

        With state the number of its step counts, too. Its registers are further outputs, ``stand_in_…_``: no
        port of a column ends in an underscore.
        """
        late, bits = self.verilog.latency, self.verilog.class_bits
        clocked = ["clk", "reset", "enable"] if self.stateful else ["clk"] if late else []
        ports = [f"input wire {name}" for name in clocked]
        ports += [f"input wire [{width - 1}:0] {name}" for name, width, _ in self.ports]
        ports.append(f"output wire [{self.verilog.score_bits * self.circuit.num_classes - 1}:0] scores")
        ports += [f"output wire [{bits - 1}:0] {port(self.decided)}", *["output wire valid"] * self.stateful]
        ports += [f"output reg {wide}stand_in_{name}_" for name, wide in self._registers.items()]
        first = f"{self.ports[0][0]}[0]"
        if self.stateful:
            result = "stand_in_y_"
            lines = ["assign valid = stand_in_shown_;", "always @(posedge clk) begin"]
            lines += ["    stand_in_shown_ <= enable && !reset;", "    if (reset) stand_in_odd_ <= 1'b0;"]
            lines += ["    else if (enable) stand_in_odd_ <= !stand_in_odd_;"]
            lines += [f"    if (enable) stand_in_y_ <= {first} ^ stand_in_odd_;", "end"]
        else:
            result = f"stand_in_late_[{late - 1}]" if late else first
            value = f"{{stand_in_late_[{late - 2}:0], {first}}}" if late > 1 else first
            lines = [f"always @(posedge clk) stand_in_late_ <= {value};"] if late else []
        lines += ["assign scores = 0;", f"assign {port(self.decided)} = {{{bits}{{1'b0}}}} | {result};"]
        declared, body = (",\n    ".join(ports), "\n    ".join(lines))
        return f"module {self.module} (\n    {declared}\n);\n    {body}\nendmodule\n"

    def _sound(self) -> str:
        """What always holds inside the top level around `stand_in`, as the body of a signal ``sound`` of Verilog."""
        late = self.verilog.latency
        parts = {"going": ("start_late", "start"), "carried": ("late", "sample[0]"), "ending": ("ends_late", "ends")}
        state = "1'b1"
        if self.stateful:
            parts |= {"going": ("shown", "start"), "carried": ("y", "sample[0] ^ odd")}
            state = "parity == (ends || closing ? 1'b0 : odd ^ start) && !(closing && start)"
        return template("axi_sound.v.in").format(
            **{name: f"{{{older}, {newest}}}" if late else newest for name, (older, newest) in parts.items()},
            slots_top=late,
            address_top=self.depth.bit_length() - 2,
            result_top=8 * self.result_bytes + self.verilog.score_bits * self.circuit.num_classes,
            depth=self.depth,
            state=state,
        )
