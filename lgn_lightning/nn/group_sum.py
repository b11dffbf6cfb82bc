"""The output of a classifier: sums over groups of gates."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.nn.deferred import finish
from lgn_lightning.nn.gate_layer import on_rows
from lgn_lightning.nn.packed import PackBitsTensor

#: τ over the square root of the number of gates a class.
TAU_PER_ROOT = 0.35


def recommended_tau(group_size: int) -> float:
    """A temperature of the group sum to start from: 0.35 · √(gates a class); ValueError if that is below 1 gate.

    The sum of n independent bits that are on half of the time has the standard deviation √n / 2. Divided by this τ it
    is about 1.4 for every n, so that the softmax of a fresh net is neither flat nor saturated. It agrees with what was
    found by hand: 10 for 800 gates a class on MNIST and 30 for 6,400 (Petersen et al., 2022), 7 for 400 and 12 for
    1,200 in nets of this project. Data that is hard to fit wants more: on CIFAR-10 33 was best for 1,200.
    """
    if group_size < 1:
        raise ValueError(f"recommended_tau({group_size}): a class has at least 1 gate")
    return TAU_PER_ROOT * math.sqrt(group_size)


class GroupSum(nn.Module):
    """Sums ``k`` equal groups of neighbouring features, (sum + beta) / tau (Petersen et al., NeurIPS 2022).

    Args:
        k: Number of groups: the number of classes.
        tau: Temperature; ``n`` features give scores in [0, n / k / tau].
        device: Accepted for compatibility.
        beta: Offset of all sums, which a circuit has as gates that are always one.
        learn_tau: Train the temperature, which begins at ``tau``; a circuit's scores are not divided by it.

    Shape:
        - Input: ``[…, n]``, floats or bools, with ``n`` divisible by ``k``, or a :class:`PackBitsTensor`.
        - Output: ``[…, k]`` float32; of a packed input int32 counts ``[batch, k]``, not divided by ``tau``.

    Raises:
        ValueError: If ``k`` or ``tau`` is not positive, ``beta`` is no whole number of at least 0, or, when called, the
            groups do not divide.
    """

    def __init__(
        self, k: int, tau: float = 1.0, device: object = None, beta: float = 0, learn_tau: bool = False
    ) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"GroupSum(k={k}): the number of groups must be at least 1")
        if not 0 < tau < math.inf:
            raise ValueError(f"GroupSum(tau={tau}): tau must be a positive number")
        if not (0 <= beta < math.inf and beta == int(beta)):
            raise ValueError(
                f"GroupSum(beta={beta}): a circuit counts bits, so beta is a whole number, 0 or more; which score is "
                "the highest does not depend on it"
            )
        self.k, self.beta = k, int(beta)
        self._tau = tau
        self.log_tau = nn.Parameter(torch.tensor(math.log(tau))) if learn_tau else None

    @property
    def tau(self) -> float:
        """The temperature."""
        return self._tau if self.log_tau is None else math.exp(self.log_tau.item())

    @property
    def divisor(self) -> float:
        """What an op divides the sums by, before `scores_of`."""
        return 1.0 if self.beta or self.log_tau is not None else self._tau

    def scores_of(self, sums: Tensor) -> Tensor:
        """Scores of sums over `divisor`."""
        if self.log_tau is not None:
            return (sums + self.beta) * torch.exp(-self.log_tau)
        return (sums + self.beta) / self._tau if self.beta else sums

    def forward(self, x: Tensor | PackBitsTensor) -> Tensor:
        """Sums the groups of ``x``."""
        if isinstance(x, PackBitsTensor):
            return x.group_sum(self.k) + self.beta
        scores = finish(self, x)
        if scores is not None:
            return scores
        if not x.is_floating_point():
            x = x.float()
        return self.scores_of(on_rows(lambda rows: ops.group_sum(rows, self.k, self.divisor), x))

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Makes ``wires`` the outputs of the circuit, in ``k`` groups."""
        if self.beta and wires.size and not wires.shape[-1] % self.k:
            groups = wires.reshape(*wires.shape[:-1], self.k, -1)
            ones = np.full((*groups.shape[:-1], self.beta), builder.constant(True), np.int32)
            wires = np.concatenate([groups, ones], -1).reshape(*wires.shape[:-1], -1)
        return builder.group_sum(wires, self.k, self.tau)

    def extra_repr(self) -> str:
        beta = f", beta={self.beta}" if self.beta else ""
        return f"k={self.k}, tau={self.tau:g}{beta}" + ("" if self.log_tau is None else ", learn_tau=True")
