"""Times a training step of convolutional logic gate networks on one CPU core, beside torchlogix.

    PYTHONPATH=/path/to/torchlogix python benchmarks/conv_step.py --peer torchlogix --peer torchlogix-compile

The nets are MNIST-S and CIFAR-10-S of Petersen et al. (2024) as the recipes have them, without the encoder: images are
bits. A step is forward, cross entropy, backward and Adam(fused=True) at batch 128. Every library runs in a process of
its own on one pinned core, which also gives its peak memory above that of `import torch`. A peer that is not installed
is skipped with a line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

IMPORTED_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
CLASSES, WARM_UP = 10, 2


@dataclass(frozen=True)
class Net:
    """Sizes of a net: every convolution has trees of depth 3 and is followed by an OR over 2 x 2."""

    in_shape: tuple[int, int, int]
    channels: list[int]
    kernel_size: list[int]
    padding: list[int]
    dense: list[int]
    tau: float


NETS = {
    "MNIST-S": Net((1, 28, 28), [16, 48, 144], [5, 3, 3], [0, 1, 1], [20480, 10240, 10240], 6.5),
    "CIFAR-10-S": Net((9, 32, 32), [32, 128, 512, 1024], [3] * 4, [1] * 4, [40960, 20480, 10240], 20.0),
}


#: Ways to train of our own: arguments of the net by name. The plain row has the paper's method.
METHODS: dict[str, dict[str, Any]] = {
    "learned": {"tree_connections": "learned"},  # 8 candidates a leaf
    "straight_through": {"parametrization": "sigmoid", "sampler": "straight_through"},
    "straight_through learned": {
        "parametrization": "sigmoid", "sampler": "straight_through", "tree_connections": "learned",
    },
}  # fmt: skip


def lgn_lightning_net(net: Net, method: str = "") -> nn.Module:
    from lgn_lightning.models import LogicTreeNet
    from lgn_lightning.ops import loader

    if os.environ.get("LGN_BACKEND") != "torch":
        loader.require("cpu")
    whole = LogicTreeNet(
        net.in_shape, CLASSES, net.channels, net.dense, net.kernel_size, net.padding, tau=net.tau, thresholds=[0.5],
        **METHODS.get(method, {}),
    )  # fmt: skip
    return whole[1:]  # type: ignore[no-any-return]


def torchlogix_net(net: Net) -> nn.Module:
    from torchlogix.layers import GroupSum, LogicConv2d, LogicDense, OrPooling2d  # type: ignore[import-not-found]

    width, size, _ = net.in_shape
    layers: list[nn.Module] = []
    for out, kernel, padding in zip(net.channels, net.kernel_size, net.padding, strict=True):
        conv = LogicConv2d(
            in_dim=size, channels=width, num_kernels=out, tree_depth=3, receptive_field_size=kernel, padding=padding
        )
        layers += [conv, OrPooling2d(kernel_size=2, stride=2)]
        width, size = out, (size + 2 * padding - kernel + 1) // 2
    widths = [width * size * size, *net.dense]
    dense = [LogicDense(i, o) for i, o in itertools.pairwise(widths)]
    return nn.Sequential(*layers, nn.Flatten(), *dense, GroupSum(CLASSES, net.tau))


BUILDERS: dict[str, Callable[[Net], nn.Module]] = {
    "lgn-lightning": lgn_lightning_net,
    "lgn-lightning bf16": lgn_lightning_net,
    "reference": lgn_lightning_net,
    **{f"lgn-lightning {method}": partial(lgn_lightning_net, method=method) for method in METHODS},
    "torchlogix": torchlogix_net,
    "torchlogix-compile": lambda net: torch.compile(torchlogix_net(net)),  # type: ignore[return-value]
}
PEERS = ("reference", "torchlogix", "torchlogix-compile")


def measure(name: str, net: Net, batch: int, steps: int, clock: str) -> dict[str, Any]:
    """Runs in a process of its own; medians in ms, memory in MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.rand(batch, *net.in_shape).round(), torch.randint(CLASSES, (batch,))
    model = BUILDERS[name](net)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    now = time.perf_counter if clock == "wall" else time.process_time
    times = []
    for _ in range(WARM_UP + steps):
        optimizer.zero_grad()
        start = now()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name.endswith("bf16")):
            loss = nn.functional.cross_entropy(model(x), y)
        forward = now()
        loss.backward()
        backward = now()
        optimizer.step()
        end = now()
        times.append((forward - start, backward - forward, end - backward, end - start))
    parts = [1e3 * statistics.median(part) for part in zip(*times[WARM_UP:], strict=True)]
    return {
        **dict(zip(("forward_ms", "backward_ms", "optimizer_ms", "step_ms"), parts, strict=True)),
        "fastest_step_ms": 1e3 * min(t[3] for t in times[WARM_UP:]),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - IMPORTED_MB,
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": loss.item(),
    }


def run_worker(name: str, options: argparse.Namespace, net: str) -> dict[str, Any] | str:
    """Measures in a fresh, pinned process; gives the reason if the library cannot run."""
    steps = options.steps or (3 if name in PEERS else 20)
    command = [sys.executable, __file__, "--worker", name, "--net", net, "--steps", str(steps)]
    command += ["--clock", options.clock, "--core", str(options.core), "--batch", str(options.batch)]
    environment = dict(os.environ, LGN_BACKEND="torch" if name == "reference" else os.environ.get("LGN_BACKEND", "cpu"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"library": name, "net": net, "steps": steps, "batch": options.batch, "clock": options.clock, **facts}


def table(results: list[dict[str, Any]]) -> str:
    """A row a library; the last two columns say how often as long and as much memory as lgn-lightning's."""
    own = {r["net"]: r for r in results if r["library"] == "lgn-lightning"}
    lines = [
        "| net | library | forward | backward | Adam | step, ms | fastest | memory, MB | × time | × memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        ours = own.get(r["net"], r)
        lines.append(
            f"| {r['net']} | {r['library']} | {r['forward_ms']:.2f} | {r['backward_ms']:.2f} | "
            f"{r['optimizer_ms']:.2f} | {r['step_ms']:.2f} | {r['fastest_step_ms']:.2f} | {r['memory_mb']:.0f} | "
            f"{r['step_ms'] / ours['step_ms']:.1f} | {r['memory_mb'] / ours['memory_mb']:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Times what was asked for and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", choices=PEERS, default=[], help="also time this one")
    parser.add_argument("--net", action="append", choices=tuple(NETS), help="only this net")
    parser.add_argument("--method", action="append", choices=tuple(METHODS), default=[], help="also time ours so")
    parser.add_argument("--bf16", action="store_true", help="also time ours under autocast to bfloat16")
    parser.add_argument("--batch", type=int, default=128, help="samples of a step")
    parser.add_argument("--steps", type=int, default=0, help="steps of each; more for the fast ones if not given")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="core to pin to")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a core that others use too")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        os.sched_setaffinity(0, {options.core})
        net = NETS[options.net[0]]
        print(json.dumps(measure(options.worker, net, options.batch, options.steps, options.clock)))
        return 0
    results: list[dict[str, Any]] = []
    for net in options.net or NETS:
        own = ["lgn-lightning", *(f"lgn-lightning {method}" for method in options.method)]
        for name in (*own, *(["lgn-lightning bf16"] if options.bf16 else []), *options.peer):
            result = run_worker(name, options, net)
            if isinstance(result, str):
                print(f"skipped {name} on {net}: {result}", file=sys.stderr)
            else:
                results.append(result)
                print(f"{name} on {net}: {result['step_ms']:.2f} ms", file=sys.stderr)
    print(table(results))
    if options.json:
        facts = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
        options.json.write_text(json.dumps({**facts, "results": results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
