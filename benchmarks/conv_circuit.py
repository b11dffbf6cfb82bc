"""Times the way of convolutional nets to a circuit and its files, and takes the peak memory.

    python benchmarks/conv_circuit.py --json circuits.json

The nets are those of the recipes, with random gates, which the passes shrink less than trained ones. Each runs in a
process of its own on one core: unroll the convolutions, run the passes, write C and circuit file, build the engine, and
compare simulation and engine with the hard net on 256 random images, as `lgn export` does. Memory is that of the whole
process, torch (about 0.55 GB) included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

NETS = ("mnist-tree-s", "mnist-tree-m", "mnist-tree-l", "cifar10-tree-s", "cifar10-tree-m")
DEFAULT = ("mnist-tree-m", "cifar10-tree-m")
T = TypeVar("T")


def measure(recipe: str, optimize: bool, clock: str) -> dict[str, Any]:
    """Runs in a process of its own."""
    import torch
    import yaml

    from lgn_lightning.callbacks.circuit_folder import Check
    from lgn_lightning.circuit import Circuit, export_circuit
    from lgn_lightning.circuit.engine import Engine
    from lgn_lightning.models import LogicTreeNet
    from lgn_lightning.nn import logic_layers
    from lgn_lightning.recipe_index import find_recipe

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

    circuit = timed("unroll", lambda: Circuit.from_module(net))
    small = timed("passes", circuit.optimize) if optimize else circuit
    with tempfile.TemporaryDirectory() as folder:
        timed("files", lambda: export_circuit(small, folder, "net", ("c", "circuit")))
    result = {"gates": circuit.num_gates, "left": small.num_gates, "seconds": seconds}
    if optimize:
        engine = timed("engine", lambda: Engine(small, optimized=True))
        check = timed("hard net", lambda: Check.of(circuit, net, None))
        timed("simulation", lambda: check.compare(small.scores(check.inputs), "simulated circuit"))
        timed("run engine", lambda: check.compare(engine(check.inputs), "engine"))
    return result | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown; seconds with two digits."""
    parts = ("unroll", "passes", "files", "engine", "hard net", "simulation")
    lines = [
        f"| net | gates | gates left | {', s | '.join(parts)}, s | peak RSS, GB |",
        "|---|---|---|" + "---|" * (len(parts) + 1),
    ]
    for row in rows:
        name = row["net"] + ("" if row["optimized"] else ", no passes")
        cells = [f"{row['seconds'][part]:.2g}" if part in row["seconds"] else "–" for part in parts]
        left = f"{row['left']:,}"
        lines.append(f"| {name} | {row['gates']:,} | {left} | {' | '.join(cells)} | {row['peak_gb']:.2f} |")
    return "\n".join(lines)


def main() -> int:
    """Measures what was asked for and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", action="append", choices=NETS, help=f"only this one; {' and '.join(DEFAULT)} if none")
    parser.add_argument("--raw", action="store_true", help="also write the files of the circuit without passes")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="core to pin to")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a core that others use too")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--worker", choices=("passes", "raw"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    nets = options.net or DEFAULT
    if options.worker:
        os.sched_setaffinity(0, {options.core})
        print(json.dumps(measure(nets[0], options.worker == "passes", options.clock)))
        return 0
    rows = []
    for net in nets:
        for kind in ("passes", "raw") if options.raw else ("passes",):
            command = [sys.executable, __file__, "--worker", kind, "--net", net]
            command += ["--core", str(options.core), "--clock", options.clock]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append({"net": net, "optimized": kind == "passes", **json.loads(done.stdout.splitlines()[-1])})
            print(f"{net}, {kind}: {rows[-1]['peak_gb']:.2f} GB", file=sys.stderr)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({"clock": options.clock, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
