"""State over time: how much of it differs between sequences, and how much changes from step to step."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lgn_lightning.nn.states import state_entropy, states_of

#: Test sequences that are looked at.
_SEQUENCES = 256


def state_curves(net: nn.Module, samples: NDArray[np.uint8]) -> dict[str, tuple[list[int], list[float]]]:
    """Curves over the steps, by name, of a net in ``.eval()`` mode; none of a net without state."""
    found = states_of(net, torch.from_numpy(samples[:_SEQUENCES]))
    if not found:
        return {}
    hard, soft = (torch.cat(parts, 2) for parts in list(zip(*found, strict=True))[1:])
    steps = list(range(1, hard.shape[1] + 1))
    curves = {"entropy of a bit": (steps, state_entropy(hard).tolist())}
    if len(steps) > 1:
        changes = (hard[:, 1:] != hard[:, :-1]).float().mean((0, 2))
        curves["share that changes"] = (steps[1:], changes.tolist())
    gap = (hard - soft).abs().mean((0, 2))
    if gap.max() > 0:  # straight-through nets have none
        curves["gap, soft to hard"] = (steps, gap.tolist())
    return curves
