"""The grids of an automaton as a picture and as an animation."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image

from lgn_lightning.models import LogicCA, LogicMLP
from lgn_lightning.report.frames import animation_uri, automaton_frames, picture_uri


def test_frames_are_the_grids_of_each_step() -> None:
    torch.manual_seed(0)
    net = LogicCA((2, 5, 6), width=20, depth=1, votes=10, steps=3, visible=1).eval()
    samples = np.random.default_rng(0).integers(0, 256, (4, 2, 5, 6), dtype=np.uint8)
    frames = automaton_frames(net, samples)
    assert frames is not None
    assert frames.shape == (4, 5, 6)
    assert np.array_equal(frames[0], samples[0, 0] > 127)
    assert np.array_equal(frames[3].ravel(), net(torch.from_numpy(samples[:1]))[0].numpy() > 0)
    single = LogicCA((1, 5, 6), width=20, depth=1, votes=10).eval()
    assert len(automaton_frames(single, samples[:, :1])) == 25  # a rule of single steps goes on
    assert automaton_frames(LogicMLP((1, 5, 6), 2, width=60, depth=1).eval(), samples[:, :1]) is None


def test_they_become_a_picture_and_an_animation() -> None:
    frames = np.random.default_rng(0).integers(0, 2, (30, 5, 6)).astype(bool)
    picture, animation = (_opened(uri) for uri in (picture_uri(frames), animation_uri(frames)))
    assert picture.format == "PNG"
    assert picture.size == (12 * 7 * 6, 5 * 6)
    assert (animation.format, animation.size) == ("GIF", (6 * 6, 5 * 6))
    assert animation.n_frames == 30
    for number, frame in enumerate(frames):
        animation.seek(number)
        dark = np.asarray(animation.convert("L"))[3::6, 3::6] < 128
        assert np.array_equal(dark, frame)
    assert np.array_equal(np.asarray(picture)[3::6, 3:36:6] < 128, frames[0])


def _opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
