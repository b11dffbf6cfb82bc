"""Reads IDX files, the format of MNIST: a magic number, the sizes, then the bytes."""

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lgn_lightning.data.download import corrupt_file

_UNSIGNED_BYTE = 0x08  # the type code in the third byte of the magic number


def read_idx(name: str, path: Path, dimensions: int, md5: str | None = None) -> Tensor:
    """Reads an IDX file of unsigned bytes, plain or packed with gzip, as a uint8 tensor of the sizes in the header.

    Own code and not torchvision's reader: that one checks neither sizes nor checksums of files that are already there,
    and needs the packed files unpacked beside themselves, which a read-only data folder forbids. The number of
    dimensions and the MD5 of what a packed file holds must be those given; what is not, is a DataError of the data set
    ``name``.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise corrupt_file(name, path, f"cannot be read ({error.strerror})") from error
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise corrupt_file(name, path, f"cannot be unpacked ({error})") from error
        if md5 is not None and (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
            raise corrupt_file(name, path, f"the MD5 of what it holds is {found}, that of the published data {md5}")
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise corrupt_file(name, path, f"it does not begin as an IDX file of bytes with {dimensions} dimension(s)")
    sizes = struct.unpack(f">{dimensions}I", content[4:header])
    expected = header + int(np.prod(sizes, dtype=np.int64))
    if len(content) != expected:
        raise corrupt_file(name, path, f"{len(content):,} bytes, {expected:,} expected for sizes {sizes}")
    # copied: the bytes object is not writable
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=header).reshape(sizes).copy())
