from __future__ import annotations

import numpy as np
import pytest

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.border import remove_border
from tests.data.conftest import digit_like


def crop_one(image: np.ndarray) -> np.ndarray:
    """The crop of the original experiments, restated for one image: 8 black lines go, per axis."""
    for axis in (0, 1):
        black = [not line.any() for line in np.moveaxis(image, axis, 0)]
        low = next((i for i, blank in enumerate(black[:14]) if not blank), 14)
        high = next((i for i, blank in enumerate(black[:13:-1]) if not blank), 14)
        while low + high >= 10:
            low, high = max(low - 1, 0), max(high - 1, 0)
        if low + high == 9:
            low, high = (low - 1, high) if low > 0 else (low, high - 1)
        image = np.moveaxis(np.moveaxis(image, axis, 0)[low : 28 - high], 0, axis)
    return image


def test_crop_equals_the_restatement() -> None:
    images = digit_like(2000, seed=7)
    images[0] = 0  # nothing but border
    for index, (row, column) in enumerate([(0, 0), (0, 27), (27, 0), (27, 27), (13, 14)], start=1):
        images[index] = 0
        images[index, row, column] = 255
    cropped = remove_border(images)
    assert cropped.shape == (2000, 20, 20)
    assert np.array_equal(cropped, np.stack([crop_one(image) for image in images]))
    assert np.array_equal(cropped.sum((1, 2), int), images.sum((1, 2), int))  # no ink is lost


def test_crop_of_an_image_without_border_is_an_error() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[1, 2:24, 5] = 1
    with pytest.raises(DataError, match=r"image 1 has only 6 black rows.*use size 28"):
        remove_border(images)
