"""Times a training step of recurrent nets on MNIST's rows on one core, beside the same net unrolled by hand.

    python benchmarks/recurrent_step.py

By hand: a loop over the 28 steps that joins inputs and state and calls the layers of the cell, which are the same
objects. A step is forward, cross entropy, backward and Adam(fused=True) at batch 128; the two take turns. `gates` is a
cell of 6,000 gates with 1,000 bits of state in gates, `recipe` the net of mnist-rows, whose state is a delay line.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from lgn_lightning.models import LogicRNN

BATCH, ROUNDS = 128, 9
NETS: dict[str, dict[str, Any]] = {
    "gates": {"state": 1000, "width": 4000, "depth": 1, "out": 1000, "tau": 5.0},
    "recipe": {
        "thresholds": [0.25, 0.5, 0.75],
        "state": 2352,
        "width": [8000],
        "out": 8000,
        "memory": "delay",
        "connections": "learned",
        "num_candidates": 16,
        "tau": 10.0,
    },
}


class ByHand(nn.Module):
    """The net as somebody would write it with single layers."""

    def __init__(self, rnn: LogicRNN) -> None:
        super().__init__()
        self.encoder, self.cell, self.group_sum = rnn[0], rnn[1].cell, rnn[2]

    def forward(self, images: Tensor) -> Tensor:
        x, cell = self.encoder(images), self.cell
        state = x.new_zeros(len(x), cell.state_dim)
        for t in range(x.shape[1]):
            given = torch.cat([x[:, t], state], 1)
            y = given
            for layer in cell.net:
                y = layer(y)
            state = given[:, : cell.state_dim] if cell.memory == "delay" else y[:, cell.own_dim :]
        return self.group_sum(y[:, : cell.own_dim])


def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> float:
    start = time.perf_counter()
    loss = nn.functional.cross_entropy(net(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    torch.set_num_threads(1)
    images, labels = torch.randint(256, (BATCH, 1, 28, 28), dtype=torch.uint8), torch.randint(10, (BATCH,))
    for name, options in NETS.items():
        torch.manual_seed(0)
        rnn = LogicRNN(10, in_shape=(1, 28, 28), **options)
        hand = ByHand(rnn)
        optimizer = torch.optim.Adam(rnn.parameters(), lr=0.01, fused=True)
        times: dict[str, list[float]] = {"one op": [], "by hand": []}
        for _ in range(ROUNDS):
            for kind, net in (("one op", rnn), ("by hand", hand)):
                for _ in range(3 if kind == "one op" else 1):
                    taken = step(net, images, labels, optimizer)
                times[kind].append(taken)
        medians = {kind: statistics.median(found[1:]) for kind, found in times.items()}
        shown = ", ".join(f"{kind} {median:.1f} ms (least {min(times[kind]):.1f})" for kind, median in medians.items())
        print(f"{name}: {shown}, {medians['by hand'] / medians['one op']:.1f} ×")


if __name__ == "__main__":
    main()
