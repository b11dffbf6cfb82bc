"""How many thresholds images want: what the bits of single pixels say of the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lgn_lightning.data.thresholds import quantile_gaps

#: Numbers of thresholds to choose among; the last one stands for all that there is.
COUNTS: Final = (1, 3, 7, 15, 31)
#: Share of what single pixels say of the class that is enough.
ENOUGH: Final = 0.92
#: Bits of the class below which pixels say nothing of it.
_NOISE: Final = 0.01
#: Images and pixels of an image that are looked at.
_IMAGES, _PIXELS = 10_000, 400


@dataclass(frozen=True)
class Levels:
    """Thresholds for images, and what speaks for them.

    Attributes:
        chosen: Levels that pixels are compared with, increasing, 0 to 254; between them lie about equally many pixels,
            a level that fills more than one share counted as one.
        information: Bits that the thermometer code of a single pixel says of the class, mean over pixels, by the number
            of thresholds.
        entropy: Bits of that code itself, likewise.
        found: Different levels of the pixels.
    """

    chosen: tuple[int, ...]
    information: dict[int, float]
    entropy: dict[int, float]
    found: int

    @property
    def thresholds(self) -> list[float]:
        """The levels as intensities, each in the middle between two of the 256."""
        return [round((level + 0.5) / 255, 3) for level in self.chosen]

    def share(self, count: int) -> float:
        """Share of what single pixels say of the class that so many thresholds keep, 0 to 1."""
        most = max(self.information.values())
        return self.information[count] / most if most > _NOISE else 1.0


class PixelSample:
    """Some pixels of the images that train, and the classes of these images.

    Args:
        images: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]``.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        chance = np.random.default_rng(0)
        count, size = len(images), images[0].numel()
        of_images = np.sort(chance.permutation(count)[:_IMAGES])
        of_pixels = np.sort(chance.permutation(size)[:_PIXELS])
        self.pixels = images.flatten(1).numpy()[of_images[:, None], of_pixels]
        self.labels = np.unique(labels.numpy()[of_images], return_inverse=True)[1]
        self._shuffled = chance.permutation(self.labels)
        self._counts = np.bincount(self.pixels.ravel(), minlength=256)

    @property
    def found(self) -> NDArray[np.intp]:
        """The different levels."""
        return np.flatnonzero(self._counts)

    def spread(self, count: int) -> tuple[int, ...]:
        """At most so many levels with about equally many pixels between them."""
        found = self.found
        gaps = quantile_gaps(self._counts[found], count)
        return tuple(int(level) for level in (found[gaps] + found[gaps + 1]) // 2)

    def code(self, levels: Sequence[int]) -> tuple[float, float]:
        """Bits that the thermometer code by these levels says of the class, and those that it has, of a single pixel.

        Means over pixels. What the code says of shuffled classes, by the number of images alone, is subtracted.
        """
        places, codes, classes = self.pixels.shape[1], len(levels) + 1, int(self.labels.max()) + 1
        of_level = np.searchsorted(np.asarray(levels), np.arange(256)).astype(np.int64)  # a bit is pixel > level
        cells = (np.arange(places) * codes + of_level[self.pixels]) * classes
        joint = []
        for labels in (self.labels, self._shuffled):
            counts = np.bincount((cells + labels[:, None]).ravel(), minlength=places * codes * classes)
            joint.append(_entropy(counts.reshape(places, -1)).mean())
        of_codes = _entropy(counts.reshape(places, codes, classes).sum(2)).mean()
        return max(0.0, float(joint[1] - joint[0])), float(of_codes)


def _entropy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits of each row."""
    shares = counts / counts.sum(1, keepdims=True)
    bits: NDArray[np.float64] = -(shares * np.log2(np.where(counts > 0, shares, 1))).sum(1)
    return bits


def choose_levels(images: Tensor, labels: Tensor, most: int | None = None) -> Levels:
    """Chooses the fewest thresholds that keep `ENOUGH` of what single pixels say of the class.

    Args:
        images: The images that train, uint8 ``[N, C, H, W]``, of which some pixels of some are looked at.
        labels: Their classes, int64 ``[N]``.
        most: Thresholds that are taken where more would be chosen.
    """
    sample = PixelSample(images, labels)
    if len(sample.found) < 2:
        return Levels((127,), {1: 0.0}, {1: 0.0}, len(sample.found))
    tried = {count: sample.spread(count) for count in COUNTS}
    codes = {count: sample.code(levels) for count, levels in tried.items()}
    levels = Levels((), {n: said for n, (said, _) in codes.items()}, {n: own for n, (_, own) in codes.items()}, 0)
    chosen = next(count for count in COUNTS if levels.share(count) >= ENOUGH)
    kept = tried[chosen] if most is None or most >= chosen else sample.spread(most)
    return Levels(kept, levels.information, levels.entropy, len(sample.found))
