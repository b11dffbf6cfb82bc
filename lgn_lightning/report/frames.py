"""A cellular automaton as it runs: its grid before and after each step, as one picture and as an animation."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from lgn_lightning.nn.states import grids_of

#: Steps of a rule that is trained on single ones.
_STEPS = 24
#: Frames of the picture, frames a second of the animation, and pixels of a cell in either.
_SHOWN, _RATE, _PIXELS = 12, 6, 6
#: How long the last grid stays, in frames.
_REST = 6


def automaton_frames(net: nn.Module, samples: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """The first channel of the first sample's grids, bool ``[1 + steps, H, W]``; None of a net without an automaton."""
    grids = grids_of(net, torch.from_numpy(samples[:1]), _STEPS)
    return None if grids is None else np.asarray((grids[0, :, 0] > 0.5).cpu().numpy(), np.bool_)


def picture_uri(frames: NDArray[np.bool_]) -> str:
    """Some of the frames side by side, the first and the last among them, as a PNG data URI."""
    shown = frames[np.unique(np.linspace(0, len(frames) - 1, _SHOWN).round().astype(int))]
    apart = np.pad(_pixels(shown), ((0, 0), (0, 0), (0, _PIXELS)), constant_values=255)
    return _uri(Image.fromarray(np.concatenate(list(apart), 1)), "PNG")


def animation_uri(frames: NDArray[np.bool_]) -> str:
    """All frames as an animated GIF, which begins again, as a data URI."""
    images = [Image.fromarray(frame) for frame in _pixels(frames)]
    times = [1000 // _RATE] * (len(images) - 1) + [_REST * 1000 // _RATE]
    return _uri(images[0], "GIF", save_all=True, append_images=images[1:], duration=times, loop=0)


def _pixels(frames: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Grey images: cells that are set are dark."""
    return np.where(frames, np.uint8(32), np.uint8(235)).repeat(_PIXELS, 1).repeat(_PIXELS, 2)


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
