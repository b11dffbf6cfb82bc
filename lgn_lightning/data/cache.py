"""Keeps decoded images beside their files, so that only the first run decodes."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lgn_lightning.base.files import atomic_path

_log = logging.getLogger(__name__)
_FORMAT = 1  # to be raised when the decoder changes what it gives


def cached_images(
    folder: Path, name: str, paths: Sequence[Path], settings: object, decode: Callable[[], Tensor]
) -> Tensor:
    """Returns ``decode()``, uint8 ``[N, C, H, W]``, or what it returned for the same files and settings before.

    The key is a hash of the settings, by their ``repr``, and of each file's path, size and time of change. One result
    per name is kept in the folder, which is made; where it cannot be written the images are decoded in every run, which
    is logged.
    """
    key = hashlib.sha256(repr((_FORMAT, settings)).encode())
    for path in paths:
        status = path.stat()
        key.update(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    file = folder / f"{name}-{key.hexdigest()[:24]}.npy"
    with suppress(OSError, ValueError, EOFError):  # missing, or damaged: decode
        images = np.load(file, allow_pickle=False)
        if images.dtype == np.uint8 and images.ndim == 4 and len(images) == len(paths):
            return torch.from_numpy(images)
    result = decode()
    try:
        with atomic_path(file) as temporary:
            np.save(temporary, result.numpy())
        for older in folder.glob(f"{name}-*.npy"):
            if older != file:
                older.unlink(missing_ok=True)
    except OSError as error:
        _log.info("decoded images are not kept for the next run: %s", error)
    return result
