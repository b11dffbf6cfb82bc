"""Reads one image file; without torch, which a circuit that classifies images does not need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lgn_lightning.errors import DataError


def read_image(path: Path, grayscale: bool = False, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decodes one image file, upright if it says how it was held.

    Args:
        path: A file of any format that pillow reads; transparency is dropped, 16-bit levels are scaled to 8 bits.
        grayscale: Whether to give one channel and not three (RGB).
        size: (H, W) to resize to (bilinear, antialiased, aspect ratio not kept), or ``None`` for the image's own.

    Returns:
        uint8 ``[C, H, W]``.

    Raises:
        DataError: If the file cannot be read as an image.
    """
    # pillow and not torchvision.io: that one is twice as fast on small JPEGs, and deprecated
    try:
        with Image.open(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file) if "exif" in file.info else file
            if image.mode.startswith("I"):  # 16 bits a pixel; pillow's own conversion would clip to 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode == "F":
                raise ValueError("floating-point pixels have no fixed range")
            image = image.convert("L" if grayscale else "RGB")
            if size is not None and image.size != (size[1], size[0]):
                image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            pixels = np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path.absolute()} cannot be read as an image ({error}); delete it or replace it by a good copy"
        ) from error
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
