"""IDX files, as MNIST reads them: what is damaged is one clear error."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lgn_lightning.data import MNIST, DataError
from tests.data.conftest import idx_bytes, publish

TRAIN_IMAGES = "MNIST/raw/train-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        (TRAIN_IMAGES, lambda content: content[:-100], "156,716 bytes, 156,816 expected"),
        (TRAIN_IMAGES, lambda content: content + b"x", "156,817 bytes, 156,816 expected"),
        (TRAIN_IMAGES, lambda content: b"", "does not begin as an IDX file of bytes with 3"),
        (TRAIN_IMAGES, lambda content: b"<html>" + content, "does not begin as an IDX file"),
        (TRAIN_IMAGES, lambda _: idx_bytes(np.zeros((200, 32, 32), np.uint8)), r"images of \(32, 32\) pixels"),
        ("MNIST/raw/train-labels-idx1-ubyte", lambda _: idx_bytes(np.full(200, 10, np.uint8)), "labels 10 … 10"),
        ("MNIST/raw/train-labels-idx1-ubyte", lambda _: idx_bytes(np.zeros(199, np.uint8)), "200 images .*199 labels"),
    ],
)
def test_damaged_files(
    write_mnist: Callable[..., Path], file: str, damage: Callable[[bytes], bytes], reason: str
) -> None:
    root = write_mnist()
    (root / file).write_bytes(damage((root / file).read_bytes()))
    with pytest.raises(DataError, match=reason) as caught:
        MNIST(root=str(root)).setup("fit")
    assert str(root) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_packed_file_with_another_checksum(write_mnist: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_mnist(packed=True)
    with pytest.raises(DataError, match=r"ubyte.gz is corrupt: the MD5 of what it holds is .* [0-9a-f]{32}\. Delete"):
        MNIST(root=str(root)).setup("fit")
    publish(root, monkeypatch)
    path = root / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))  # as a distribution may pack it
    assert len(MNIST(root=str(root)).train_dataloader().images) == 200
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"cannot be unpacked"):
        MNIST(root=str(root)).setup("fit")
