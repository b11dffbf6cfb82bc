"""The layer: what it computes while it trains, what it computes afterwards, and the gates that it becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lgn_lightning.circuit import CircuitBuilder


class MajorityLayer(nn.Module):
    """Gates that are on where at least two of their three inputs are; which inputs are inverted is learned.

    In ``.train()`` mode input *i* of a gate is ``p·x + (1 − p)·(1 − x)`` with ``p = sigmoid(weight)``, and the gate is
    the probability of a majority, ``ab + bc + ca − 2abc``. In ``.eval()`` mode *p* is rounded to 0 or 1.

    Args:
        in_dim: Number of inputs, at least 3. `Circuit.from_module` reads this attribute to declare the inputs.
        out_dim: Number of gates.

    Shape:
        - Input: ``[batch, in_dim]`` floats in [0, 1] or bool.
        - Output: ``[batch, out_dim]`` float32.
    """

    connections: Tensor

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        if in_dim < 3:
            raise ValueError(f"MajorityLayer(in_dim={in_dim}): a majority needs 3 inputs")
        self.in_dim = in_dim
        self.out_dim = out_dim
        # A buffer, so that a checkpoint holds the wires: a reloaded net has to be the net that was trained.
        self.register_buffer("connections", torch.rand(out_dim, in_dim).topk(3).indices)
        self.weights = nn.Parameter(torch.randn(out_dim, 3))

    def probabilities(self) -> Tensor:
        """How likely each input is taken as it is and not inverted, ``[out_dim, 3]``."""
        return torch.sigmoid(self.weights)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluates the gates: soft in training, boolean in evaluation."""
        p = self.probabilities()
        if not self.training:
            p = (p > 0.5).float()
        inputs = x.to(p.dtype)[:, self.connections]  # [batch, out_dim, 3]
        a, b, c = (p * inputs + (1 - p) * (1 - inputs)).unbind(-1)
        return a * b + b * c + c * a - 2 * a * b * c

    def add_to_circuit(self, builder: CircuitBuilder, wires: NDArray[np.int32]) -> NDArray[np.int32]:
        """Adds the gates to a circuit; this method is all that exports, engines and proofs ask of a layer.

        Args:
            builder: Takes gates, or lookup tables of up to six inputs, and gives them node ids.
            wires: Node ids of the inputs, ``[in_dim]``.

        Returns:
            Node ids of the outputs, ``[out_dim]``.
        """
        straight = (self.probabilities() > 0.5).cpu().numpy()  # [out_dim, 3]
        rows = np.array([[r >> 2 & 1, r >> 1 & 1, r & 1] for r in range(8)], dtype=bool)  # inputs of the table's rows
        tables = (rows[None] == straight[:, None]).sum(axis=2) >= 2  # [out_dim, 8]
        return builder.luts(tables.astype(np.uint8), wires[self.connections.cpu().numpy()])
