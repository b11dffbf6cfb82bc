"""Times a training step on the CPU, side by side with other libraries.

    python benchmarks/train_step.py --peer difflogic --peer torchlogix --method straight_through

The nets are the dense ones of Petersen et al. (2022): S = 400→6×8,000→10 and L = 784→6×64,000→10, batch 100; a step is
forward, cross entropy, backward and Adam(fused=True). Every library runs in a process of its own, pinned to the same
cores, which also gives its peak memory. Peers are used if they are installed and skipped with a line if not.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from step_timing import Script, main, time_steps  # type: ignore[import-not-found]  # beside this file
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


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs in a process of its own."""
    name, net = options.worker, options.net[0]
    model = BUILDERS[name](net)
    x = torch.rand(BATCH, NETS[net][0]).round()
    y = torch.randint(CLASSES, (BATCH,))
    every = int(name.rpartition(" every ")[2]) if " every " in name else 1
    learned: list[Any] = [part for key, part in model.named_modules() if key.endswith("learned")]

    def choose(step: int) -> None:
        for part in learned:
            part.logits.requires_grad_(step % every == 0)
            part.change_soon = every > 1

    return time_steps(model, x, y, options, every, choose)


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


if __name__ == "__main__":
    script = Script(__file__, __doc__, NETS, METHODS, PEERS, measure, {"S": 100, "L": 15}.__getitem__, 5, table)
    sys.exit(main(script))
