from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lgn_lightning.data import MNIST, DataError, FashionMNIST
from lgn_lightning.data.border import remove_border
from tests.data.conftest import digit_like, publish
from tests.data.test_border import crop_one


@pytest.mark.parametrize("packed", [False, True])
def test_reads_plain_and_packed_files(
    write_mnist: Callable[..., Path], packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_mnist(packed=packed)
    publish(root, monkeypatch)
    data = MNIST(root=str(root), eval_batch_size=30, val_fraction=0.2, download=False)
    data.prepare_data()
    data.setup()
    images = torch.cat([images for images, _ in data.test_dataloader()])
    labels = torch.cat([labels for _, labels in data.test_dataloader()])
    assert np.array_equal(images[:, 0].numpy(), digit_like(50, seed=1))
    assert labels.tolist() == [number % 10 for number in range(50)]
    assert sum(len(labels) for _, labels in data.val_dataloader()) == 40


def test_size_20(write_mnist: Callable[..., Path]) -> None:
    root = write_mnist()
    data = MNIST(20, root=str(root))
    images = torch.cat([images for images, _ in data.test_dataloader()])
    assert tuple(images.shape[1:]) == data.image_shape == (1, 20, 20)
    assert np.array_equal(images[:, 0].numpy(), remove_border(digit_like(50, seed=1)))
    assert (data.preparation, MNIST().preparation) == ("remove_border", None)
    with pytest.raises(ValueError, match="size must be 28 or 20, got 24"):
        MNIST(24)  # type: ignore[arg-type]


def test_fashion_mnist_has_its_own_folder_and_names(write_mnist: Callable[..., Path]) -> None:
    data = FashionMNIST(root=str(write_mnist("FashionMNIST")), download=False)
    data.prepare_data()
    data.setup("test")
    assert data.num_classes == 10
    assert data.class_names[9] == "Ankle boot"


def test_missing_files_are_named(write_mnist: Callable[..., Path], tmp_path: Path) -> None:
    root = write_mnist()
    (root / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    data = MNIST(root=str(root), download=False)
    for step in (data.prepare_data, data.setup):
        with pytest.raises(DataError, match=rf"{root} \(missing: MNIST/raw/t10k-labels-idx1-ubyte\).*LGN_DATA_ROOT"):
            step()


def test_real_mnist(real_root: Path) -> None:
    data = MNIST(20, root=str(real_root), download=False)
    try:
        data.prepare_data()
    except DataError as error:
        pytest.skip(str(error))
    data.setup()
    train, test = data.train_dataloader(), data.test_samples()
    assert (len(train.labels), len(test.labels)) == (60000, 10000)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    packed = real_root / "MNIST/raw/t10k-images-idx3-ubyte.gz"
    if packed.is_file():
        whole = np.frombuffer(gzip.decompress(packed.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
        expected = np.stack([crop_one(image) for image in whole[:500]])
        assert np.array_equal(test.images[:500, 0].numpy(), expected)
        assert np.array_equal(test.images.sum((1, 2, 3)), whole.astype(np.int64).sum((1, 2)))


def test_fashion_mnist_as_debian_packs_it() -> None:
    """The package dataset-fashion-mnist: the published data in other gzip files."""
    raw = Path("/usr/share/datasets/fashion-mnist")
    if not raw.is_dir():
        pytest.skip(f"no {raw}: apt-get install dataset-fashion-mnist")
    for file, md5 in FashionMNIST._md5.items():
        assert hashlib.md5(gzip.decompress((raw / f"{file}.gz").read_bytes())).hexdigest() == md5
