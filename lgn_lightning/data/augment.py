"""Augmentation of training images, a whole batch at a time, on uint8 and without any state of its own.

What happens to an image is a function of the shuffle seed, the epoch and the image's number in the split. A resumed
run, any number of ranks and any batch size therefore augment an image of an epoch in the same way.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Padding = Literal["zeros", "border", "reflection"]
#: What :func:`torch.nn.functional.pad` calls the same borders.
_PAD_MODES = {"zeros": "constant", "border": "replicate", "reflection": "reflect"}
_STREAM = 0x5DEECE66D  # keeps the draws apart from the shuffle, which has the same seed


class Augmentation(ABC):
    """Maps a batch of training images to randomly changed ones of the same shape.

    Attributes:
        num_draws: Random numbers that an image takes.
    """

    num_draws: int

    @abstractmethod
    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augments a batch, uint8 ``[B, C, H, W]`` on any device, and returns another one.

        ``draws``, float32 ``[B, num_draws]`` on the same device and uniform in [0, 1), are all the randomness there is.
        """

    @abstractmethod
    def __repr__(self) -> str:
        """Names the augmentation with its arguments, as a table of results does."""


class _Warp(Augmentation):
    """Resamples images, bilinearly: a subclass says where each pixel of the output reads.

    A map is linear in functions of the pixel's place that are the same for all images, the rows of a basis.
    """

    def __init__(self, padding: Padding) -> None:
        _check_padding(type(self).__name__, padding)
        self.padding = padding
        self._bases: dict[tuple[int, int, torch.device], Tensor] = {}

    @abstractmethod
    def _basis(self, height: int, width: int) -> Tensor:
        """The functions at all pixels, float32 ``[N, H · W]``."""

    @abstractmethod
    def _weights(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Weights of the functions, float32 ``[B, 2, N]``, which sum up to the x and y to read, from the centre."""

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        count, _, height, width = images.shape
        weights = self._weights(draws, height, width)
        if (height, width, weights.device) not in self._bases:
            self._bases[height, width, weights.device] = self._basis(height, width).to(weights.device)
        # grid_sample counts from -1 to 1 over the image. One product for the whole batch, planar as it comes out: it
        # takes a fraction of the time of affine_grid.
        weights = weights * weights.new_tensor([2 / width, 2 / height]).view(1, 2, 1)
        grid = weights.view(2 * count, -1) @ self._bases[height, width, weights.device]
        grid = grid.view(count, 2, height, width).permute(0, 2, 3, 1)
        warped = functional.grid_sample(images.float(), grid, padding_mode=self.padding, align_corners=False)
        return _to_bytes(warped)


class _AffineWarp(_Warp):
    """Resamples images through affine maps."""

    def _basis(self, height: int, width: int) -> Tensor:
        """Homogeneous coordinates (x, y, 1) of the pixel centres."""
        x, y = _coordinates(height, width)
        return torch.stack([x, y, torch.ones_like(x)]).view(3, -1)


class Affine(_AffineWarp):
    """Rotates, scales, shears and shifts, by bilinear interpolation; the defaults suit MNIST.

    Each quantity is drawn evenly from its range, the scales of the two axes apart.

    Args:
        rotation: Largest angle, degrees.
        scale: Largest relative change of size, per axis, below 1.
        shear: Largest horizontal shear: pixels to the side per pixel down.
        shift: Largest shift along each axis, pixels.
        padding: What lies outside: ``"zeros"`` (black), ``"border"`` or ``"reflection"``.
    """

    num_draws = 6

    def __init__(
        self,
        rotation: float = 6.0,
        scale: float = 0.06,
        shear: float = 0.06,
        shift: float = 1.0,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__(padding)
        if not (0 <= rotation <= 180 and 0 <= scale < 1 and shear >= 0 and shift >= 0):
            raise ValueError(
                f"Affine(rotation={rotation}, scale={scale}, shear={shear}, shift={shift}): rotation must be in "
                "[0, 180] degrees, scale in [0, 1), shear and shift 0 or more"
            )
        self.rotation, self.scale, self.shear, self.shift = rotation, scale, shear, shift

    def _weights(self, draws: Tensor, height: int, width: int) -> Tensor:
        ranges = draws.new_tensor(
            [math.radians(self.rotation), self.scale, self.scale, self.shear, self.shift, self.shift]
        )
        angle, grow_x, grow_y, shear, dx, dy = ((2 * draws - 1) * ranges).unbind(1)
        cos, sin = angle.cos(), angle.sin()
        scale_x, scale_y = 1 + grow_x, 1 + grow_y
        # the map from output to input: turn, shear sideways, then scale either axis
        rows = [scale_x * cos, scale_x * (shear - sin), dx, scale_y * sin, scale_y * cos, dy]
        return torch.stack(rows, dim=1).view(-1, 2, 3)

    def __repr__(self) -> str:
        sizes = f"±{self.rotation:g}°, scale ±{self.scale:g}, shear ±{self.shear:g}, ±{self.shift:g} px"
        return f"Affine({sizes}{_changed(self.padding)})"


class RandomResizedCrop(_AffineWarp):
    """Cuts out a random window and enlarges it to the whole image, as in ImageNet training (Szegedy et al., 2015).

    Args:
        min_area: Smallest share of the image's area that the window has, in (0, 1].
        max_aspect: Largest ratio of the window's sides, relative to the image's, at least 1.
    """

    num_draws = 4

    def __init__(self, min_area: float = 0.7, max_aspect: float = 1.2) -> None:
        super().__init__("border")
        if not (0 < min_area <= 1 and max_aspect >= 1):
            raise ValueError(
                f"RandomResizedCrop(min_area={min_area}, max_aspect={max_aspect}): min_area must be in (0, 1] and "
                "max_aspect at least 1"
            )
        self.min_area = min_area
        self.max_aspect = max_aspect

    def _weights(self, draws: Tensor, height: int, width: int) -> Tensor:
        area = self.min_area + (1 - self.min_area) * draws[:, 0]
        aspect = torch.exp((2 * draws[:, 1] - 1) * math.log(self.max_aspect))
        scale_x, scale_y = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        dx = (draws[:, 2] - 0.5) * (1 - scale_x) * width
        dy = (draws[:, 3] - 0.5) * (1 - scale_y) * height
        zero = torch.zeros_like(dx)
        return torch.stack([scale_x, zero, dx, zero, scale_y, dy], dim=1).view(-1, 2, 3)

    def __repr__(self) -> str:
        return f"RandomResizedCrop(area {self.min_area:g}…1, aspect ≤ {self.max_aspect:g})"


class Elastic(_Warp):
    """Bends images by a smooth random field (Simard et al., 2003); the defaults suit MNIST.

    The field is a cubic B-spline over a grid of control points, each of which moves evenly within its range.

    Args:
        displacement: Largest move of a control point along each axis, pixels; the standard deviation of where a pixel
            goes is about 0.3 of it.
        cells: Distances between control points along each axis of the image: more of them make narrower bends.
        padding: What lies outside: ``"zeros"`` (black), ``"border"`` or ``"reflection"``.
    """

    def __init__(self, displacement: float = 3.0, cells: int = 4, padding: Padding = "zeros") -> None:
        super().__init__(padding)
        if not (displacement >= 0 and cells >= 1):
            name = f"Elastic(displacement={displacement}, cells={cells})"
            raise ValueError(f"{name}: displacement must be 0 or more, cells at least 1")
        self.displacement = displacement
        self.cells = cells
        self.num_draws = 2 * (cells + 3) ** 2  # a spline reaches over four cells

    def _basis(self, height: int, width: int) -> Tensor:
        """The splines of the control points, then the coordinates (x, y)."""
        column, row = self._splines(width), self._splines(height)
        splines = (row[:, None, :, None] * column[None, :, None, :]).view(-1, height * width)
        return torch.cat([splines, torch.stack(_coordinates(height, width)).view(2, -1)])

    def _splines(self, size: int) -> Tensor:
        """Cubic B-splines around the control points, at the pixels of a line: ``[cells + 3, size]``."""
        points = torch.arange(-1, self.cells + 2)[:, None]
        d = ((torch.arange(size) + 0.5) * (self.cells / size) - points).abs()
        return torch.where(d < 1, 2 / 3 - d**2 + d**3 / 2, (2 - d).clamp(min=0) ** 3 / 6)

    def _weights(self, draws: Tensor, height: int, width: int) -> Tensor:
        moves = (2 * draws - 1) * self.displacement
        identity = torch.eye(2, device=draws.device).expand(len(draws), 2, 2)
        return torch.cat([moves.view(len(draws), 2, -1), identity], dim=2)

    def __repr__(self) -> str:
        return f"Elastic(±{self.displacement:g} px, {self.cells} cells{_changed(self.padding)})"


class Shift(Augmentation):
    """Shifts by whole pixels along both axes: the same as padding an image and cropping it at random.

    Args:
        pixels: Largest shift.
        padding: What moves in: ``"zeros"`` (black), ``"border"`` or ``"reflection"``.

    Raises:
        ValueError: If ``pixels`` is below 1; when called, if a reflection needs more pixels than the image has.
    """

    num_draws = 2

    def __init__(self, pixels: int = 4, padding: Padding = "zeros") -> None:
        _check_padding("Shift", padding)
        if pixels < 1:
            raise ValueError(f"Shift(pixels={pixels}): must be at least 1")
        self.pixels = pixels
        self.padding = padding

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        count, _, height, width = images.shape
        p = self.pixels
        if self.padding == "reflection" and p >= min(height, width):
            raise ValueError(f"{self!r} reflects {p} pixels, more than images of {height}×{width} have")
        # replication and reflection are not implemented for bytes
        source = images if self.padding == "zeros" else images.float()
        padded = functional.pad(source, (p, p, p, p), mode=_PAD_MODES[self.padding]).to(torch.uint8)
        top, left = (draws * (2 * p + 1)).long().clamp_(max=2 * p).unbind(1)
        # Every window of the padded images as a view: picking one an image copies its rows, pixels stay together.
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(count, device=images.device), :, top, left]

    def __repr__(self) -> str:
        return f"Shift(±{self.pixels} px{_changed(self.padding)})"


class HorizontalFlip(Augmentation):
    """Mirrors images left to right.

    Args:
        probability: Share of the images that are mirrored, in [0, 1].
    """

    num_draws = 1

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"HorizontalFlip(probability={probability}): must be in [0, 1]")
        self.probability = probability

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return torch.where((draws[:, 0] < self.probability).view(-1, 1, 1, 1), images.flip(3), images)

    def __repr__(self) -> str:
        return "HorizontalFlip()" if self.probability == 0.5 else f"HorizontalFlip({self.probability:g})"


class Compose(Augmentation):
    """Applies augmentations in turn, each with draws of its own."""

    def __init__(self, steps: Sequence[Augmentation]) -> None:
        self.steps = list(steps)
        self.num_draws = sum(step.num_draws for step in self.steps)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        shares = torch.split(draws, [step.num_draws for step in self.steps], dim=1)
        for step, own in zip(self.steps, shares, strict=True):
            images = step(images, own)
        return images

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.steps)) or "none"


def epoch_draws(length: int, num_draws: int, seed: int, epoch: int) -> Tensor:
    """Numbers in [0, 1) of all images in an epoch, float32 ``[length, num_draws]``, equal on all ranks for a seed."""
    # All of them at once: 1.4 MB for MNIST and six draws, and no counter-based generator of our own.
    mixed = (seed * 0x9E3779B97F4A7C15 + epoch) ^ _STREAM
    return torch.rand(length, num_draws, generator=torch.Generator().manual_seed(mixed % 2**63))


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Gives x and y of all pixel centres, relative to the image's centre: float32 ``[H, W]`` each."""
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    return x, y


def _to_bytes(pixels: Tensor) -> Tensor:
    """Rounds floats in [0, 255] to uint8; on the CPU by numpy, in an eighth of torch's time."""
    if pixels.device.type != "cpu":
        return (pixels + 0.5).to(torch.uint8)
    return torch.from_numpy((pixels.numpy() + np.float32(0.5)).astype(np.uint8))


def _check_padding(name: str, padding: str) -> None:
    if padding not in _PAD_MODES:
        raise ValueError(f"{name}(padding={padding!r}): must be one of {', '.join(map(repr, _PAD_MODES))}")


def _changed(padding: str) -> str:
    return "" if padding == "zeros" else f", padding={padding!r}"
