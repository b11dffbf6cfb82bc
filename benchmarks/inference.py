"""Inference of a hard net on one core, side by side: engines, exported C and the original library.

    python benchmarks/inference.py net.lgn --peer difflogic

Every row is timed end to end, from a bool array ``[N, inputs]`` (or packed words) in memory to int32 scores and the
argmax, on one pinned core; rounds visit all rows in turn, so that a busy machine slows all of them; medians and ranges.
The peer is not part of this package: it must be importable (``PYTHONPATH=/path/to/difflogic``). torchlogix's circuit
module needs Python 3.12 and is only reported as absent where it is.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lgn_lightning.circuit import Circuit, CompiledCircuit
from lgn_lightning.circuit.compiler import compile_source
from lgn_lightning.circuit.engine import Engine, EngineError
from lgn_lightning.circuit.passes import optimize_for_export
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


def difflogic_runner(circuit: Circuit, samples: np.ndarray) -> tuple[Run, float]:
    """The original library's CompiledLogicNet with its defaults, on the same gates."""
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
    started = time.perf_counter()
    compiled = library.CompiledLogicNet(net, num_bits=64, cpu_compiler="gcc")
    compiled.compile()
    return lambda: _with_argmax(compiled(samples).numpy()), time.perf_counter() - started


def _with_argmax(scores: np.ndarray) -> np.ndarray:
    scores.argmax(axis=1)
    return scores


def c_runner(circuit: Circuit, samples: np.ndarray, folder: Path, flags: list[str]) -> tuple[Run, float]:
    started = time.perf_counter()
    path = folder / f"net{len(list(folder.iterdir()))}.so"
    compile_source(optimize_for_export(circuit)[0].to_c(), path, compiler="gcc", opt_level=1, flags=flags)
    library = CompiledCircuit(path)
    return lambda: _with_argmax(library.scores(samples)), time.perf_counter() - started


def collect(circuit: Circuit, samples: np.ndarray, peers: list[str], c: bool, folder: Path) -> dict[str, Any]:
    rows: dict[str, tuple[Run, float]] = {}
    words = pack_bits(samples)
    for name, isa in (
        ("machine-code", None),
        ("interpreter", "avx512"),
        ("interpreter", "avx2"),
        ("interpreter", "generic"),
    ):
        try:
            Engine(circuit, name, isa=isa)  # the library itself is built once and for all nets
            engine = Engine(circuit, name, isa=isa)
        except EngineError as error:
            print(f"{name} {isa or ''}: skipped: {error}")
            continue
        label = f"{name} ({isa})" if isa else name
        rows[label] = (lambda engine=engine: engine.scores_and_classes(samples)[0]), engine.build_seconds
        rows[f"{label}, packed"] = (
            (lambda engine=engine: engine.packed_scores_and_classes(words, len(samples))[0]),
            engine.build_seconds,
        )
    if c:
        rows["exported C, gcc -O1"] = c_runner(circuit, samples, folder, [])
        flags = ["-march=native", "-DLGN_VECTOR_BYTES=64"]
        rows["exported C, gcc -O1, 64-byte vectors"] = c_runner(circuit, samples, folder, flags)
    for peer in peers:
        try:
            if peer == "torchlogix":
                raise ImportError("its circuit module needs Python 3.12 and its API is not driven here")
            print(f"{peer}: compiling with its defaults; minutes for large nets", flush=True)
            rows[peer] = difflogic_runner(circuit, samples)
        except ImportError as error:
            print(f"{peer}: skipped: {error}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("circuit", type=Path, help="circuit file of a net as trained, without passes")
    parser.add_argument("--peer", action="append", default=[], choices=["difflogic", "torchlogix"])
    parser.add_argument("--samples", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-c", action="store_true", help="leave the compiled C out")
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
    base = rate.get("difflogic")
    print("| | build s | M samples/s | range | against difflogic |\n|---|---|---|---|---|")
    for label, values in times.items():
        low, high = (options.samples / value / 1e6 for value in (max(values), min(values)))
        ratio = f"{rate[label] / base:.1f}" if base else "–"
        print(f"| {label} | {rows[label][1]:.3f} | {rate[label]:.2f} | {low:.2f}–{high:.2f} | {ratio} |")
        report.append(
            {"row": label, "build_s": rows[label][1], "mega_samples_per_s": rate[label], "range": [low, high]}
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
