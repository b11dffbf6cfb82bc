"""Stops a training whose weights are no numbers any more, and warns of weights that do not train."""

from collections.abc import Iterable

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from lgn_lightning.base.errors import TrainingError, some
from lgn_lightning.base.finite import nonsense_in
from lgn_lightning.base.lightning_private import averages_buffers


def check_weights(net: nn.Module, step: int) -> None:
    """Refuses weights that hold NaN or +∞ by a TrainingError that names step and layer; waits for the device once."""
    found = nonsense_in(net)
    if found:
        name, value = next(iter(found.items()))
        layer, _, tensor = name.rpartition(".")
        more = f" and in {len(found) - 1} more tensors" if len(found) > 1 else ""
        raise TrainingError(
            f"at step {step} there is {value} in {tensor} of layer {layer or type(net).__name__}{more}: lower the "
            "learning rate, or look for NaN in data and loss; in half precision (16-true) Adam's eps of 1e-8 is 0, so "
            "set eps to 1e-4 or train with bf16-mixed"
        )


def check_averages(callbacks: Iterable[pl.Callback]) -> None:
    """Refuses, by a ValueError, callbacks that average buffers: of two wires the mean is a third one."""
    for callback in filter(averages_buffers, callbacks):
        name = type(callback).__name__
        raise ValueError(
            f"{name} averages buffers, and wires are some: give it use_buffers=False, and see docs/methods.md"
        )


def warn_of_untrained(net: nn.Module) -> None:
    """Warns of layers that have no gradient after a backward pass."""
    named = net.named_parameters()
    without = sorted(
        {name.rpartition(".")[0] for name, weight in named if weight.requires_grad and weight.grad is None}
    )
    if without:
        rank_zero_warn(
            f"no gradient reaches {some(without)}, so nothing trains there: "
            "comparisons and bools have none; write a * b, 1 - a or torch.maximum(a, b) in forward"
        )
