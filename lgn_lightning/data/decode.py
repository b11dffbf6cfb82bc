"""Decodes many image files into one tensor, large ones on a pool of threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from lgn_lightning.data.errors import DataError

_CHUNK = 64  # files per task: enough to make the pool's own cost vanish


def decode_file(path: Path, grayscale: bool = False, size: tuple[int, int] | None = None) -> Tensor:
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
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


def decode_files(paths: Sequence[Path], size: tuple[int, int], grayscale: bool = False, resize: bool = False) -> Tensor:
    """Decodes files into one tensor, in their order.

    Args:
        paths: One or more image files.
        size: (H, W) of the result.
        grayscale: Whether to give one channel and not three (RGB).
        resize: Whether to resize images of another size (bilinear, antialiased, aspect ratio not kept).

    Returns:
        uint8 ``[N, C, H, W]``.

    Raises:
        DataError: If a file cannot be read, or has another size and ``resize`` is off; the message names the file.
    """
    images = torch.empty((len(paths), 1 if grayscale else 3, *size), dtype=torch.uint8)

    def decode_chunk(start: int) -> None:
        for index in range(start, min(start + _CHUNK, len(paths))):
            image = decode_file(paths[index], grayscale, size if resize else None)
            if tuple(image.shape[1:]) != size:
                raise DataError(
                    f"{paths[index].absolute()} is {image.shape[1]}×{image.shape[2]} pixels, "
                    f"not {size[0]}×{size[1]} like the first training image; set image_size to resize all of them"
                )
            images[index] = image

    # measured: below this size threads lose more to the interpreter lock than they gain
    small = decode_file(paths[0], grayscale)[0].numel() < 96 * 96
    with ThreadPoolExecutor(1 if small else _num_threads()) as pool:
        tasks = [pool.submit(decode_chunk, start) for start in range(0, len(paths), _CHUNK)]
        try:
            for task in tasks:
                task.result()
        except BaseException:  # also Ctrl-C: don't decode the rest first
            pool.shutdown(cancel_futures=True)
            raise
    return images


def _num_threads() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only; respects the limits of a container or taskset
    return min(len(affinity(0)) if affinity else os.cpu_count() or 1, 16)
