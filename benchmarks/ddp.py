"""Times data-parallel training on the CPU: several gloo processes of one thread each against one of them.

    python benchmarks/ddp.py --json ddp.json

The net is L of Petersen et al. (2022), 784→6×64,000→10; a step is forward, cross entropy, backward and
Adam(fused=True) on batch 100 a process. Every process is pinned to a core of its own. In each round all rows are timed
in turn, and a ratio is that of one round, so that what else the machine does hits both sides; the table has the medians
over the rounds. "no reduction" lets every process train on its own: what memory and cores allow before anything is
communicated. ``--clock cpu`` counts the CPU time of the busiest process, its communication threads included, and not
the waiting for another one: for cores that others use, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

NETS = {"S": (400, 8_000, 6), "L": (784, 64_000, 6)}
CLASSES, TAU = 10, 10.0
ALONE, APART, TABLES, SOCKETS = "one process", "no reduction", "logic_ddp", "logic_ddp, over gloo"
#: Arguments of DistributedDataParallel by name; None of LogicDDPStrategy, which leaves nothing of this net to it.
VARIANTS: dict[str, dict[str, Any] | None] = {
    TABLES: None,
    SOCKETS: None,
    "ddp": {},
    "ddp, gradient_as_bucket_view": {"gradient_as_bucket_view": True},
    "the same, buffers not broadcast": {"gradient_as_bucket_view": True, "broadcast_buffers": False},
    "the same, static_graph": {"gradient_as_bucket_view": True, "broadcast_buffers": False, "static_graph": True},
    "the same, buckets of 1 MB": {"gradient_as_bucket_view": True, "broadcast_buffers": False, "bucket_cap_mb": 1},
    "the same, buckets of 100 MB": {"gradient_as_bucket_view": True, "broadcast_buffers": False, "bucket_cap_mb": 100},
}


def make_net(name: str, parametrization: str) -> nn.Module:
    """The net, the same on every rank."""
    from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential
    from lgn_lightning.nn.gate_order import order_gates

    torch.manual_seed(0)
    inputs, width, depth = NETS[name]
    widths = [inputs, *[width] * depth]
    layers = [
        LogicLayer(i, o, connections="random", parametrization=parametrization) for i, o in itertools.pairwise(widths)
    ]
    order_gates(layers)  # as LogicMLP does
    return LogicSequential(*layers, GroupSum(CLASSES, TAU))


def parallel(net: nn.Module, variant: str) -> nn.Module:
    """The net with gradients that are means over the ranks."""
    from lgn_lightning.training.ddp import average_tables, mean_over_ranks, table_layers

    options = VARIANTS[variant]
    if options is not None:
        with warnings.catch_warnings():  # torch renames broadcast_buffers
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(net, **options)
    layers = table_layers(net)
    if variant == TABLES:
        average_tables(layers)
    else:
        for layer in layers.values():
            layer.table_hook = mean_over_ranks
    return net


def make_step(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Callable[[], None]:
    """One training step."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
        optimizer.step()

    return step


def timed(step: Callable[[], None], steps: int, clock: str) -> float:
    """Seconds a step, of the rank that takes longest."""
    now = time.perf_counter if clock == "wall" else time.process_time
    dist.barrier()
    start = now()
    for _ in range(steps):
        step()
    seconds = torch.tensor(now() - start)
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    return seconds.item() / steps


def worker(rank: int, options: argparse.Namespace, store: str) -> None:
    """Times every row on all ranks; rank zero writes the seconds a step."""
    os.sched_setaffinity(0, {options.cores[rank]})
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=options.processes)
    from lgn_lightning.ops import loader

    loader.require("cpu")
    torch.manual_seed(rank)
    batch = torch.rand(options.batch, NETS[options.net][0]).round(), torch.randint(CLASSES, (options.batch,))
    plain = make_step(make_net(options.net, options.parametrization), batch)
    rows: dict[str, Callable[[], None]] = {
        ALONE: plain if rank == 0 else lambda: None,
        APART: plain,
    }
    for name in options.variant or VARIANTS:
        net = make_net(options.net, options.parametrization)
        rows[name] = make_step(parallel(net, name), batch)
    for step in rows.values():
        timed(step, 3, options.clock)
    seconds = [
        {name: timed(step, options.steps, options.clock) for name, step in rows.items()} for _ in range(options.rounds)
    ]
    if rank == 0:
        Path(f"{store}.json").write_text(json.dumps(seconds))
    dist.destroy_process_group()


def summarize(rounds: list[dict[str, float]], batch: int, processes: int) -> list[dict[str, Any]]:
    """Medians over the rounds: samples a second and how many times those of one process."""
    rows = []
    for name in rounds[0]:
        samples = batch * (1 if name == ALONE else processes)
        ratios = [samples / r[name] / (batch / r[ALONE]) for r in rounds]
        milliseconds = 1e3 * statistics.median(r[name] for r in rounds)
        rows.append(
            {
                "row": name,
                "step_ms": milliseconds,
                "samples_per_second": 1e3 * samples / milliseconds,
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| | step, ms | samples/s | × one process | range over the rounds |", "|---|---|---|---|---|"]
    for r in rows:
        low, high = r["ratio_range"]
        lines.append(
            f"| {r['row']} | {r['step_ms']:.1f} | {r['samples_per_second']:,.0f} | {r['ratio']:.2f} | "
            f"{low:.2f}–{high:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Starts the processes and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--net", choices=tuple(NETS), default="L")
    parser.add_argument("--parametrization", default="softmax", help="softmax has 16 weights a gate, sigmoid 4")
    parser.add_argument("--batch", type=int, default=100, help="samples of a step and process")
    parser.add_argument("--steps", type=int, default=10, help="steps of a row in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variant", action="append", choices=tuple(VARIANTS), help="only this one")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--cores", type=int, nargs="+", help="a core for each process; the first ones if not given")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    options.cores = options.cores or sorted(os.sched_getaffinity(0))[: options.processes]
    if len(options.cores) < options.processes:
        parser.error(f"{options.processes} processes need as many cores; there are {len(options.cores)}")
    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/store"
        mp.start_processes(worker, (options, store), nprocs=options.processes, start_method="spawn")
        rounds = json.loads(Path(f"{store}.json").read_text())
    rows = summarize(rounds, options.batch, options.processes)
    print(table(rows))
    if options.json:
        facts = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
        about = {
            name: getattr(options, name) for name in ("processes", "net", "parametrization", "batch", "steps", "clock")
        }
        options.json.write_text(json.dumps({**facts, **about, "rows": rows, "rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
