"""What nets of gates read an image by: thresholds, and comparisons with the pixels beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from lgn_lightning.nn import EdgeChannels, Threshold


def image_encoder(
    thresholds: Sequence[float] | int, in_shape: Sequence[int], edges: list[int] | None, flatten: bool, **options: Any
) -> list[nn.Module]:
    """Modules that turn images into bits, ``[batch, bits]`` or, if not flattened, channels of bits a pixel.

    ``edges`` are contrasts of `EdgeChannels`; ``options`` are those of `Threshold`.
    """
    threshold = Threshold(thresholds, in_shape, flatten=flatten and not edges, **options)
    if not edges:
        return [threshold]
    modules = [threshold, EdgeChannels(len(threshold.levels), in_shape, edges)]
    return [*modules, nn.Flatten()] if flatten else modules
