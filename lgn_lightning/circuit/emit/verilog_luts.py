"""Lookup tables in Verilog: instances of primitives that synthesis keeps, and models of these to simulate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

#: What `as_yosys_cells` calls a lookup table, for ``chtype -set $lut t:…``.
YOSYS_CELL: Final = "lgn_table"


@dataclass(frozen=True)
class LutCells:
    """The lookup tables of a technology.

    Attributes:
        what: In words.
        inputs: Most inputs of a table.
        module: Name of its module; ``{}`` is the number of inputs, of which there are then 1 to ``inputs``.
        parameter: The parameter that holds the entries, the lowest bit of their numbers being the first input.
        ports: Names of the inputs.
        output: Name of the output.
        own: Whether the modules are written with the net, and no vendor's.
    """

    what: str
    inputs: int
    module: str
    parameter: str = "INIT"
    ports: tuple[str, ...] = ("I0", "I1", "I2", "I3", "I4", "I5")
    output: str = "O"
    own: bool = False

    def size(self, read: int) -> int:
        """Inputs of the table that holds one of ``read`` inputs."""
        return read if "{}" in self.module else self.inputs

    def instance(self, prefix: str, label: str, output: str, table: int, read: Sequence[str]) -> str:
        """An instance; inputs that are too many are 0."""
        size = self.size(len(read))
        entries = table
        for more in range(len(read), size):
            entries |= entries << (1 << more)
        tied = [*read, *["1'b0"] * (size - len(read))]
        wires = "".join(f", .{port}({wire})" for port, wire in zip(self.ports, tied, strict=False))
        value = f"{1 << size}'h{entries:x}"
        module = self.name(prefix, size)
        return f"    {module} #(.{self.parameter}({value})) {label} (.{self.output}({output}){wires});"

    def name(self, prefix: str, size: int) -> str:
        """The module of a size."""
        return f"{prefix}_" * self.own + self.module.format(size)

    def models(self, prefix: str, sizes: Iterable[int]) -> str:
        """The modules: for simulation alone where they are a vendor's; our own are boxes to yosys, which it keeps."""
        text = ""
        for size in sorted(set(sizes)):
            name, ports = self.name(prefix, size), self.ports[:size]
            declared = ", ".join([f"output wire {self.output}", *(f"input wire {port}" for port in ports)])
            body = (
                f"module {name} #(parameter [{(1 << size) - 1}:0] {self.parameter} = 0) ({declared});\n"
                f"    wire [{(1 << size) - 1}:0] entries = {self.parameter};\n"
                f"    assign {self.output} = entries[{{{', '.join(reversed(ports))}}}];\nendmodule\n"
            )
            if self.own:
                text += f"`ifdef YOSYS\n(* blackbox *)\n`endif\n{body}\n"
            else:
                text += f"`ifndef LGN_{name}\n`define LGN_{name}\n{body}`endif\n"
        return text if self.own else f"// Synthesis has these.\n`ifndef SYNTHESIS\n{text}`endif\n\n"


#: The technologies, by the words of ``--luts``.
LUT_CELLS: Final[dict[str, LutCells]] = {
    "lut6": LutCells("modules of up to six inputs, for any tool", 6, "lut{}", own=True),
    "lut4": LutCells("modules of up to four inputs, for any tool", 4, "lut{}", own=True),
    "xilinx": LutCells("LUT1 to LUT6 of AMD", 6, "LUT{}"),
    "ecp5": LutCells("LUT4 of Lattice ECP5", 4, "LUT4", ports=("A", "B", "C", "D"), output="Z"),
    "ice40": LutCells("SB_LUT4 of Lattice iCE40", 4, "SB_LUT4", "LUT_INIT"),
}


def as_yosys_cells(text: str) -> str:
    """Verilog whose lookup tables are `YOSYS_CELL`, with the ports of yosys' own; thousands of models take minutes."""
    modules = "|".join((r"\w+_" if cells.own else "") + cells.module.format("[1-6]") for cells in LUT_CELLS.values())
    head = rf"^    (?:{modules}) #\(\.(?:LUT_)?INIT\((\d+'h[0-9a-f]+)\)\) (\w+) "
    body = r"\(\.[OZ]\((\w+)\)((?:, \.\w+\([^()]*\))+)\);$"

    def cell(found: re.Match[str]) -> str:
        ports = dict(re.findall(r"\.(\w+)\(([^()]*)\)", found[4]))
        wires = ", ".join(ports[name] for name in sorted(ports, reverse=True))
        parameters = f".WIDTH({len(ports)}), .LUT({found[1]})"
        return f"    {YOSYS_CELL} #({parameters}) {found[2]} (.A({{{wires}}}), .Y({found[3]}));"

    return re.sub(head + body, cell, text, flags=re.MULTILINE)
