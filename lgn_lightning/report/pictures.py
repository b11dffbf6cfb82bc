"""Pictures of the page as data URIs: a sample, and the grids of a cellular automaton as it runs."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Grids side by side, grids a second of the animation, and pixels of a cell in either.
_SHOWN, _RATE, _PIXELS = 12, 6, 6
#: How long the last grid stays, in grids.
_REST = 6


def image_uri(image: NDArray[np.uint8]) -> str:
    """An image ``[C, H, W]`` as a PNG; other than one or three channels are shown by their first."""
    return _uri(Image.fromarray(image.transpose(1, 2, 0) if image.shape[0] == 3 else image[0]), "PNG")


def grids_uri(grids: NDArray[np.bool_]) -> str:
    """Some of the grids ``[steps, H, W]`` side by side, the first and the last among them, as a PNG."""
    shown = grids[np.unique(np.linspace(0, len(grids) - 1, _SHOWN).round().astype(int))]
    apart = np.pad(_pixels(shown), ((0, 0), (0, 0), (0, _PIXELS)), constant_values=255)
    return _uri(Image.fromarray(np.concatenate(list(apart), 1)), "PNG")


def animation_uri(grids: NDArray[np.bool_]) -> str:
    """All grids as an animated GIF, which begins again."""
    images = [Image.fromarray(grid) for grid in _pixels(grids)]
    times = [1000 // _RATE] * (len(images) - 1) + [_REST * 1000 // _RATE]
    return _uri(images[0], "GIF", save_all=True, append_images=images[1:], duration=times, loop=0)


def _pixels(grids: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Grey images: cells that are set are dark."""
    return np.where(grids, np.uint8(32), np.uint8(235)).repeat(_PIXELS, 1).repeat(_PIXELS, 2)


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
