"""The pipeline of a circuit that reaches a clock on a device: a few are tried, that first which a model names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lgn_lightning.circuit.hardware.design import design_of, with_encoder
from lgn_lightning.circuit.hardware.tables import map_netlist
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.sequential import SequentialNetlist
from lgn_lightning.deploy.fpga.devices import Device
from lgn_lightning.deploy.fpga.harness import harness
from lgn_lightning.deploy.fpga.implement import DoesNotFitError, Implementation, place_and_route, synthesise
from lgn_lightning.deploy.fpga.tools import Progress, Tool

#: Pipelines that a search goes through, in tables between registers.
PIPELINES: Final = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24)
#: Pipelines that are placed in a search, at most.
_TRIES: Final = 4
#: What the placer aims for where no clock is given, as a multiple of the model's: it works on paths that miss it.
_AIM: Final = 1.2
#: From how many times as many tables as the device has, by the estimate, nothing is tried.
_HOPELESS: Final = 1.5


@dataclass(frozen=True)
class Plan:
    """What a pipeline is before anything is placed: tables, stages, tables on the deepest stage, and ns of a clock."""

    pipeline: int
    tables: int
    stages: int
    levels: int
    nanoseconds: float


def plans(circuit: Netlist, device: Device, pipelines: Iterable[int]) -> list[Plan]:
    """What the model of a device's family says of pipelines, in levels of tables; 0 for none."""
    design, inputs = design_of(circuit), device.family.table_inputs
    whole = map_netlist(with_encoder(design, circuit).netlist, inputs)
    depth = net_depth = max(whole.levels())
    if circuit.comparisons is not None:  # comparators of columns are no tables, and a stage of their own
        net_depth = max(map_netlist(design.netlist, inputs).levels())
    result = []
    for pipeline in pipelines:
        stages, levels = (-(-net_depth // pipeline), min(pipeline, net_depth)) if pipeline else (1, depth)
        if pipeline and circuit.comparisons is not None:
            stages, levels = stages + 1, max(levels, depth - net_depth)
        tables = len(whole.tables)
        result.append(Plan(pipeline, tables, stages, levels, device.family.nanoseconds(levels, tables)))
    return result


@dataclass(frozen=True)
class Bench:
    """What implementations are made with: circuit, device, tools, folder, limit in seconds a tool, progress."""

    circuit: Netlist | SequentialNetlist
    device: Device
    yosys: Tool
    nextpnr: Tool
    folder: Path
    limit: float
    progress: Progress

    def implement(self, pipeline: int, seeds: Sequence[int], clock: float | None) -> Implementation:
        """Synthesises, places and routes; what is left of it lies in a folder of its own.

        Raises:
            DoesNotFitError: If the device is too small.
            ToolError: If a tool fails or takes too long.
        """
        planned = None
        if not isinstance(self.circuit, SequentialNetlist):
            [planned] = plans(self.circuit, self.device, [pipeline])
        if planned is not None and planned.tables > _HOPELESS * self.device.tables:
            raise DoesNotFitError(
                f"the design does not fit: about {planned.tables:,} lookup tables by our estimate, of "
                f"{self.device.tables:,} that {self.device.name} has; take a larger device or a smaller net"
            )
        folder = self.folder / f"pipeline_{pipeline}"
        folder.mkdir(exist_ok=True)
        design = harness(self.circuit, pipeline, self.device.family.name)
        cells = synthesise(design, self.device, self.yosys, folder, self.limit, self.progress)
        aim = clock or _AIM * 1000 / (planned.nanoseconds if planned else 10)
        mhz = place_and_route(self.device, self.nextpnr, folder, seeds, aim, self.limit, self.progress)
        return Implementation(
            pipeline,
            design.latency,
            *cells,
            mhz,
            planned.nanoseconds if planned else None,
            planned.levels if planned else None,
        )

    def more_seeds(self, done: Implementation, seeds: Sequence[int], clock: float) -> Implementation:
        """An implementation with further seeds, of what is synthesised already."""
        folder = self.folder / f"pipeline_{done.pipeline}"
        more = place_and_route(self.device, self.nextpnr, folder, seeds, clock, self.limit, self.progress)
        return replace(done, mhz=done.mhz | more)


def search(bench: Bench, clock: float, seeds: Sequence[int]) -> tuple[Implementation, list[Implementation]]:
    """Finds the pipeline of the fewest registers that reaches a clock, and places it with all seeds.

    It begins with what the model names, and goes to shorter stages until one reaches the clock with the first seed, or
    to longer ones as long as they do, or if the device has no room for so many registers.

    Args:
        bench: What is implemented; no circuit with state.
        clock: MHz.
        seeds: As in `place_and_route`; the first decides.

    Returns:
        The chosen one, and all that were tried. The chosen one may miss the clock: then it is the fastest tried.

    Raises:
        DoesNotFitError: If none of those tried fits.
        ToolError: If a tool fails or takes too long.
    """
    assert isinstance(bench.circuit, Netlist)
    known = plans(bench.circuit, bench.device, PIPELINES)
    choice = list({(own.stages, own.levels): own for own in known}.values())
    place = max((i for i, own in enumerate(choice) if own.nanoseconds <= 1000 / clock), default=0)
    tried: dict[int, Implementation] = {}
    shortest, unfit = 0, list[DoesNotFitError]()
    for _ in range(_TRIES):
        if not shortest <= place < len(choice) or place in tried:
            break
        try:
            tried[place] = bench.implement(choice[place].pipeline, seeds[:1], clock)
            place += 1 if tried[place].fastest >= clock else -1
        except DoesNotFitError as error:
            if not tried and not error.in_longer_stages:
                raise
            unfit.append(error)
            shortest = place = place + 1
    if not tried:
        raise unfit[-1]
    reached = [place for place, own in tried.items() if own.fastest >= clock]
    chosen = max(reached) if reached else max(tried, key=lambda place: tried[place].fastest)
    tried[chosen] = bench.more_seeds(tried[chosen], seeds[1:], clock)
    return tried[chosen], [tried[place] for place in sorted(tried)]
