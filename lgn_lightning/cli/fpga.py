"""``lgn fpga``: what a circuit takes on an FPGA, after place and route by free tools; or a project for a vendor's."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.files import atomic_folder, atomic_write_text
from lgn_lightning.circuit import Circuit, SequentialCircuit, optimize_for_export
from lgn_lightning.cli.options import SHIPPED, add_trust
from lgn_lightning.deploy.fpga.devices import DEVICES, find_device
from lgn_lightning.deploy.fpga.implement import Implementation
from lgn_lightning.deploy.fpga.projects import VENDORS, write_project
from lgn_lightning.deploy.fpga.search import Bench, search
from lgn_lightning.deploy.fpga.tools import Progress, find_tools
from lgn_lightning.deploy.source import read_source

#: The file of results, by which a folder is known as one of this command.
RESULT = "fpga.json"
#: MHz that are no slip: a period of 0.01 ns.
_FASTEST = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Synthesise, place and route a circuit between shift registers with yosys and nextpnr, and say how many cells "
        "it takes and how fast it is. Exits with 1 if it does not fit, or misses the clock."
    )
    parser.add_argument("source", type=Path, help=f"circuit file, checkpoint, or folder of a run; {SHIPPED}")
    text = "with --project, what it calls its device: a part of Vivado, or family:part of Quartus"
    parser.add_argument("--device", required=True, help=f"one of {', '.join(DEVICES)}; {text}")
    text = "instead, write a project for this tool through edalize: the net alone, out of context, with constraints"
    parser.add_argument("--project", choices=list(VENDORS), help=text)
    text = "the clock to reach: a few pipelines are tried, and the one with the fewest registers is taken that does"
    parser.add_argument("--clock", type=float, metavar="MHZ", help=text)
    text = "lookup tables between registers, instead of a search; 0 for a combinational net (default: 4)"
    parser.add_argument("--pipeline", type=int, metavar="LEVELS", help=text)
    text = "placements, each with a seed of its own; the fastest counts, the median is given, too (default: 3)"
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help=text)
    text = "seconds that one run of a tool may take (default: 1800)"
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS", help=text)
    text = "programs on PATH, or those of lgn-lightning[fpga] (default: auto, native ones if all are there)"
    parser.add_argument("--tools", choices=("auto", "native", "pip"), default="auto", help=text)
    text = "folder for Verilog, scripts, logs and results (default: fpga)"
    parser.add_argument("--out", type=Path, default=Path("fpga"), help=text)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    add_trust(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    clock, pipeline = arguments.clock, arguments.pipeline
    _check(arguments)
    device = find_device(arguments.device) if arguments.project is None else None
    _check_folder(arguments.out)
    source = read_source(arguments.source)
    stateful = isinstance(source.circuit, SequentialCircuit)
    if stateful and (clock or pipeline):
        raise LgnError(
            f"{source.path} holds a circuit with state, which has no pipeline: leave --clock and --pipeline out"
        )
    circuit = optimize_for_export(source.circuit if isinstance(source.circuit, SequentialCircuit) else source.flat)[0]
    assert isinstance(circuit, (Circuit, SequentialCircuit))
    if device is None:
        return _write_project(circuit, arguments)
    yosys, nextpnr = find_tools(device.family.name, arguments.tools)
    seeds = list(range(1, arguments.seeds + 1))
    with _result_folder(arguments.out) as folder:
        bench = Bench(circuit, device, yosys, nextpnr, folder, arguments.timeout, Progress())
        if clock and pipeline is None:
            best, tried = search(bench, clock, seeds)
        else:
            depth = 0 if stateful else 4 if pipeline is None else pipeline
            best = bench.implement(depth, seeds, clock)
            tried = [best]
        result: dict[str, Any] = {
            "circuit": str(source.path),
            "gates": circuit.num_gates,
            "device": device.name,
            "device_tables": device.tables,
            "tools": {tool.name: tool.version for tool in (yosys, nextpnr)},
            "clock_mhz": clock,
            **best.as_dict(),
            "tried": [own.as_dict() for own in tried],
        }
        for netlist in folder.glob("*/net.json"):  # tens of megabytes that synthesis.ys makes again
            netlist.unlink()
        atomic_write_text(folder / RESULT, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result) if arguments.json else _text(result, best))
    if clock and best.fastest < clock:
        print(f"lgn: error: {clock:g} MHz is not reached; the fastest is {best.fastest:.1f} MHz", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _result_folder(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of this one in the end; an LgnError where it cannot be written."""
    try:
        with atomic_folder(folder) as new:
            yield new
    except OSError as error:
        raise LgnError(f"cannot write {folder} ({error.strerror or error}); name a folder with --out") from error


def _write_project(circuit: Circuit | SequentialCircuit, arguments: argparse.Namespace) -> int:
    """Writes a project of a vendor's tool, and says how it is run."""
    if isinstance(circuit, SequentialCircuit):
        raise LgnError("a project is one of a net without state: lgn export writes Verilog of those with state")
    pipeline = 4 if arguments.pipeline is None else arguments.pipeline
    with _result_folder(arguments.out) as folder:
        run = write_project(circuit, arguments.project, arguments.device, folder, pipeline, arguments.clock)
        about = {"project": arguments.project, "device": arguments.device, "pipeline": pipeline, "run": run}
        atomic_write_text(folder / RESULT, json.dumps(about, indent=2) + "\n")
    print(json.dumps(about) if arguments.json else f"cd {arguments.out} && {run}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    for name, least in (("seeds", 1), ("pipeline", 0)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise LgnError(f"--{name} must be at least {least}, got {value}")
    if not arguments.timeout > 0:
        raise LgnError(f"--timeout must be positive, got {arguments.timeout:g}")
    if arguments.clock is not None and not 0 < arguments.clock <= _FASTEST:
        raise LgnError(f"--clock must be MHz, above 0 and at most {_FASTEST:,}, got {arguments.clock:g}")


def _check_folder(folder: Path) -> None:
    """Refuses to replace what is no earlier result."""
    if folder.exists() and not (folder / RESULT).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise LgnError(f"{folder} holds something else than results of lgn fpga; name a new folder with --out")


def _text(result: dict[str, Any], best: Implementation) -> str:
    tools = ", ".join(f"{name} {version}" for name, version in result["tools"].items())
    depth = f"at most {best.pipeline} tables between registers" if best.pipeline else "no registers inside"
    of = result["device_tables"]
    lines = [
        f"{result['circuit']} ({result['gates']:,} gates) on {result['device']}: {tools}",
        f"{'':<24}{'net':>10}{'harness':>10}{'device':>10}",
    ]
    for what, title in (("luts", "lookup tables"), ("registers", "registers"), ("carry", "carry cells")):
        own, around = getattr(best.net, what), getattr(best.harness, what)
        lines.append(f"{title:<24}{own:>10,}{around:>10,}{'' if what == 'carry' else f'{of:,}':>10}")
    seeds = ", ".join(f"{mhz:.1f}" for mhz in best.mhz.values())
    lines += [
        f"pipeline: {depth}; a result after {best.latency} cycles"
        + (", a step a cycle" if best.levels is None else ""),
        f"clock: {best.fastest:.1f} MHz (seeds: {seeds}; median {result['mhz_median']:.1f})",
        f"an input each {best.ns_per_image:.2f} ns (initiation interval 1), its result after {best.latency_ns:.1f} ns",
    ]
    if best.estimated_ns is not None:
        lines.append(f"model before synthesis: {best.estimated_ns:.2f} ns a cycle, {best.levels} tables deep")
    return "\n".join(lines)
