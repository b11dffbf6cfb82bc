from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from lgn_lightning.data import CIFAR10, DataError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five batches of 20 images and one of 10 in CIFAR-10's format, with their MD5 sums taken for the published."""
    source = torchvision.datasets.CIFAR10
    folder = tmp_path / "root" / source.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(number: int, count: int) -> dict[str, object]:
        data = np.random.default_rng(number).integers(0, 256, (count, 3072), dtype=np.uint8)
        return {"data": data, "labels": [index % 10 for index in range(count)]}

    monkeypatch.setattr(
        source, "train_list", [[f"data_batch_{n}", write(f"data_batch_{n}", batch(n, 20))] for n in range(1, 6)]
    )
    monkeypatch.setattr(source, "test_list", [["test_batch", write("test_batch", batch(6, 10))]])
    meta = {**source.meta, "md5": write("batches.meta", {"label_names": CIFAR10().class_names})}
    monkeypatch.setattr(source, "meta", meta)
    return folder.parent


def test_images_come_as_channels_first(root: Path) -> None:
    data = CIFAR10(root=str(root), eval_batch_size=4, val_fraction=0, download=False)
    data.prepare_data()
    data.setup()
    images = torch.cat([images for images, _ in data.test_dataloader()])
    expected = np.random.default_rng(6).integers(0, 256, (10, 3072), dtype=np.uint8).reshape(10, 3, 32, 32)
    assert np.array_equal(images.numpy(), expected)
    images, labels = data.train_dataloader().images, data.train_dataloader().labels
    assert images.shape == (100, *data.image_shape)
    assert labels.tolist() == [index % 10 for index in range(20)] * 5


def test_class_names_are_those_of_the_files(root: Path) -> None:
    assert CIFAR10().class_names == torchvision.datasets.CIFAR10(root).classes


def test_missing_and_damaged_files(root: Path) -> None:
    path = root / "cifar-10-batches-py/data_batch_3"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{path} is corrupt: its MD5 is not .* Delete it"):
        CIFAR10(root=str(root)).setup("fit")
    path.unlink()
    with pytest.raises(DataError, match=rf"not found in {root} \(missing: .*data_batch_3\)"):
        CIFAR10(root=str(root), download=False).prepare_data()


def test_failed_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", (tmp_path / "nowhere.tar.gz").as_uri())
    with pytest.raises(DataError, match="could not download"):
        CIFAR10(root=str(tmp_path / "root")).prepare_data()
    assert not (tmp_path / "root").exists()
