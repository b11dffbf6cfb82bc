"""Times the way of convolutional nets to a circuit and its files, and takes the peak memory.

    python benchmarks/conv_circuit.py --json circuits.json

The nets are those of the recipes, with random gates. Each runs in a process of its own on one core, once unrolled and
once with loops: make the circuit, run the passes, write C and circuit file, build the engine and time it, compile the C
and time that too (only tables: a statement a gate takes the compiler minutes), and compare the engine with the hard net
on 256 random images. Memory is that of the whole process, torch (about 0.55 GB) included, before compiler and hard net.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

NETS = (
    *(f"mnist-tree-{size}" for size in "sml"),
    *(f"cifar10-tree-{size}" for size in "smblg"),
)
KINDS = ("unrolled", "loops")
DEFAULT = ("mnist-tree-m", "cifar10-tree-m")
#: The exported C computes on vectors where it is told to.
VECTORS = ("-march=native", "-DLGN_VECTOR_BYTES=64", "-Wno-psabi")
T = TypeVar("T")


def measure(recipe: str, kind: str, samples: int, rounds: int, checked: int, clock: str) -> dict[str, Any]:
    """Runs in a process of its own."""
    import numpy as np
    import torch
    import yaml

    from lgn_lightning.circuit import Circuit, CompiledCircuit, Engine, LoopedCircuit, export_circuit
    from lgn_lightning.circuit.emit.compiler import compile_library
    from lgn_lightning.deploy.trial import Trial
    from lgn_lightning.models import LogicTreeNet
    from lgn_lightning.nn import logic_layers
    from lgn_lightning.runs.recipes import find_recipe

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = LogicTreeNet(**yaml.safe_load(find_recipe(recipe).read_text())["model"]["net"]["init_args"])
    for layer in logic_layers(net).values():
        torch.nn.init.normal_(layer.weights)
    net.eval()
    seconds: dict[str, float] = {}
    now = time.perf_counter if clock == "wall" else time.process_time

    def timed(name: str, work: Callable[[], T]) -> T:
        start = now()
        result = work()
        seconds[name] = now() - start
        return result

    def rate(predict: Callable[[Any], object], images: Any) -> float:
        calls = []
        for _ in range(rounds + 1):  # the first one touches the memory
            start = now()
            predict(images)
            calls.append(now() - start)
        return len(images) / statistics.median(calls[1:])

    circuit = timed("circuit", lambda: (LoopedCircuit if kind == "loops" else Circuit).from_module(net))
    small = timed("passes", circuit.optimize)
    with tempfile.TemporaryDirectory() as name:
        files = timed("files", lambda: export_circuit(small, name, "net", ("c", "circuit"), form="table")).files
        engine = timed("engine", lambda: Engine(small, optimized=True))
        result = {
            "gates": circuit.num_gates,
            "left": small.num_gates,
            "stored": small.num_stored_gates if isinstance(small, LoopedCircuit) else small.num_gates,
            "c_mb": files["c"].stat().st_size / 1e6,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "seconds": seconds,
        }
        images = np.random.default_rng(0).integers(0, 256, (samples, *circuit.image_shape), dtype=np.uint8)
        result["engine_rate"] = rate(engine.predict, images)
        start = time.perf_counter(), os.times().children_user
        compile_library(files["c"], Path(name) / "net.so", opt_level=2, flags=VECTORS)
        seconds["cc"] = time.perf_counter() - start[0] if clock == "wall" else os.times().children_user - start[1]
        library = CompiledCircuit(Path(name) / "net.so", "net")
        result["c_rate"] = rate(library.predict, images)
        trial = Trial.of_net(circuit, net, images[:checked])
        trial.compare(engine(trial.inputs), "engine")
        trial.compare(library.scores(trial.inputs), "compiled C")
    return result


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown; seconds and rates with two digits."""
    parts = ("circuit", "passes", "files", "engine", "cc")
    heads = ("net", "gates evaluated", "stored", *(f"{part}, s" for part in parts))
    heads = (*heads, "peak RSS, GB", "C, MB", "engine, images/s", "C, images/s")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [f"{row['net']}, {row['kind']}", f"{row['left']:,}", f"{row['stored']:,}"]
        cells += [f"{row['seconds'][part]:.2g}" for part in parts]
        cells += [f"{row['peak_gb']:.2f}", f"{row['c_mb']:.1f}"]
        cells += [f"{float(f'{row[name]:.2g}'):,.0f}" for name in ("engine_rate", "c_rate")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Measures what was asked for and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", action="append", choices=NETS, help=f"only this one; {' and '.join(DEFAULT)} if none")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this one; both if none")
    parser.add_argument("--samples", type=int, default=4096, help="images of a call (default: 4096)")
    parser.add_argument("--rounds", type=int, default=5, help="calls; the median counts (default: 5)")
    parser.add_argument("--checked", type=int, default=256, help="images compared with the hard net (default: 256)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="core to pin to")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a core that others use too")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    nets, kinds = options.net or DEFAULT, options.kind or KINDS
    if options.worker:
        os.sched_setaffinity(0, {options.core})
        print(json.dumps(measure(nets[0], kinds[0], options.samples, options.rounds, options.checked, options.clock)))
        return 0
    rows = []
    for net in nets:
        for kind in kinds:
            command = [sys.executable, __file__, "--worker", "--net", net, "--kind", kind, "--core", str(options.core)]
            for name in ("samples", "rounds", "checked", "clock"):
                command += [f"--{name}", str(getattr(options, name))]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append({"net": net, "kind": kind, **json.loads(done.stdout.splitlines()[-1])})
            print(f"{net}, {kind}: {rows[-1]['peak_gb']:.2f} GB", file=sys.stderr)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({"clock": options.clock, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
