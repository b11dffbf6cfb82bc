"""The net that the recipe names: any module from images to class scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer, Threshold
from majority_gates.layer import MajorityLayer


class MajorityNet(nn.Module):
    """Majority gates and two-input gates side by side, then layers that keep what they read.

    The export follows ``forward`` as it is: branches, skips and functions that move values need nothing else.

    Args:
        in_shape: Shape of an image, ``(channels, height, width)``.
        num_classes: Number of classes; divides ``width``.
        width: Gates a layer, an even number.
        depth: Layers of two-input gates behind the first.
        tau: Temperature of the group sum.
        thresholds: Intensities in [0, 1) that pixels are compared with.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        num_classes: int,
        width: int,
        depth: int = 2,
        tau: float = 10.0,
        thresholds: Sequence[float] = (0.25, 0.5, 0.75),
    ) -> None:
        super().__init__()
        self.in_shape, self.num_classes = tuple(in_shape), num_classes
        self.encoder = Threshold(thresholds, in_shape)
        self.majorities = MajorityLayer(self.encoder.out_dim, width // 2)
        self.pairs = LogicLayer(self.encoder.out_dim, width // 2)
        self.layers = nn.ModuleList(LogicLayer(width, width) for _ in range(depth))
        self.sum = GroupSum(num_classes, tau)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of a batch of images."""
        bits = self.encoder(x)
        h = torch.cat([self.majorities(bits), self.pairs(bits)], dim=1)
        for layer in self.layers:
            new = layer(h)
            h = h + new - 2 * h * new  # the soft form of xor
        return self.sum(h)
