"""One image file, as image folders read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lgn_lightning.data import DataError, ImageFolder
from tests.data.conftest import values


def test_16_bit_images_keep_their_brightness(image_root: Path) -> None:
    for path in (image_root / "train").rglob("*.png"):
        Image.fromarray(np.full((6, 4), 128 * 257, np.uint16)).save(path)
    data = ImageFolder(str(image_root), batch_size=12, val_fraction=0, grayscale=True)
    assert {value for value, _ in values(data.train_dataloader())} == {128}


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image(image_root: Path, suffix: str) -> None:
    path = image_root / "train/bee" / f"9.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"9.{suffix} cannot be read as an image"):
        ImageFolder(str(image_root)).setup("fit")
