"""Arrays of what is given: tensors, and numpy's files with one error for all that a damaged one can raise."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.base.errors import DataError

#: Of a damaged file, header or member of a zip file, and of a zip file with a password or an unknown compression.
_UNREADABLE: Final = (
    *(OSError, ValueError, EOFError, MemoryError, RuntimeError),
    *(TokenError, zipfile.BadZipFile, zlib.error),
)


def to_array(x: ArrayLike) -> NDArray[Any]:
    """What is given as an array of numpy, a tensor of any device, too; bfloat16, which numpy lacks, as float32."""
    if not hasattr(x, "detach"):
        return np.asarray(x)
    tensor: Any = x.detach().cpu()
    return np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())


def load_arrays(path: Path, mmap_mode: Literal["r"] | None = None) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """The array of a ``.npy`` file, or those of an ``.npz`` file by their names: the content says which it is.

    Args:
        path: The file.
        mmap_mode: As of `numpy.load`, of one array alone.

    Raises:
        DataError: If it is neither, or damaged.
    """
    try:
        found = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            arrays = {name: found[name] for name in found.files}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{name} in it is no array")
    except _UNREADABLE as error:
        why = f"{error}" or type(error).__name__
        raise DataError(
            f"{path} cannot be read as arrays ({why}); write it anew, with numpy.save or numpy.savez"
        ) from error
    return arrays
