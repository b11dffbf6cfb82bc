"""The output of a classifier: sums over groups of gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.nn.packed import PackBitsTensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lgn_lightning.circuit.builder import CircuitBuilder


class GroupSum(nn.Module):
    """Sums ``k`` equal groups of neighbouring features and divides by ``tau`` (Petersen et al., 2022, sec. 3.2).

    Args:
        k: Number of groups: the number of classes.
        tau: Temperature; ``n`` features give scores in [0, n / k / tau].
        device: Accepted for compatibility; the module has no parameters.

    Shape:
        - Input: ``[…, n]``, floats or bools, with ``n`` divisible by ``k``, or a :class:`PackBitsTensor`.
        - Output: ``[…, k]`` float32; of a packed input int32 counts ``[batch, k]``, not divided by ``tau``.

    Raises:
        ValueError: If ``k`` or ``tau`` is not positive, or, when called, if the groups do not divide.
    """

    def __init__(self, k: int, tau: float = 1.0, device: object = None) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"GroupSum(k={k}): the number of groups must be at least 1")
        if not tau > 0:
            raise ValueError(f"GroupSum(tau={tau}): tau must be positive")
        self.k = k
        self.tau = tau

    def forward(self, x: Tensor | PackBitsTensor) -> Tensor:
        """Sums the groups of ``x``."""
        if isinstance(x, PackBitsTensor):
            return x.group_sum(self.k)
        if not x.is_floating_point():
            x = x.float()
        if x.ndim == 2:
            return ops.group_sum(x, self.k, self.tau)
        rows = x.unsqueeze(0) if x.ndim == 1 else x.flatten(0, -2)
        return ops.group_sum(rows, self.k, self.tau).view(*x.shape[:-1], self.k)

    def add_to_circuit(self, builder: CircuitBuilder, wires: NDArray[np.int32]) -> NDArray[np.int32]:
        """Makes ``wires`` the outputs of the circuit, in ``k`` groups."""
        builder.group_sum(wires, self.k, self.tau)
        return wires

    def extra_repr(self) -> str:
        """Groups and temperature."""
        return f"k={self.k}, tau={self.tau}"
