"""Stops a training whose weights are no numbers any more."""

from torch import nn

from lgn_lightning.base.errors import TrainingError
from lgn_lightning.base.finite import nonsense_in


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
