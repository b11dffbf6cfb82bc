"""The devices that free tools place and route: what they hold, their tools' options, and how fast their cells are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from lgn_lightning.base.errors import LgnError


@dataclass(frozen=True)
class Family:
    """What the devices of a family have in common.

    Attributes:
        name: As in ``nextpnr-<name>`` and ``synth_<name>``.
        synthesis: Options of the latter: comparisons with constants are smaller without carry chains.
        cells: Cells of yosys by what they are counted as: ``luts``, ``registers`` or ``carry``.
        table_inputs: Inputs of a lookup table.
        start: ns of a path without a table: out of a register, a wire, into the next one.
        level: ns that each table with its wire adds, in a design of 1,000 tables.
        growth: How much longer a level takes at ten times as many tables, as a fraction.
    """

    name: str
    synthesis: str
    cells: dict[str, tuple[str, ...]]
    table_inputs: int
    start: float
    level: float
    growth: float

    def nanoseconds(self, levels: int, tables: int) -> float:
        """Model of a clock period: the deepest stage of ``levels`` tables, in a design of so many tables."""
        return self.start + self.level * levels * max(0.5, 1 + self.growth * math.log10(max(tables, 1) / 1000))


@dataclass(frozen=True)
class Device:
    """A device: its family, the options that name it to nextpnr, and how many tables, each with a register, it has."""

    name: str
    family: Family
    options: tuple[str, ...]
    tables: int


# Fitted to nets of 142 to 3,049 tables, the fastest of three seeds after routing: docs/fpga.md.
_ICE40: Final = Family(
    "ice40",
    "-nocarry",
    {"luts": ("SB_LUT4",), "registers": ("SB_DFF*",), "carry": ("SB_CARRY",)},
    table_inputs=4,
    start=1.67,
    level=1.18,
    growth=0.37,
)
_ECP5: Final = Family(
    "ecp5",
    "-noccu2",
    {"luts": ("LUT4",), "registers": ("TRELLIS_FF",), "carry": ("CCU2C",)},
    table_inputs=4,
    start=1.59,
    level=1.07,
    growth=0.18,
)
_UP5K: Final = replace(_ICE40, start=3.2, level=2.9)

DEVICES: Final = {
    device.name: device
    for device in (
        Device("ice40-hx1k", _ICE40, ("--hx1k", "--package", "tq144"), 1280),
        Device("ice40-hx4k", _ICE40, ("--hx4k", "--package", "tq144"), 7680),
        Device("ice40-hx8k", _ICE40, ("--hx8k", "--package", "ct256"), 7680),
        Device("ice40-up5k", _UP5K, ("--up5k", "--package", "sg48"), 5280),
        Device("ecp5-12k", _ECP5, ("--12k", "--package", "CABGA381"), 24288),
        Device("ecp5-25k", _ECP5, ("--25k", "--package", "CABGA381"), 24288),
        Device("ecp5-45k", _ECP5, ("--45k", "--package", "CABGA381"), 43848),
        Device("ecp5-85k", _ECP5, ("--85k", "--package", "CABGA381"), 83640),
    )
}


def find_device(name: str) -> Device:
    """The device of a name; an LgnError that lists them if there is none."""
    if name not in DEVICES:
        raise LgnError(f"there is no device {name!r}; there are {', '.join(DEVICES)}")
    return DEVICES[name]
