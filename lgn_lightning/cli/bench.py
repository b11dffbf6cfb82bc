"""``lgn bench``: how fast a circuit runs in each engine of this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from rich.console import Console
from rich.table import Table

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.machine import pin_to_one_core
from lgn_lightning.circuit import (
    Engine,
    EngineError,
    LoopedCircuit,
    PassReport,
    SequenceEngine,
    SequentialCircuit,
    native,
    optimize_for_export,
    optimize_with_report,
)
from lgn_lightning.circuit.api import AnyCircuit
from lgn_lightning.circuit.run.engine import native_engines
from lgn_lightning.circuit.run.sequences import sequence_frames, step_words
from lgn_lightning.circuit.simulate import encode, pack_bits
from lgn_lightning.cli.options import SHIPPED, add_form, add_trust
from lgn_lightning.deploy.source import read_source
from lgn_lightning.deploy.throughput import rate_text, samples_per_second
from lgn_lightning.deploy.trial import random_samples

_COUNTED: Final = (
    "gates run: what an engine evaluates a sample: the gates that its passes leave, and those that add up the scores\n"
    "of the classes; with AVX-512, machine code has gates of three inputs, which are fewer. numpy runs the net's own."
)


@dataclass(frozen=True)
class Timing:
    """Throughput of one engine.

    Attributes:
        engine: Name of the engine.
        isa: Instruction set of its loops.
        threads: Threads of a call.
        build_seconds: Time to optimise the circuit and build the engine.
        gates: Gates that it evaluates a sample, those that add up the scores included.
        images: Samples a second from pixels, or bools where there is no encoder, to classes: the median.
        packed: Samples a second from packed words to classes: the median.
    """

    engine: str
    isa: str
    threads: int
    build_seconds: float
    gates: int
    images: float
    packed: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("source", type=Path, help=f"circuit file, checkpoint, or folder of a run; {SHIPPED}")
    parser.add_argument("--threads", type=int, default=1, help="threads of a call (default: 1)")
    parser.add_argument("--samples", type=int, default=65_536, help="random samples of a call (default: 65536)")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls, of which the median is shown (default: 7)")
    add_form(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_trust(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    for name in ("threads", "samples", "rounds"):
        if getattr(arguments, name) < 1:
            raise LgnError(f"--{name} must be at least 1, got {getattr(arguments, name)}")
    source = read_source(arguments.source, arguments.form)
    pinned = pin_to_one_core() if arguments.threads == 1 else None
    reports = _passes(source.circuit)
    timings, skipped = measure(source.circuit, arguments.threads, arguments.samples, arguments.rounds)
    where = f"core {pinned}" if pinned is not None else f"{arguments.threads} threads, not pinned"
    if arguments.json:
        facts = {"source": str(source.path), "samples": arguments.samples, "where": where}
        passes = [asdict(report) for report in reports]
        print(json.dumps(facts | {"passes": passes, "engines": [asdict(row) for row in timings]}, indent=2))
        return 0
    print(f"{source.title}: {source.circuit}")
    if reports:
        print(f"{reports[0].before:,} gates", *(f"{report.after:,} {report.name}" for report in reports), sep=" → ")
    kind = "bools" if source.circuit.levels is None else "pixels"
    unit = " steps" if isinstance(source.circuit, SequentialCircuit) else ""
    table = Table("engine", "isa", "build", f"{unit} from {kind}/s".strip(), f"{unit} from bits/s".strip(), "gates run")
    for row in timings:
        build, images, packed = f"{1e3 * row.build_seconds:.1f} ms", rate_text(row.images), rate_text(row.packed)
        table.add_row(row.engine, row.isa, build, images, packed, f"{row.gates:,}")
    Console().print(table)
    print(f"medians of {arguments.rounds} calls with {arguments.samples:,} samples, {where}")
    print(_COUNTED)
    for reason in skipped:
        print(reason)
    return 0


def measure(circuit: AnyCircuit, threads: int, samples: int, rounds: int) -> tuple[list[Timing], list[str]]:
    """Times all engines of this machine in turn, so that a busy spell slows all of them.

    Returns:
        A row for each engine, and why others are missing. Rates of a circuit with state are those of single steps.
    """
    x = random_samples(circuit, samples)
    engines, skipped = _engines(circuit, threads)
    calls: list[Callable[[], object]] = []
    if isinstance(circuit, SequentialCircuit):
        frames = sequence_frames(circuit, x)
        steps = np.stack([step_words(circuit, frames[:, t]) for t in range(frames.shape[1])])
        for engine, _ in engines:
            calls += [partial(engine.predict, x), partial(engine.packed, steps, samples)]
        counted = samples * frames.shape[1]
    else:
        words, counted = pack_bits(encode(circuit, x)), samples
        for engine, _ in engines:
            assert isinstance(engine, Engine)
            calls += [partial(engine.predict, x), partial(engine.predict_packed, words, samples)]
    rates = samples_per_second(calls, counted, rounds)
    rows = []
    for (engine, isa), images, packed in zip(engines, rates[::2], rates[1::2], strict=True):
        gates = engine.info.get("operations", circuit.num_gates)
        rows.append(Timing(engine.name, isa, threads, engine.build_seconds, gates, images, packed))
    return rows, skipped


_AnyEngine: TypeAlias = Engine | SequenceEngine


def _engines(circuit: AnyCircuit, threads: int) -> tuple[list[tuple[_AnyEngine, str]], list[str]]:
    try:
        kinds = native_engines()
    except native.BuildError as error:
        return [(circuit.compile("numpy"), "numpy")], [f"no native engine: {error}"]
    skipped: list[str] = []
    engines: list[tuple[_AnyEngine, str]] = []
    for name, isa in kinds:
        try:
            make = SequenceEngine if isinstance(circuit, SequentialCircuit) else Engine
            engines.append((make(circuit, name, threads=threads, isa=isa), isa))  # type: ignore[arg-type]
        except EngineError as error:  # the same for all sets: no executable memory
            skipped = [str(error)]
    return engines, skipped


def _passes(circuit: AnyCircuit) -> list[PassReport]:
    try:
        native.library()
    except native.BuildError:
        return []
    if isinstance(circuit, SequentialCircuit):
        return optimize_for_export(circuit)[1]
    return optimize_with_report(circuit, level=2 if isinstance(circuit, LoopedCircuit) else 3)[1]
