"""Times a training step on the CPU, side by side with other libraries.

    python benchmarks/train_step.py --peer difflogic --peer torchlogix --method straight_through

The nets are the dense ones of Petersen et al. (2022): S = 400→6×8,000→10 and L = 784→6×64,000→10, batch 100; a step is
forward, cross entropy, backward and Adam(fused=True). Every library runs in a process of its own, pinned to the same
cores, which also gives its peak memory. Peers are used if they are installed and skipped with a line if not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

NETS = {"S": (400, 8_000, 6), "L": (784, 64_000, 6)}
BATCH, CLASSES, TAU = 100, 10, 10.0
#: Ways to train of our own: arguments of the layers by name. The plain row is the original's method.
METHODS: dict[str, dict[str, Any]] = {
    "sigmoid": {"parametrization": "sigmoid"},
    "walsh": {"parametrization": "walsh"},
    "warp": {"parametrization": "warp"},
    "straight_through": {"parametrization": "sigmoid", "sampler": "straight_through"},
    "straight_through softmax": {"sampler": "straight_through"},
    "straight_through warp": {"parametrization": "warp", "sampler": "straight_through"},
    "straight_through walsh": {"parametrization": "walsh", "sampler": "straight_through"},
    "straight_through noise": {"parametrization": "sigmoid"},
    "gumbel": {"sampler": "gumbel"},
    "learned": {"parametrization": "sigmoid", "connections": "learned"},  # 8 candidates an input
    **{f"lut{k}": {"arity": k, "parametrization": "sigmoid"} for k in (3, 4, 6)},  # gates of more inputs
    "straight_through learned": {"parametrization": "sigmoid", "sampler": "straight_through", "connections": "learned"},
}
#: Learned wires that choose at every n-th step only, as the callback WireSchedule lets them.
EVERY = (2, 4)
METHODS |= {f"{m} every {n}": METHODS[m] for m in ("learned", "straight_through learned") for n in EVERY}
PEERS = ("difflogic", "torchlogix", "torchlogix-compile", "reference")
WARM_UP = 3


def widths(net: str) -> Iterator[tuple[int, int]]:
    inputs, width, depth = NETS[net]
    for layer in range(depth):
        yield (width if layer else inputs), width


def lgn_lightning_net(net: str, method: str = "") -> nn.Module:
    from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, LutLayer
    from lgn_lightning.nn.gate_order import order_gates
    from lgn_lightning.nn.samplers import StraightThrough
    from lgn_lightning.ops import loader

    if os.environ.get("LGN_BACKEND") != "torch":
        loader.require("cpu")
    arguments: dict[str, Any] = {"connections": "random", **METHODS.get(method, {})}
    if method.endswith("noise"):
        arguments["sampler"] = StraightThrough(noise=1.0)
    if "arity" in arguments:
        return LogicSequential(*(LutLayer(i, o, **arguments) for i, o in widths(net)), GroupSum(CLASSES, TAU))
    layers = [LogicLayer(i, o, **arguments) for i, o in widths(net)]
    order_gates(layers)  # as LogicMLP does
    return LogicSequential(*layers, GroupSum(CLASSES, TAU))


def difflogic_net(net: str) -> nn.Module:
    # The package imports its CUDA module at the top, also where only its Python implementation is used.
    sys.modules.setdefault("difflogic_cuda", types.ModuleType("difflogic_cuda"))
    from difflogic import GroupSum, LogicLayer  # type: ignore[import-not-found]

    layers = [LogicLayer(i, o, device="cpu", implementation="python") for i, o in widths(net)]
    return nn.Sequential(*layers, GroupSum(CLASSES, TAU))


def torchlogix_net(net: str) -> nn.Module:
    from torchlogix.layers import GroupSum, LogicDense  # type: ignore[import-not-found]

    return nn.Sequential(*[LogicDense(i, o) for i, o in widths(net)], GroupSum(CLASSES, TAU))


BUILDERS: dict[str, Callable[[str], nn.Module]] = {
    "lgn-lightning": lgn_lightning_net,
    "lgn-lightning bf16": lgn_lightning_net,
    "reference": lgn_lightning_net,
    "difflogic": difflogic_net,
    "torchlogix": torchlogix_net,
    **{f"lgn-lightning {m}": partial(lgn_lightning_net, method=m) for m in METHODS},
    "torchlogix-compile": lambda net: torch.compile(torchlogix_net(net)),  # type: ignore[return-value]
}


def measure(name: str, net: str, threads: int, steps: int, clock: str) -> dict[str, Any]:
    """Runs in a process of its own and gives medians in ms and peak memory in MB."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = BUILDERS[name](net)
    x = torch.rand(BATCH, NETS[net][0]).round()
    y = torch.randint(CLASSES, (BATCH,))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    now = time.perf_counter if clock == "wall" else time.process_time
    every = int(name.rpartition(" every ")[2]) if " every " in name else 1
    learned: list[Any] = [part for key, part in model.named_modules() if key.endswith("learned")]
    times = []
    for step in range(-WARM_UP * every, steps):
        optimizer.zero_grad()
        for part in learned:
            part.logits.requires_grad_(step % every == 0)
            part.change_soon = every > 1
        start = now()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name.endswith("bf16")):
            loss = nn.functional.cross_entropy(model(x), y)
        forward = now()
        loss.backward()
        backward = now()
        optimizer.step()
        end = now()
        times.append((forward - start, backward - forward, end - backward, end - start))
    times = times[WARM_UP * every :]
    # Steps that choose wires and those between take unlike times: the mean over them of a median each.
    kinds = [zip(*times[kind::every], strict=True) for kind in range(every)]
    medians = [[1e3 * statistics.median(part) for part in kind] for kind in kinds]
    parts = [statistics.fmean(part) for part in zip(*medians, strict=True)]
    return {
        "library": name,
        "net": net,
        "threads": threads,
        "steps": steps,
        "clock": clock,
        **dict(zip(("forward_ms", "backward_ms", "optimizer_ms", "step_ms"), parts, strict=True)),
        "fastest_step_ms": 1e3 * min(t[3] for t in times),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": loss.item(),
    }


def run_worker(name: str, net: str, cores: list[int], steps: int, clock: str) -> dict[str, Any] | str:
    """Measures in a fresh, pinned process; gives the reason if the library cannot run."""
    command = [sys.executable, __file__, "--worker", name, "--net", net, "--steps", str(steps)]
    environment = dict(os.environ, LGN_BACKEND="torch" if name == "reference" else os.environ.get("LGN_BACKEND", "cpu"))
    command += ["--clock", clock, "--cores", *map(str, cores)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(results: list[dict[str, Any]]) -> str:
    own = {r["net"]: r["step_ms"] for r in results if r["library"] == "lgn-lightning" and r["threads"] == 1}
    lines = [
        "| net | library | threads | forward | backward | Adam | step, ms | peak RSS, MB | × lgn-lightning |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        ratio = f"{r['step_ms'] / own[r['net']]:.2f}" if r["net"] in own else ""
        lines.append(
            f"| {r['net']} | {r['library']} | {r['threads']} | {r['forward_ms']:.2f} | {r['backward_ms']:.2f} | "
            f"{r['optimizer_ms']:.2f} | {r['step_ms']:.2f} | {r['peak_rss_mb']:.0f} | {ratio} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", choices=PEERS, default=[], help="also time this one")
    parser.add_argument("--net", action="append", choices=tuple(NETS), help="only this net")
    parser.add_argument("--method", action="append", choices=tuple(METHODS), default=[], help="also time ours so")
    parser.add_argument("--bf16", action="store_true", help="also time ours under autocast to bfloat16")
    parser.add_argument("--threads", type=int, default=1, help="also time ours on this many threads")
    parser.add_argument("--steps", type=int, default=0, help="steps of each; more for the fast ones if not given")
    parser.add_argument("--cores", type=int, nargs="+", help="cores to pin to; the last ones if not given")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a core that others use too")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    available = sorted(os.sched_getaffinity(0))
    if options.worker:
        os.sched_setaffinity(0, set(options.cores))
        print(json.dumps(measure(options.worker, options.net[0], len(options.cores), options.steps, options.clock)))
        return 0
    cores = options.cores or available[-max(options.threads, 1) :]
    results: list[dict[str, Any]] = []
    for net in options.net or NETS:
        plan = [("lgn-lightning", 1)]
        plan += [("lgn-lightning", options.threads)] if options.threads > 1 else []
        plan += [("lgn-lightning bf16", 1)] if options.bf16 else []
        plan += [(f"lgn-lightning {method}", 1) for method in options.method]
        plan += [(peer, 1) for peer in options.peer]
        for name, threads in plan:
            steps = options.steps or (5 if name in PEERS else 100 if net == "S" else 15)
            result = run_worker(name, net, cores[-threads:], steps, options.clock)
            if isinstance(result, str):
                print(f"skipped {name} on {net}: {result}", file=sys.stderr)
            else:
                results.append(result)
                print(f"{name} on {net}: {result['step_ms']:.2f} ms", file=sys.stderr)
    print(table(results))
    if options.json:
        facts = {"torch": torch.__version__, "python": platform.python_version(), "processor": _processor()}
        options.json.write_text(json.dumps({**facts, "batch": BATCH, "results": results}, indent=2) + "\n")
    return 0


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    sys.exit(main())
