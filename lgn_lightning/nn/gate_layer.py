"""What every layer of trainable gates has in common: logits, and how they become gates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.gates import NUM_GATES
from lgn_lightning.ops import reference

#: Logit of gate "A" under residual initialization; 90 % of the softmax's mass (Petersen et al., 2024, sec. 3.4).
RESIDUAL_LOGIT = 5.0
_PASS_A = 3
_IMPLEMENTATIONS = (None, "auto", "python", "cpu", "cuda")


class GateLayer(nn.Module):
    """Base of the layers that are made of two-input gates, soft in ``.train()`` and hard in ``.eval()`` mode.

    A subclass sets ``out_dim`` and, once its connections are drawn, calls :meth:`reset_parameters`.

    Args:
        num_gates: Number of gates with logits of their own.
        device: Device of the parameters; torch's default device if not given.
        implementation: ``None`` or ``"auto"`` takes the fastest there is; ``"python"`` the formula in plain torch;
            ``"cpu"`` and ``"cuda"`` the native kernels of that device.
        init: ``"gaussian"`` logits, or ``"residual"``: every gate starts as "A" with a probability of 0.9, which trains
            deep nets (Petersen et al., 2024, sec. 3.4).

    Attributes:
        weights: The logits, ``[num_gates, 16]``.
        out_dim: Size of the output's dimension 1: neurons or channels.

    Raises:
        ValueError: If an argument is not one of the choices.
    """

    out_dim: int

    def __init__(
        self, num_gates: int, device: torch.device | str | None, implementation: str | None, init: str
    ) -> None:
        super().__init__()
        check_choice("implementation", implementation, _IMPLEMENTATIONS)
        check_choice("init", init, ("gaussian", "residual"))
        self.implementation = implementation
        self.init = init
        self.weights = nn.Parameter(torch.empty(num_gates, NUM_GATES, device=device))
        if implementation == "cuda" and self.weights.device.type != "cuda":
            raise ValueError(
                f"implementation='cuda' needs device='cuda', but the layer is on {self.weights.device}; "
                "leave implementation out to take the fastest for any device"
            )

    def reset_parameters(self) -> None:
        """Draws the logits anew; the connections stay."""
        with torch.no_grad():
            if self.init == "residual":
                self.weights.zero_()[:, _PASS_A] = RESIDUAL_LOGIT
            else:
                self.weights.normal_()

    @property
    def num_neurons(self) -> int:
        """Number of gates with logits of their own."""
        return len(self.weights)

    def gates(self) -> Tensor:
        """The gate that each neuron would be in a circuit: uint8 ``[num_gates]``."""
        return self.weights.detach().argmax(1).to(torch.uint8)

    def gate_probabilities(self) -> Tensor:
        """Softmax of the logits: ``[num_gates, 16]``, detached."""
        return torch.softmax(self.weights.detach().float(), dim=1)

    def table(self) -> Tensor:
        """The four numbers of each gate, ``[num_gates, 4]``: soft in training mode, 0 or 1 in evaluation mode."""
        if self.training:
            if self.implementation == "python":
                # Outside of autocast, so that the table stays float32 as in the other implementations.
                with torch.autocast(self.weights.device.type, enabled=False):
                    return reference.softmax_table(self.weights)
            return ops.softmax_table(self.weights)
        return ops.hard_table(self.gates(), table_dtype(self.weights.dtype))


def as_activations(x: Tensor, parameters: torch.dtype) -> Tensor:
    """Gives inputs the dtype to compute in: autocast's, else their own, or that of the parameters for bools."""
    if torch.is_autocast_enabled(x.device.type):
        return x.to(torch.get_autocast_dtype(x.device.type))
    return x if x.is_floating_point() else x.to(parameters)


def table_dtype(activations: torch.dtype) -> torch.dtype:
    """The dtype of the tables that activations of a dtype are computed with."""
    return torch.float64 if activations == torch.float64 else torch.float32


def check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Refuses a value that is not among the choices.

    Raises:
        ValueError: If so, with the choices.
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}")
