"""Decodes many image files into one tensor, large ones on a pool of threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from lgn_lightning.base.errors import DataError
from lgn_lightning.base.machine import usable_cores
from lgn_lightning.data.image_file import read_image

_CHUNK = 64  # files per task: enough to make the pool's own cost vanish


def decode_files(paths: Sequence[Path], size: tuple[int, int], grayscale: bool = False, resize: bool = False) -> Tensor:
    """Decodes one or more image files of (H, W) into one tensor, uint8 ``[N, 1 or 3, H, W]``, in their order.

    With ``resize`` those of another size are resized (bilinear, antialiased, aspect ratio not kept); without, they are
    a DataError that names the file, as is one that cannot be read.
    """
    images = torch.empty((len(paths), 1 if grayscale else 3, *size), dtype=torch.uint8)

    def decode_chunk(start: int) -> None:
        for index in range(start, min(start + _CHUNK, len(paths))):
            image = read_image(paths[index], grayscale, size if resize else None)
            if image.shape[1:] != size:
                raise DataError(
                    f"{paths[index].absolute()} is {image.shape[1]}×{image.shape[2]} pixels, "
                    f"not {size[0]}×{size[1]} like the first training image; set image_size to resize all of them"
                )
            images[index] = torch.from_numpy(image)

    # measured: below this size threads lose more to the interpreter lock than they gain
    small = read_image(paths[0], grayscale)[0].size < 96 * 96
    with ThreadPoolExecutor(1 if small else min(usable_cores(), 16)) as pool:
        tasks = [pool.submit(decode_chunk, start) for start in range(0, len(paths), _CHUNK)]
        try:
            for task in tasks:
                task.result()
        except BaseException:  # also Ctrl-C: don't decode the rest first
            pool.shutdown(cancel_futures=True)
            raise
    return images
