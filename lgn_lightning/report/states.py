"""A net that runs: how its state differs between sequences and changes from step to step, and an automaton's grids."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lgn_lightning.nn.states import grids_of, state_entropy, states_of

#: Test sequences that are looked at.
_SEQUENCES = 256
#: Steps of an automaton whose rule is trained on single ones.
_STEPS = 24


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


def automaton_grids(net: nn.Module, samples: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """The first channel of the first sample's grids, bool ``[1 + steps, H, W]``; None of a net without an automaton."""
    grids = grids_of(net, torch.from_numpy(samples[:1]), _STEPS)
    return None if grids is None else np.asarray((grids[0, :, 0] > 0.5).cpu().numpy(), np.bool_)
