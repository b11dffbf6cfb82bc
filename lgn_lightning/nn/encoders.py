"""Encoders: how pixels become bits. They are the first layer of a net, so that checkpoint and export know them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lgn_lightning.circuit.builder import CircuitBuilder

PIXEL_MAX = 255


class Threshold(nn.Module):
    """One bit a threshold and pixel: whether the pixel is brighter (a thermometer code of the intensity).

    Args:
        thresholds: Increasing intensities in [0, 1).
        in_shape: Shape of an image, ``(channels, height, width)``.
        grey_in_training: Feed the intensities themselves while training and bits only in ``.eval()`` mode, as the
            original library does on MNIST. Needs a single threshold.

    Shape:
        - Input: uint8 ``[batch, channels, height, width]``, or floats in [0, 1] of that shape, which are rounded to
          the nearest of the 256 levels, so that the net sees what its exported circuit sees.
        - Output: float32 0 or 1, ``[batch, thresholds · channels · height · width]``, ordered by threshold, channel,
          row and column, feature-major in memory.

    Raises:
        ValueError: If the thresholds are not increasing in [0, 1), or grey input has several of them; when called, if
            the image has another shape or holds NaN.
        TypeError: When called, if the image is neither uint8 nor floating point.
    """

    levels: Tensor

    def __init__(self, thresholds: Sequence[float], in_shape: Sequence[int], grey_in_training: bool = False) -> None:
        super().__init__()
        in_range = all(0 <= t < 1 for t in thresholds)  # false for NaN
        if not thresholds or not in_range or sorted(set(thresholds)) != list(thresholds):
            raise ValueError(f"thresholds must be increasing and in [0, 1), not {list(thresholds)}")
        if grey_in_training and len(thresholds) != 1:
            raise ValueError(f"grey_in_training needs a single threshold, not {len(thresholds)}")
        if len(in_shape) != 3 or min(in_shape) < 1:
            raise ValueError(f"in_shape must be (channels, height, width), not {list(in_shape)}")
        self.in_shape = tuple(in_shape)
        self.grey_in_training = grey_in_training
        # pixel / 255 > threshold is pixel > floor(255 · threshold) for whole pixels; the epsilon keeps k/255 at k.
        self.register_buffer(
            "levels", torch.tensor([math.floor(PIXEL_MAX * t + 1e-6) for t in thresholds], dtype=torch.uint8)
        )

    @property
    def out_dim(self) -> int:
        """Number of bits of an image."""
        return len(self.levels) * math.prod(self.in_shape)

    def forward(self, x: Tensor) -> Tensor:
        """Encodes a batch of images."""
        if tuple(x.shape[1:]) != self.in_shape:
            raise ValueError(
                f"the net was built for images {list(self.in_shape)} and got a batch of {list(x.shape[1:])}; "
                "check in_shape and the data module"
            )
        _check_pixels(x)
        pixels = x.flatten(1).t().contiguous()
        if pixels.is_floating_point() and not torch.compiler.is_compiling() and bool(torch.isnan(pixels).any()):
            raise ValueError(f"the batch of {x.shape[0]} images holds NaN; clean the data or fill in the gaps")
        if self.training and self.grey_in_training:
            return _intensity(pixels).t()
        levels = self.levels.view(-1, 1, 1)
        # Float intensities k/255 come back as k up to rounding: compare half a level higher.
        bits = pixels.float() * PIXEL_MAX > levels + 0.5 if pixels.is_floating_point() else pixels > levels
        return bits.flatten(0, 1).float().t()

    def add_to_circuit(self, builder: CircuitBuilder, wires: NDArray[np.int32]) -> NDArray[np.int32]:
        """Declares that the circuit's inputs are these thresholds of an image."""
        return builder.threshold_inputs(self.levels.cpu().numpy(), self.in_shape)

    def extra_repr(self) -> str:
        """Levels and image shape."""
        grey = ", grey_in_training=True" if self.grey_in_training else ""
        return f"levels={self.levels.tolist()}, in_shape={self.in_shape}{grey}"


class Intensity(nn.Module):
    """Flattens images to floats in [0, 1], the input of real-valued baselines.

    Shape:
        - Input: uint8 ``[batch, channels, height, width]``, or floats in [0, 1].
        - Output: float32 ``[batch, channels · height · width]``.

    Raises:
        TypeError: When called, if the image is neither uint8 nor floating point.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Scales and flattens a batch of images."""
        _check_pixels(x)
        return _intensity(x.flatten(1))


def _intensity(pixels: Tensor) -> Tensor:
    return pixels.float() if pixels.is_floating_point() else pixels.float() / PIXEL_MAX


def _check_pixels(x: Tensor) -> None:
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise TypeError(f"images are {x.dtype}, but must be torch.uint8 (0 to 255) or floating point (0 to 1)")
