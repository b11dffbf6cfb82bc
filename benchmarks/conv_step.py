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
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from step_timing import Script, main, time_steps  # type: ignore[import-not-found]  # beside this file
from torch import nn

BATCH, CLASSES = 128, 10


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


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs in a process of its own."""
    net = NETS[options.net[0]]
    x, y = torch.rand(BATCH, *net.in_shape).round(), torch.randint(CLASSES, (BATCH,))
    model = BUILDERS[options.worker](net)
    parameters = sum(p.numel() for p in model.parameters())
    return {**time_steps(model, x, y, options), "parameters": parameters}


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


if __name__ == "__main__":
    script = Script(__file__, __doc__, NETS, METHODS, PEERS, measure, lambda net: 20, 3, table)
    sys.exit(main(script))
