"""Inference of a hard net on one core, side by side: engines, exported C and the peers' compiled nets.

    python benchmarks/inference.py net.lgn --peer difflogic --peer torchlogix

Every row is timed end to end, from a bool array ``[N, inputs]`` (or packed words) in memory to int32 scores and the
argmax, on one pinned core; rounds visit all rows in turn, so that a busy machine slows all of them; medians and ranges.
Build times are CPU seconds, compilers included, so that they can be taken on a busy machine; ``--pause`` waits for
Enter before the timed rounds, for which the machine should be quiet.

Peers are not part of this package: they must be importable (``PYTHONPATH=/path/to/difflogic:/path/to/torchlogix/src``),
torchlogix's circuits in Python 3.12 or newer. Each gets the very gates of the circuit, through its public API.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lgn_lightning.circuit import Circuit, CompiledCircuit, Engine, EngineError, optimize_for_export
from lgn_lightning.circuit.emit.compiler import compile_source
from lgn_lightning.circuit.simulate import pack_bits

Run = Callable[[], np.ndarray]


def layers_of(circuit: Circuit) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cuts the gates of an unoptimised dense net into its layers: (indices a, indices b, gates)."""
    starts, begin = [0], circuit.num_inputs
    highest = np.maximum(circuit.a, circuit.b)
    for gate in range(circuit.num_gates):
        if highest[gate] >= begin:
            starts.append(gate)
            begin = circuit.num_inputs + gate
    layers, first = [], 0
    for start, end in zip(starts, [*starts[1:], circuit.num_gates], strict=True):
        part = slice(start, end)
        layers.append((circuit.a[part] - first, circuit.b[part] - first, circuit.gates[part]))
        first = circuit.num_inputs + start
    for a, b, _ in layers:
        if min(a.min(), b.min()) < 0:
            raise SystemExit(
                "the circuit is no dense net as trained (optimised, or of another kind): no peer can run it"
            )
    return layers


class Stopwatch:
    """CPU seconds of this process and of the compilers that it started."""

    def __init__(self) -> None:
        self.started = self._now()

    def seconds(self) -> float:
        """CPU seconds since it was made."""
        return self._now() - self.started

    @staticmethod
    def _now() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime


def difflogic_rows(circuit: Circuit, samples: np.ndarray) -> dict[str, tuple[Run, float]]:
    """The original library's CompiledLogicNet with its defaults."""
    # Its package imports a CUDA extension that the CPU way does not use.
    sys.modules.setdefault("difflogic_cuda", types.ModuleType("difflogic_cuda"))
    library: Any = importlib.import_module("difflogic")
    import torch

    modules = []
    width = circuit.num_inputs
    for a, b, gates in layers_of(circuit):
        layer = library.LogicLayer(width, gates.size, device="cpu", implementation="python")
        layer.indices = (torch.from_numpy(a.astype(np.int64)), torch.from_numpy(b.astype(np.int64)))
        layer.weights.data = torch.nn.functional.one_hot(torch.from_numpy(gates.astype(np.int64)), 16).float()
        modules.append(layer)
        width = gates.size
    net = torch.nn.Sequential(*modules, library.GroupSum(k=circuit.num_classes))
    watch = Stopwatch()
    compiled = library.CompiledLogicNet(net, num_bits=64, cpu_compiler="gcc")
    compiled.compile()
    return {"difflogic": (lambda: _with_argmax(compiled(samples).numpy()), watch.seconds())}


def torchlogix_rows(circuit: Circuit, samples: np.ndarray) -> dict[str, tuple[Run, float]]:
    """The Circuit of torchlogix, simplified and compiled: with its defaults, and with 64 samples in a word."""
    try:
        library: Any = importlib.import_module("torchlogix")
    except SyntaxError as error:
        raise ImportError(f"its circuits need Python 3.12 or newer ({error})") from error
    import torch

    modules = []
    width = circuit.num_inputs
    for a, b, gates in layers_of(circuit):
        layer = library.layers.LogicDense(width, gates.size)
        layer.connections.indices = torch.from_numpy(np.stack([a, b]).astype(np.int64))
        layer.weight.data = torch.nn.functional.one_hot(torch.from_numpy(gates.astype(np.int64)), 16).float()
        modules.append(layer)
        width = gates.size
    net = torch.nn.Sequential(*modules, library.layers.GroupSum(k=circuit.num_classes))
    watch = Stopwatch()
    small = library.Circuit.from_model(net, (circuit.num_inputs,))
    small.simplify()
    simplified = watch.seconds()
    rows: dict[str, tuple[Run, float]] = {}
    for label, bits in (("torchlogix", None), ("torchlogix, pack_bits=64", 64)):
        compiled = copy.copy(small)
        watch = Stopwatch()
        compiled.compile(pack_bits=bits)
        seconds = simplified + watch.seconds()
        rows[label] = (lambda compiled=compiled: _with_argmax(compiled(samples, use_compiled=True))), seconds
    return rows


PEERS = {"difflogic": difflogic_rows, "torchlogix": torchlogix_rows}


def _with_argmax(scores: np.ndarray) -> np.ndarray:
    scores.argmax(axis=1)
    return scores


def c_runner(circuit: Circuit, samples: np.ndarray, folder: Path, flags: list[str]) -> tuple[Run, float]:
    watch = Stopwatch()
    path = folder / f"net{len(list(folder.iterdir()))}.so"
    compile_source(optimize_for_export(circuit)[0].to_c(), path, compiler="gcc", opt_level=1, flags=flags)
    library = CompiledCircuit(path)
    return lambda: _with_argmax(library.scores(samples)), watch.seconds()


def collect(circuit: Circuit, samples: np.ndarray, peers: list[str], c: bool, folder: Path) -> dict[str, Any]:
    rows: dict[str, tuple[Run, float]] = {}
    words = pack_bits(samples)
    for name, isa in (
        ("machine-code", "avx512"),
        ("machine-code", "avx2"),
        ("interpreter", "avx512"),
        ("interpreter", "avx2"),
        ("interpreter", "generic"),
    ):
        seconds = []
        try:
            Engine(circuit, name, isa=isa)  # the library itself is built once and for all nets
            for _ in range(5):
                watch = Stopwatch()
                engine = Engine(circuit, name, isa=isa)
                seconds.append(watch.seconds())
        except EngineError as error:
            print(f"{name} {isa}: skipped: {error}")
            continue
        label = f"{name} ({isa})"
        rows[label] = (lambda engine=engine: engine.scores_and_classes(samples)[0]), statistics.median(seconds)
        rows[f"{label}, packed"] = (
            (lambda engine=engine: engine.packed_scores_and_classes(words, len(samples))[0]),
            statistics.median(seconds),
        )
    if c:
        rows["exported C, gcc -O1"] = c_runner(circuit, samples, folder, [])
        flags = ["-march=native", "-DLGN_VECTOR_BYTES=64"]
        rows["exported C, gcc -O1, 64-byte vectors"] = c_runner(circuit, samples, folder, flags)
    for peer in peers:
        print(f"{peer}: compiling; minutes for large nets", flush=True)
        try:
            rows |= PEERS[peer](circuit, samples)
        except ImportError as error:
            print(f"{peer}: skipped: {error}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("circuit", type=Path, help="circuit file of a net as trained, without passes")
    parser.add_argument("--peer", action="append", default=[], choices=list(PEERS))
    parser.add_argument("--samples", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-c", action="store_true", help="leave the compiled C out")
    parser.add_argument("--pause", action="store_true", help="wait for Enter between building and timing")
    parser.add_argument("--core", type=int, default=0, help="core to pin to")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    circuit = Circuit.load(options.circuit)
    samples = np.random.default_rng(0).integers(0, 2, (options.samples, circuit.num_inputs)).astype(bool)
    expected = circuit.scores(samples[:1024])
    with tempfile.TemporaryDirectory() as name:
        rows = collect(circuit, samples, options.peer, not options.no_c, Path(name))
        if options.pause:
            input("built; Enter starts the timed rounds: ")
        times: dict[str, list[float]] = {label: [] for label in rows}
        for turn in range(options.rounds + 1):
            for label, (run, _) in rows.items():
                started = time.perf_counter()
                scores = run()
                if turn:
                    times[label].append(time.perf_counter() - started)
                elif not np.array_equal(scores[:1024], expected):
                    raise SystemExit(f"{label} gives wrong scores")
    print(f"\n{circuit}\n{options.samples} samples, {options.rounds} rounds, one core; all rows give equal scores\n")
    report = []
    rate = {label: options.samples / statistics.median(values) / 1e6 for label, values in times.items()}
    bases = [label for label in rate if label.split(",")[0] in PEERS]
    print("| | build s | M samples/s | range |" + "".join(f" × {base} |" for base in bases))
    print("|---|---|---|---|" + "---|" * len(bases))
    for label, values in times.items():
        low, high = (options.samples / value / 1e6 for value in (max(values), min(values)))
        ratios = "".join(f" {rate[label] / rate[base]:.1f} |" for base in bases)
        print(f"| {label} | {rows[label][1]:.3f} | {rate[label]:.2f} | {low:.2f}–{high:.2f} |{ratios}")
        report.append(
            {"row": label, "build_s": rows[label][1], "mega_samples_per_s": rate[label], "range": [low, high]}
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
