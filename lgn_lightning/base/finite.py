"""Finds NaN and infinity in tensors and weights."""

import math

import torch
from torch import Tensor, nn


def surely_without_nan(x: Tensor) -> bool:
    """Whether a tensor is known to hold no NaN: asked on the CPU alone, as others wait for the device.

    A sum that is not NaN has no NaN among its terms, and summing is the fastest way to read all numbers.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not math.isnan(x.detach().sum())


def nonsense_in(module: nn.Module) -> dict[str, float]:
    """Gives the parameters and buffers that hold NaN or +∞, by name, and which of the two.

    −∞ is allowed: as a logit it takes a gate out of the choice. One transfer from the device, however many there are.
    """
    state = {name: t for name, t in module.state_dict().items() if t.is_floating_point() and t.numel()}
    if not state:
        return {}
    largest = torch.stack([t.amax().double() for t in state.values()]).tolist()  # amax gives NaN where there is one
    return {name: value for name, value in zip(state, largest, strict=True) if not value < float("inf")}
