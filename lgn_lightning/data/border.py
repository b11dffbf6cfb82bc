"""MNIST 20×20: cuts the black border off, image by image (Deep Differentiable Logic Gate Networks, NeurIPS 2022).

Without torch, which a circuit that classifies images does not need.
"""

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.errors import DataError

BORDER = 8  # pixels per axis, both sides together


def remove_border(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Removes 8 black rows and 8 black columns from each image, chosen per image so that no ink is lost.

    The borders that stay are as even as the black margins allow: both margins are narrowed in step while 10 or more
    pixels would go, then the first (top, left) by one more if 9 would. Uint8 ``[N, H, W]``, 0 is black, becomes
    ``[N, H - 8, W - 8]``; an image that has fewer black rows or columns at its edges is a DataError.
    """
    count, height, width = images.shape
    ink = images != 0
    top = _border_start(ink.any(axis=2), "rows")
    left = _border_start(ink.any(axis=1), "columns")
    rows = top[:, None] + np.arange(height - BORDER)
    columns = left[:, None] + np.arange(width - BORDER)
    return images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _border_start(ink: NDArray[np.bool_], axis: str) -> NDArray[np.int64]:
    """Lines to cut at the low end, int64 ``[N]``, from bool ``[N, lines]``: whether a line has ink."""
    half = ink.shape[1] // 2
    # the margins, at most half the image each: leading ones of "no ink" from either end
    first = np.logical_and.accumulate(~ink, axis=1).sum(axis=1).clip(max=half)
    last = np.logical_and.accumulate(~ink[:, ::-1], axis=1).sum(axis=1).clip(max=half)
    narrow = np.flatnonzero(first + last < BORDER)
    if narrow.size:
        index = int(narrow[0])
        raise DataError(
            f"image {index} has only {int(first[index] + last[index])} black {axis} at its edges, and MNIST(size=20) "
            f"cuts {BORDER} off ({len(narrow)} such images); use size 28 for these files"
        )
    while (wide := first + last >= BORDER + 2).any():
        first, last = first - (wide & (first > 0)), last - (wide & (last > 0))
    return np.asarray(first - ((first + last == BORDER + 1) & (first > 0)))
