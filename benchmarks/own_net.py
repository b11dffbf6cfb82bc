"""Times a straight-through training step of one net: as a `LogicSequential`, as a module of one's own, layer by layer.

    OMP_NUM_THREADS=1 python benchmarks/own_net.py

S is 400→6×8,000→10, L is 784→6×64,000→10, batch 100. The ways take turns, so that a busy machine is busy for all.
"""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer
from lgn_lightning.nn import LogicSequential, fused_layers

NETS = {"S": (400, 8000, 13), "L": (784, 64_000, 7)}
BATCH, CLASSES, WARM_UP = 100, 10, 2


class Own(nn.Module):
    """The same layers, called one by one."""

    def __init__(self, layers: LogicSequential) -> None:
        super().__init__()
        self.layers, self.sum = nn.ModuleList(list(layers)[:-1]), layers[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Scores of a batch."""
        for layer in self.layers:
            x = layer(x)
        return self.sum(x)


def main() -> None:
    """Prints medians and minima in milliseconds."""
    for name, (inputs, width, steps) in NETS.items():
        options = {"sampler": "straight_through", "parametrization": "sigmoid", "connections": "unique"}
        layers = [LogicLayer(before, width, **options) for before in (inputs, *[width] * 5)]
        row = LogicSequential(*layers, GroupSum(CLASSES, 10.0))
        ways = {"LogicSequential": (row, True), "own module": (Own(row), True), "one by one": (Own(row), False)}
        optimizer = torch.optim.Adam(row.parameters(), lr=0.01, fused=True)
        x, y = (torch.rand(BATCH, inputs) > 0.5).float(), torch.randint(CLASSES, (BATCH,))
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(steps):
            for way, (net, fused) in ways.items():
                start = time.perf_counter()
                with fused_layers() if fused else nullcontext():
                    scores = net(x)
                nn.functional.cross_entropy(scores, y).backward()
                optimizer.step()
                optimizer.zero_grad()
                taken[way].append(1000 * (time.perf_counter() - start))
        for way, times in taken.items():
            print(f"{name} {way:16} {statistics.median(times[WARM_UP:]):8.2f} ms, at best {min(times):.2f}", flush=True)


if __name__ == "__main__":
    main()
