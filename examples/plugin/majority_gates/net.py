"""The net that the recipe names: from images to class scores."""

from __future__ import annotations

from collections.abc import Sequence

from lgn_lightning import GroupSum, LogicLayer, Threshold
from lgn_lightning.nn import LogicSequential
from majority_gates.layer import MajorityLayer


class MajorityNet(LogicSequential):
    """A layer of majority gates on thresholded images, then layers of two-input gates.

    Args:
        in_shape: Shape of an image, ``(channels, height, width)``.
        num_classes: Number of classes; divides ``width``.
        width: Gates a layer.
        depth: Layers of two-input gates.
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
        encoder = Threshold(thresholds, in_shape)
        super().__init__(
            encoder,
            MajorityLayer(encoder.out_dim, width),
            *(LogicLayer(width, width) for _ in range(depth)),
            GroupSum(num_classes, tau),
        )
