"""One image file, as image folders read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lgn_lightning.data import DataError, ImageFolder
from lgn_lightning.data.image_file import read_image
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


@pytest.mark.parametrize("suffix", ["tiff", "png", "pgm"])
def test_16_bits_of_every_format(tmp_path: Path, suffix: str) -> None:
    levels = np.array([[0, 255, 256, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"x.{suffix}")
    assert read_image(tmp_path / f"x.{suffix}", grayscale=True).tolist() == [[[0, 0, 1, 255]]]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_fixed_range(tmp_path: Path, dtype: type) -> None:
    """Also where all are below 256: an 8-bit picture that a tool saved with 32 bits would be black."""
    Image.fromarray(np.array([[0, 128, 255]], dtype)).save(tmp_path / "x.tiff")
    with pytest.raises(DataError, match=r"x\.tiff cannot be read as an image .*no fixed range"):
        read_image(tmp_path / "x.tiff", grayscale=True)


def test_signed_16_bits(tmp_path: Path) -> None:
    """TIFF alone has them; pillow reads, but does not write them."""
    Image.fromarray(np.array([[0, 128, 65535]], np.uint16)).save(tmp_path / "x.tiff", tiffinfo={339: 2})
    with pytest.raises(DataError, match=r"no fixed range"):
        read_image(tmp_path / "x.tiff", grayscale=True)
