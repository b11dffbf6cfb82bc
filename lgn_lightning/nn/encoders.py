"""Encoders: how pixels become bits. They are the first layer of a net, so that checkpoint and export know them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lgn_lightning.base.sizes import check_image_shape, check_thresholds
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.nn.checked_input import CheckedInput, check_range, free_to_look
from lgn_lightning.ops.bits_activations import BitActivations, pack_activations

PIXEL_MAX = 255


class Threshold(CheckedInput):
    """One bit a threshold and pixel: whether the pixel is brighter (a thermometer code of the intensity).

    Args:
        thresholds: Increasing intensities in [0, 1); or a number k of them, for the callback
            :class:`~lgn_lightning.callbacks.FitThresholds` or :func:`uniform_thresholds` to choose.
        in_shape: Shape of an image, ``(channels, height, width)``.
        grey_in_training: Feed numbers between 0 and 1 while training and bits only in ``.eval()`` mode. Of a single
            threshold these are the intensities themselves, as the original library does on MNIST; of several every bit
            is a ramp around its level, 0 up to the level below and 1 from the level above on (0 and 255 at the ends).
        flatten: Whether the bits of an image become a vector, for dense layers, or stay an image, for convolutions.
        spacing: How a number of thresholds is chosen: ``"uniform"`` puts them at i / (k + 1); ``"quantile"`` gives
            every channel levels of its own, with equally many training pixels between them, which
            :meth:`fit_levels` sets; until then they are uniform.
        learnable: Train the thresholds with the net (WARP, arXiv 2602.03527, learns its thresholds, too). Bits are
            those of the current thresholds; their gradient is that of a sigmoid of (intensity − threshold) / softness,
            straight through. Floored to whole levels they are what the circuit compares with, so nothing is lost in
            the export. Needs gradients of the first layer's inputs, which fixed thresholds do without.
        softness: Width of that sigmoid as an intensity, and the unit in which the optimizer moves thresholds: Adam with
            rate r moves one by at most about r · softness a step.

    Attributes:
        levels: uint8 ``[thresholds]``, by quantile ``[thresholds, channels]``; not there if ``learnable``, see
            :meth:`current_levels`.

    Shape:
        - Input: uint8 ``[batch, channels, height, width]``, or floats in [0, 1] of that shape, which are rounded to
          the nearest of the 256 levels, by ``(x * 255).round()``, so that the net sees what its exported circuit sees.
        - Output: float32 0 or 1, ``[batch, thresholds · channels · height · width]``, ordered by threshold, channel,
          row and column; with ``flatten=False`` ``[batch, thresholds · channels, height, width]``. Batch innermost in
          memory.

    Raises:
        ValueError: If the thresholds are not increasing in [0, 1), or grey input is to learn them; when called, if the
            image has another shape, holds NaN or floats outside [0, 1].
        TypeError: When called, if the image is neither uint8 nor floating point.
    """

    levels: Tensor

    def __init__(
        self,
        thresholds: Sequence[float] | int,
        in_shape: Sequence[int],
        grey_in_training: bool = False,
        flatten: bool = True,
        spacing: str = "uniform",
        learnable: bool = False,
        softness: float = 0.05,
    ) -> None:
        super().__init__()
        if spacing not in ("uniform", "quantile"):
            raise ValueError(f"spacing={spacing!r} is not 'uniform' or 'quantile'")
        if isinstance(thresholds, int):
            thresholds = uniform_thresholds(thresholds)
        elif spacing == "quantile":
            raise ValueError(f"spacing='quantile' chooses thresholds itself: give their number, not {list(thresholds)}")
        check_thresholds(thresholds)
        if grey_in_training and learnable:
            raise ValueError("grey_in_training feeds no bits while training, so learnable thresholds get no gradient")
        if not softness > 0:
            raise ValueError(f"softness={softness}: it is a difference of intensities and must be positive")
        check_image_shape(in_shape)
        self.in_shape = tuple(in_shape)
        self.grey_in_training, self.flatten, self.spacing = grey_in_training, flatten, spacing
        self.learnable, self.softness = learnable, softness
        # pixel / 255 > threshold is pixel > floor(255 · threshold) for whole pixels; the epsilon keeps k/255 at k.
        levels = torch.tensor([math.floor(PIXEL_MAX * t + 1e-6) for t in thresholds], dtype=torch.uint8)
        self.num_thresholds = len(levels)
        # [thresholds], or [thresholds, channels] where every channel has its own.
        levels = levels[:, None].repeat(1, in_shape[0]) if spacing == "quantile" else levels
        if learnable:
            self.weights = nn.Parameter(self._weights_of(levels))
        else:
            self.register_buffer("levels", levels)

    def _weights_of(self, levels: Tensor) -> Tensor:
        # The middle between two levels, so that rounding cannot reach the next one.
        return (levels.float() + 0.5) / (PIXEL_MAX * self.softness)

    def _reals(self) -> Tensor:
        """Learnable thresholds on the scale of pixels: a bit is ``pixel > threshold``."""
        return self.weights * (PIXEL_MAX * self.softness)

    def current_levels(self) -> Tensor:
        """The levels that pixels are compared with: uint8 ``[thresholds]``, or ``[thresholds, channels]``."""
        if not self.learnable:
            return self.levels
        # Beyond these a bit would be the same for all pixels.
        return self._reals().detach().floor().clamp(0, PIXEL_MAX - 1).to(torch.uint8)

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the bits of an image."""
        channels, height, width = self.in_shape
        return self.num_thresholds * channels, height, width

    @property
    def out_dim(self) -> int:
        """Number of bits of an image."""
        return math.prod(self.out_shape)

    @torch.no_grad()
    def fit_levels(self, histogram: Tensor) -> None:
        """Sets the levels of each channel to quantiles of the training pixels, of ``spacing="quantile"``.

        Level i of k is the smallest with a share of at least i / (k + 1) of the pixels not brighter than it, moved up
        where that is the level below it already, so that no two bits are equal on all images.

        ``histogram`` is the number of training pixels of each brightness, integers ``[channels, 256]``; another shape
        or spacing is a ValueError.
        """
        if self.spacing != "quantile":
            raise ValueError(f"this encoder has fixed thresholds (spacing={self.spacing!r}); nothing is to be fitted")
        if tuple(histogram.shape) != (self.in_shape[0], PIXEL_MAX + 1):
            raise ValueError(f"the histogram is {list(histogram.shape)}, but must be [{self.in_shape[0]}, 256]")
        counts, total = histogram.double().cumsum(1), histogram.double().sum(1, keepdim=True)
        steps = torch.arange(1, self.num_thresholds + 1, dtype=torch.float64, device=histogram.device)
        shares = steps.expand(len(counts), -1) / (len(steps) + 1)
        quantiles = torch.searchsorted(counts, (shares * total).contiguous())
        quantiles = (quantiles - steps.long()).cummax(1).values + steps.long()  # strictly increasing
        ceiling = PIXEL_MAX - 1 - (len(steps) - steps.long())  # the last bit can still be on
        levels = torch.minimum(quantiles, ceiling).t()
        if self.learnable:
            self.weights.copy_(self._weights_of(levels))
        else:
            self.levels.copy_(levels)

    def forward(self, x: Tensor) -> Tensor:
        """Encodes a batch of images."""
        pixels = self._pixels(x)
        if not self.training or self.trains_on_bits:
            bits = self._bits(pixels).float()
        elif self.learnable:
            bits = self._learned_bits(pixels)
        else:
            bits = as_intensity(pixels) if self.num_thresholds == 1 else self._ramps(pixels)
        bits = bits.reshape(*self.out_shape, x.shape[0]).permute(3, 0, 1, 2)
        return bits.flatten(1) if self.flatten else bits

    @property
    def trains_on_bits(self) -> bool:
        """Whether a training step sees the bits of evaluation, and has no threshold to learn."""
        return not (self.grey_in_training or self.learnable)

    def forward_bits(self, x: Tensor) -> BitActivations:
        """The same as packed bits, where they train."""
        bits = self._bits(self._pixels(x)).reshape(*self.out_shape, x.shape[0])
        packed = pack_activations(bits.permute(3, 0, 1, 2))
        return packed.flatten() if self.flatten else packed

    def _pixels(self, x: Tensor) -> Tensor:
        """The pixels of images, ``[channels, pixels of a channel, batch]``."""
        if tuple(x.shape[1:]) != self.in_shape:
            raise ValueError(
                f"the net was built for images {list(self.in_shape)} and got a batch of {list(x.shape[1:])}; "
                "check in_shape and the data module"
            )
        check_pixels(self, x)
        return x.flatten(2).permute(1, 2, 0).contiguous()

    def _bits(self, pixels: Tensor) -> Tensor:
        # [thresholds, channels or 1, 1, 1] against [channels, pixels of a channel, batch]
        levels = self.current_levels().view(self.num_thresholds, -1, 1, 1)
        return _whole(pixels) > levels

    def _ramps(self, pixels: Tensor) -> Tensor:
        """Where a pixel is between the levels below and above each one, which is 0.5 itself."""
        levels = self.current_levels().view(self.num_thresholds, -1, 1, 1).float() + 0.5  # a bit is pixel > level
        ends = torch.zeros_like(levels[:1]), torch.full_like(levels[:1], PIXEL_MAX)
        below, above = torch.cat((ends[0], levels[:-1])), torch.cat((levels[1:], ends[1]))
        distance = (pixels.float() * PIXEL_MAX if pixels.is_floating_point() else pixels.float()) - levels
        width = torch.where(distance < 0, levels - below, above - levels)
        return (0.5 + distance / (2 * width)).clamp(0, 1)

    def _learned_bits(self, pixels: Tensor) -> Tensor:
        bits = self._bits(pixels).float()
        distance = _whole(pixels) - self._reals().view(self.num_thresholds, -1, 1, 1)
        soft = torch.sigmoid(distance / (PIXEL_MAX * self.softness))
        return bits + (soft - soft.detach())

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Declares that the circuit's inputs are these thresholds of an image."""
        levels = self.current_levels().cpu().numpy()
        if levels.ndim == 1 and not self.learnable:
            bits = builder.threshold_inputs(levels, self.in_shape)
        else:
            # A circuit has one set of levels: the union; bits that no channel's levels ask for are never read. Learned
            # levels may be equal, or in any order.
            levels = levels.reshape(self.num_thresholds, -1)
            union, index = np.unique(levels, return_inverse=True)
            inputs = builder.threshold_inputs(union, self.in_shape).reshape(len(union), *self.in_shape)
            bits = inputs[index.reshape(levels.shape), np.arange(self.in_shape[0])]
        return bits.reshape(-1) if self.flatten else bits.reshape(self.out_shape)

    def extra_repr(self) -> str:
        grey = ", grey_in_training=True" if self.grey_in_training else ""
        flat = "" if self.flatten else ", flatten=False"
        learned = f", learnable=True, softness={self.softness}" if self.learnable else ""
        return f"levels={self.current_levels().tolist()}, in_shape={self.in_shape}{grey}{flat}{learned}"


def uniform_thresholds(count: int) -> list[float]:
    """Gives ``count`` evenly spaced intensities, i / (count + 1); a ValueError unless they are 1 to 254."""
    if not 1 <= count < PIXEL_MAX:
        raise ValueError(f"thresholds={count}: there can be 1 to {PIXEL_MAX - 1} of them")
    return [i / (count + 1) for i in range(1, count + 1)]


def _whole(pixels: Tensor) -> Tensor:
    """The level of each pixel: of floats the nearest one, of two the even one, as torch and numpy round."""
    return (pixels.float() * PIXEL_MAX).round() if pixels.is_floating_point() else pixels


class Intensity(CheckedInput):
    """Flattens images to floats in [0, 1], the input of real-valued baselines.

    Shape:
        - Input: uint8 ``[batch, channels, height, width]``, or floats in [0, 1].
        - Output: float32 ``[batch, channels · height · width]``.

    Raises:
        TypeError: When called, if the image is neither uint8 nor floating point.
        ValueError: When called, if it holds NaN or floats outside [0, 1].
    """

    def forward(self, x: Tensor) -> Tensor:
        """Scales and flattens a batch of images."""
        check_pixels(self, x)
        return as_intensity(x).flatten(1)


def as_intensity(pixels: Tensor) -> Tensor:
    """Brings pixels, uint8 or floats in [0, 1], to float32 in [0, 1]."""
    return pixels.float() if pixels.is_floating_point() else pixels.float() / PIXEL_MAX


def check_pixels(encoder: CheckedInput, x: Tensor) -> None:
    """Refuses images of other numbers: on the CPU all of them, elsewhere the first of a stage."""
    if x.dtype == torch.uint8:
        return
    if not x.is_floating_point():
        raise TypeError(f"images are {x.dtype}, but must be torch.uint8 (0 to 255) or floating point (0 to 1)")
    if free_to_look(x) or encoder.looks():
        check_range(x, type(encoder).__name__, "give uint8 images, or floats divided by 255 and not normalised further")
