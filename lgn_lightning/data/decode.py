"""Decodes many image files into one tensor, on a pool of threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional

from lgn_lightning.data.errors import DataError

_CHUNK = 256  # files per task: enough to make the pool's own cost vanish


def decode_file(path: Path, grayscale: bool = False) -> Tensor:
    """Decodes one image file.

    Args:
        path: A JPEG, PNG, or any other format that pillow reads.
        grayscale: Whether to give one channel and not three (RGB).

    Returns:
        uint8 ``[C, H, W]``.

    Raises:
        DataError: If the file cannot be read as an image.
    """
    try:
        content = bytearray(path.read_bytes())
        if not content:
            raise ValueError("the file is empty")
        try:
            # unlike pillow's, this decoder runs outside Python's interpreter lock: threads make it faster
            mode = ImageReadMode.GRAY if grayscale else ImageReadMode.RGB
            image: Tensor = decode_image(
                torch.frombuffer(content, dtype=torch.uint8), mode, apply_exif_orientation=True
            )
            if image.dtype == torch.uint8:
                return image
            image = functional.to_dtype(image, torch.uint8, scale=True)
            return image
        except RuntimeError:  # another format, or damaged: pillow knows which
            with Image.open(path) as picture:
                pixels = np.array(picture.convert("L" if grayscale else "RGB"))
            return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path.absolute()} cannot be read as an image ({error}); delete it or replace it by a good copy"
        ) from error


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
            image = decode_file(paths[index], grayscale)
            if tuple(image.shape[1:]) != size:
                if not resize:
                    raise DataError(
                        f"{paths[index].absolute()} is {image.shape[1]}×{image.shape[2]} pixels, "
                        f"not {size[0]}×{size[1]} like the first training image; set image_size to resize all of them"
                    )
                image = functional.resize(image, list(size), antialias=True)
            images[index] = image

    with ThreadPoolExecutor(_num_threads()) as pool:
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
