"""Reads one image file, and prepares it as a data module does.

Without torch, which a circuit that classifies images does not need.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.border import remove_border

#: Formats whose 16 bits a pixel pillow widens to 32; in others these are the file's own and may mean anything.
_WIDENED = ("PNG", "PPM")


def read_image(path: Path, grayscale: bool = False, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decodes one image file, upright if it says how it was held, to uint8 ``[C, H, W]``.

    Args:
        path: A file of any format that pillow reads; transparency is dropped, 16-bit levels are scaled to 8 bits. A
            DataError if it is no image.
        grayscale: Whether to give one channel and not three (RGB).
        size: (H, W) to resize to (bilinear, antialiased, aspect ratio not kept), or ``None`` for the image's own.
    """
    # pillow and not torchvision.io: that one is twice as fast on small JPEGs, and deprecated
    try:
        with Image.open(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file) if "exif" in file.info else file
            if image.mode == "F" or (image.mode == "I" and file.format not in _WIDENED):
                raise ValueError(f"{'floating-point' if image.mode == 'F' else '32-bit'} pixels have no fixed range")
            if image.mode.startswith("I"):  # 16 bits a pixel; pillow's own conversion would clip to 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image = image.convert("L" if grayscale else "RGB")
            if size is not None and image.size != (size[1], size[0]):
                image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            pixels = np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path.absolute()} cannot be read as an image ({error}); replace it by a good copy") from error
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file in a folder, or a folder on the way to it, is hidden: what editors and systems leave there."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def prepare_image(path: Path, shape: tuple[int, int, int], preparation: str | None = None) -> NDArray[np.uint8]:
    """Decodes one image file into what a net was trained on, uint8 ``[C, H, W]``.

    Args:
        path: As in `read_image`.
        shape: (C, H, W) of the net's images; one channel is grey, three are RGB.
        preparation: What the training's data module did with images of other sizes: ``"resize"`` (`ImageFolder` with
            ``image_size``), ``"remove_border"`` (`MNIST` at 20×20), or None for nothing.

    Raises:
        DataError: If the file cannot be read as an image, has another size, or the preparation is not known.
    """
    channels, height, width = shape
    if preparation not in (None, "resize", "remove_border"):
        raise DataError(
            f"this net was trained on images prepared by {preparation!r}, which this release does not know: update it, "
            "or give the images as a .npy array"
        )
    image = read_image(path, channels == 1, (height, width) if preparation == "resize" else None)
    if preparation == "remove_border" and image.shape != shape:
        try:
            image = remove_border(image)
        except DataError as error:
            raise DataError(f"{path.absolute()}: {error}") from error
    if image.shape != shape:
        raise DataError(
            f"{path.absolute()} is {image.shape[1]}×{image.shape[2]} pixels, but the net was trained on "
            f"{height}×{width}: bring it to that size as the training images were, or give --resize"
        )
    return image
