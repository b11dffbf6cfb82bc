"""Looks at the numbers that a net gets, once a stage: a look at a GPU's numbers waits for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: What rounding may add to a number in [0, 1], bfloat16 included.
_ROUNDING = 1e-2


class CheckedInput(nn.Module):
    """Base of modules whose input lies in [0, 1].

    They look at their input once after each ``.train()`` and ``.eval()``, and after :func:`check_next_inputs`.
    """

    _seen = False

    def train(self, mode: bool = True) -> CheckedInput:
        """Sets the mode; the next input is checked."""
        self._seen = False
        return super().train(mode)

    def looks(self) -> bool:
        """Whether to look at this input; False from then on."""
        if torch.compiler.is_compiling() or self._seen:
            return False
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return False  # an earlier step was seen
        self._seen = True
        return True


def free_to_look(x: Tensor) -> bool:
    """Whether a look at numbers costs no wait: those in the memory of the CPU may be checked at every call."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def check_next_inputs(net: nn.Module) -> None:
    """Lets the modules of a net look at their next input, as at the start of a stage."""
    for module in net.modules():
        if isinstance(module, CheckedInput):
            module._seen = False


def check_range(x: Tensor, what: str, mend: str) -> None:
    """Refuses numbers outside [0, 1], and NaN, by a ValueError that says ``what`` got them and how to ``mend`` it."""
    if not x.numel() or x.dtype == torch.bool:
        return
    least, most = (value.item() for value in torch.aminmax(x.detach()))
    if math.isnan(least):
        raise ValueError(f"{what} got NaN: clean the data, or fill in the gaps")
    if not (least >= -_ROUNDING and most <= 1 + _ROUNDING):
        raise ValueError(f"{what} got numbers from {least:g} to {most:g}, but takes those in [0, 1]: {mend}")


def check_bits(x: Tensor, what: str, mend: str) -> None:
    """Refuses all numbers but 0 and 1, which are what gates take in ``.eval()`` mode."""
    check_range(x, what, mend)
    fractions = x[(x != 0) & (x != 1)]
    if len(fractions):
        raise ValueError(
            f"{what} got {fractions[0].item():g} in .eval() mode, where gates take bits, 0 or 1, as their circuit "
            f"does: {mend}"
        )
