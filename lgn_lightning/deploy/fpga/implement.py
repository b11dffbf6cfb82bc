"""One implementation of a circuit on a device: synthesised, checked against the device, placed and routed."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit.check.tools import ToolError
from lgn_lightning.deploy.fpga.devices import Device, Family
from lgn_lightning.deploy.fpga.harness import Harness
from lgn_lightning.deploy.fpga.tools import Progress, Tool, run_tool


class DoesNotFitError(LgnError):
    """A design has more cells than its device.

    Attributes:
        in_longer_stages: Whether a pipeline with fewer registers may fit.
    """

    def __init__(self, message: str, in_longer_stages: bool = False) -> None:
        super().__init__(message)
        self.in_longer_stages = in_longer_stages


@dataclass(frozen=True)
class Cells:
    """Cells of a design after synthesis: lookup tables, registers, and cells of carry chains."""

    luts: int
    registers: int
    carry: int


@dataclass(frozen=True)
class Implementation:
    """A circuit on a device.

    Attributes:
        pipeline: Lookup tables between registers; 0 for a combinational design.
        latency: Clock cycles from an input to its result; 0 for a combinational design.
        net: Cells of the net.
        harness: Cells of the shift registers around it.
        mhz: Highest clock by seed, after routing.
        estimated_ns: Clock period by the model of the device's family, before synthesis; None with state.
        levels: Lookup tables between two registers at most; None with state.
    """

    pipeline: int
    latency: int
    net: Cells
    harness: Cells
    mhz: dict[int, float]
    estimated_ns: float | None
    levels: int | None

    @property
    def fastest(self) -> float:
        """The highest clock of all seeds, MHz."""
        return max(self.mhz.values())

    @property
    def ns_per_image(self) -> float:
        """Ns between two images at initiation interval 1: the clock period of the fastest seed."""
        return 1000 / self.fastest

    @property
    def latency_ns(self) -> float:
        """Ns from an image to its result."""
        return max(1, self.latency) * self.ns_per_image

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {
            "initiation_interval": 1,
            "mhz_fastest": self.fastest,
            "mhz_median": statistics.median(self.mhz.values()),
            "ns_per_image": round(self.ns_per_image, 3),
            "latency_ns": round(self.latency_ns, 3),
        }


def synthesise(
    design: Harness, device: Device, yosys: Tool, folder: Path, limit: float, progress: Progress
) -> tuple[Cells, Cells]:
    """Writes ``net.json`` into a folder and returns the cells of net and harness.

    Raises:
        DoesNotFitError: If there are more than the device has.
        ToolError: If yosys fails or takes too long.
    """
    (folder / "net.v").write_text(design.text, encoding="utf-8")
    family = device.family
    script = [
        "read_verilog net.v",
        f"synth_{family.name} {family.synthesis} -top harness",
        "tee -q -o cells.json stat -json",
        # Cells are counted by module; what is placed has none.
        "setattr -mod -unset keep_hierarchy *",
        "flatten",
        "opt_clean -purge",
        "write_json net.json",
    ]
    (folder / "synthesis.ys").write_text("\n".join(script) + "\n", encoding="utf-8")
    progress.begin(f"yosys {yosys.version}, {design.latency} cycles deep", limit)
    run_tool(yosys, ["-s", "synthesis.ys"], folder, "yosys.log", limit, progress, _yosys_step)
    net, harness = read_cells((folder / "cells.json").read_text(encoding="utf-8"), device.family)
    progress.end(f"{net.luts:,} lookup tables, {net.registers:,} registers")
    check_fit(net, harness, device)
    return net, harness


def _yosys_step(line: str) -> str | None:
    found = re.match(r"([\d.]+) Executing (\w+) pass", line)
    return f"{found[1]} {found[2].lower()}" if found else None


def read_cells(report: str, family: Family) -> tuple[Cells, Cells]:
    """Cells of the modules ``measured`` and ``harness`` in what ``stat -json`` of yosys wrote."""
    # Releases of yosys before 0.30 put a line of text before it.
    modules = json.loads(report[report.index("{") :])["modules"]
    found = []
    for name in ("measured", "harness"):
        types = next(module["num_cells_by_type"] for key, module in modules.items() if key.strip("\\") == name)
        found.append(
            Cells(
                **{
                    what: sum(
                        count for cell, count in types.items() if any(fnmatch(cell, pattern) for pattern in patterns)
                    )
                    for what, patterns in family.cells.items()
                }
            )
        )
    return found[0], found[1]


def check_fit(net: Cells, harness: Cells, device: Device) -> None:
    """Refuses, by a DoesNotFitError, what has more lookup tables or registers than the device."""
    for what in ("luts", "registers"):
        own, around = getattr(net, what), getattr(harness, what)
        if own + around > device.tables:
            names = {"luts": "lookup tables", "registers": "registers"}
            raise DoesNotFitError(
                f"the design does not fit: {own:,} {names[what]} and {around:,} of the shift registers around it, of "
                f"{device.tables:,} that {device.name} has; take a larger device, a smaller net"
                + (" or a larger --pipeline" if what == "registers" else ""),
                in_longer_stages=what == "registers",
            )


def place_and_route(
    device: Device,
    nextpnr: Tool,
    folder: Path,
    seeds: Sequence[int],
    target: float,
    limit: float,
    progress: Progress,
) -> dict[int, float]:
    """Places and routes ``net.json`` of a folder with each seed; the highest clocks in MHz, by seed.

    Args:
        device: The device.
        nextpnr: The tool of its family.
        folder: That of `synthesise`.
        seeds: What the random numbers of the placer begin with.
        target: MHz that it aims for.
        limit: Seconds that one run may take.
        progress: Told of what is done.

    Raises:
        DoesNotFitError: If cells cannot be packed into the device.
        ToolError: If nextpnr fails or takes too long.
    """
    result = {}
    for seed in seeds:
        report = f"timing_{seed}.json"
        arguments = [*device.options, "--json", "net.json", "--seed", str(seed), "--report", report]
        arguments += ["--freq", f"{target:g}", "--timing-allow-fail"]
        progress.begin(f"nextpnr {nextpnr.version}, {device.name}, seed {seed}", limit)
        log = f"nextpnr_{seed}.log"
        try:
            run_tool(nextpnr, arguments, folder, log, limit, progress, _nextpnr_step)
        except ToolError as error:
            text = (folder / log).read_text(encoding="utf-8", errors="replace")
            raise (_packed_too_much(text, device) or error) from error
        result[seed] = read_clock((folder / report).read_text(encoding="utf-8"))
        progress.end(f"{result[seed]:.1f} MHz")
    return result


def _nextpnr_step(line: str) -> str | None:
    found = re.match(r"Info: (Packing|Placing|Creating|Routing|Running|Promoting|Starting)\b(.*)", line)
    return f"{found[1]}{found[2]}".lower().rstrip(".…") if found else None


def _packed_too_much(log: str, device: Device) -> DoesNotFitError | None:
    """What is there more than once in the table of utilisation."""
    for cell, used, there in re.findall(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", log):
        if int(used) > int(there):
            return DoesNotFitError(
                f"the packed design does not fit: {int(used):,} {cell} of {int(there):,} that {device.name} has; "
                "take a larger device or a smaller net",
                in_longer_stages=True,  # a cell holds a table, a register or both
            )
    return None


def read_clock(report: str) -> float:
    """The highest clock in a report of nextpnr, MHz; a ToolError if it has none."""
    clocks = json.loads(report).get("fmax", {})
    if not clocks:
        raise ToolError("nextpnr reports no clock: no path leads from a register to another one")
    return min(float(clock["achieved"]) for clock in clocks.values())
