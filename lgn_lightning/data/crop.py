"""MNIST 20×20: cuts the black border off, image by image (Deep Differentiable Logic Gate Networks, NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from lgn_lightning.errors import DataError

BORDER = 8  # pixels per axis, both sides together


def remove_border(images: Tensor) -> Tensor:
    """Removes 8 black rows and 8 black columns from each image, chosen per image so that no ink is lost.

    The borders that stay are as even as the black margins allow: both margins are narrowed in step while 10 or more
    pixels would go, then the first (top, left) by one more if 9 would.

    Args:
        images: uint8 ``[N, H, W]``, 0 is black.

    Returns:
        uint8 ``[N, H - 8, W - 8]``.

    Raises:
        DataError: If an image has fewer than 8 black rows or columns at its edges.
    """
    count, height, width = images.shape
    ink = images != 0
    top = _border_start(ink.any(dim=2), "rows")
    left = _border_start(ink.any(dim=1), "columns")
    rows = top[:, None] + torch.arange(height - BORDER)
    columns = left[:, None] + torch.arange(width - BORDER)
    return images[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _border_start(ink: Tensor, axis: str) -> Tensor:
    """Lines to cut at the low end, int64 ``[N]``, from bool ``[N, lines]``: whether a line has ink."""
    half = ink.shape[1] // 2
    # the margins, at most half the image each: leading ones of "no ink" from either end
    first = (~ink).cumprod(dim=1).sum(dim=1).clamp(max=half)
    last = (~ink.flip(1)).cumprod(dim=1).sum(dim=1).clamp(max=half)
    narrow = (first + last < BORDER).nonzero()
    if len(narrow):
        index = int(narrow[0])
        raise DataError(
            f"MNIST: image {index} has only {int(first[index] + last[index])} black {axis} at its edges, size 20 cuts "
            f"{BORDER} off ({len(narrow)} such images); use size 28 for these files"
        )
    while bool((wide := first + last >= BORDER + 2).any()):
        first, last = first - (wide & (first > 0)).long(), last - (wide & (last > 0)).long()
    return first - ((first + last == BORDER + 1) & (first > 0)).long()
