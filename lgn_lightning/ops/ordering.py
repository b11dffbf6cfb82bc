"""An order of a layer's gates that keeps memory traffic low."""

from __future__ import annotations

import torch
from torch import Tensor


def trail_order(a: Tensor, b: Tensor, in_dim: int) -> Tensor:
    """Orders gates so that neighbours share an input.

    Gates are the edges of a graph whose nodes are the inputs, and the order walks it along trails. A row of activations
    is then read once for two gates, and its gradient is written once. The native kernels visit gates in this order
    anyway (``ext/cpu/plan.h``); if the gates also *lie* in this order, their outputs are written one after another.

    Args:
        a: First input of each gate, int32 ``[n]``.
        b: Second input of each gate, int32 ``[n]``.
        in_dim: Number of inputs.

    Returns:
        Gate numbers in their new order, int64 ``[n]``.
    """
    first, second = a.tolist(), b.tolist()
    uses: list[list[int]] = [[] for _ in range(in_dim)]
    for gate in range(len(first) - 1, -1, -1):  # so that pop() gives the lowest number
        uses[second[gate]].append(gate)
        uses[first[gate]].append(gate)
    done = bytearray(len(first))
    order: list[int] = []
    for start in range(in_dim):
        while True:
            node, before = start, len(order)
            while True:
                waiting = uses[node]
                while waiting and done[waiting[-1]]:
                    waiting.pop()
                if not waiting:
                    break
                gate = waiting.pop()
                done[gate] = 1
                order.append(gate)
                node = second[gate] if first[gate] == node else first[gate]
            if len(order) == before:
                break
    return torch.tensor(order, dtype=torch.int64)
