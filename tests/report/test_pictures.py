"""Images, and the grids of an automaton as a picture and as an animation."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from lgn_lightning.report.pictures import animation_uri, grids_uri, image_uri


def test_images_become_png() -> None:
    for channels, shown in ((1, (5, 4)), (3, (5, 4, 3)), (2, (5, 4))):
        image = np.random.default_rng(0).integers(0, 256, (channels, 5, 4)).astype(np.uint8)
        pixels = np.asarray(_opened(image_uri(image)))
        assert pixels.shape == shown
        assert np.array_equal(pixels, image.transpose(1, 2, 0) if channels == 3 else image[0])


def test_grids_become_a_picture_and_an_animation() -> None:
    grids = np.random.default_rng(0).integers(0, 2, (30, 5, 6)).astype(bool)
    picture, animation = (_opened(uri) for uri in (grids_uri(grids), animation_uri(grids)))
    assert picture.format == "PNG"
    assert picture.size == (12 * 7 * 6, 5 * 6)
    assert (animation.format, animation.size) == ("GIF", (6 * 6, 5 * 6))
    assert animation.n_frames == 30
    for number, grid in enumerate(grids):
        animation.seek(number)
        dark = np.asarray(animation.convert("L"))[3::6, 3::6] < 128
        assert np.array_equal(dark, grid)
    assert np.array_equal(np.asarray(picture)[3::6, 3:36:6] < 128, grids[0])


def _opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
