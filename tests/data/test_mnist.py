from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
import torchvision

from lgn_lightning.data import MNIST, DataError, FashionMNIST
from lgn_lightning.data.border import remove_border
from tests.data.conftest import digit_like, idx_bytes
from tests.data.test_border import crop_one

TRAIN_IMAGES = "MNIST/raw/train-images-idx3-ubyte"


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
    with pytest.raises(DataError, match=r"ubyte.gz is corrupt: its MD5 is .*, the published one [0-9a-f]{32}\. Delete"):
        MNIST(root=str(root)).setup("fit")
    path = root / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-50])
    publish(root, monkeypatch)
    with pytest.raises(DataError, match=r"cannot be unpacked"):
        MNIST(root=str(root)).setup("fit")


def publish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes torchvision take the packed files in ``folder`` for the published ones."""
    raw = folder / "MNIST/raw"
    resources = [
        (name, hashlib.md5((raw / name).read_bytes()).hexdigest() if (raw / name).exists() else "")
        for name, _ in torchvision.datasets.MNIST.resources
    ]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)


@pytest.fixture
def mirror(write_mnist: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packed files, served on this machine as the only mirror of MNIST."""
    root = write_mnist(packed=True, root="mirror")
    publish(root, monkeypatch)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root / "MNIST/raw"))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        yield root
        server.shutdown()


def test_download_in_prepare_data(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mirror.parent / "new" / "root"
    data = MNIST(root=str(root))
    with pytest.raises(DataError, match="not found"):
        data.setup("fit")  # never downloads
    data.prepare_data()
    data.setup()
    names = [name.removesuffix(".gz") for name, _ in torchvision.datasets.MNIST.resources]
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == sorted(
        f"MNIST/raw/{name}" for name in names
    )
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["file:///nowhere/"])
    data.prepare_data()  # finds the files


@pytest.mark.parametrize("fault", ["a file is not there", "a file is cut short"])
def test_failed_download_leaves_nothing(mirror: Path, fault: str) -> None:
    last = mirror / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    if fault == "a file is not there":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:20])
    root = mirror.parent / "new" / "root"
    with pytest.raises(DataError, match=rf"could not download to {root} .*LGN_DATA_ROOT") as caught:
        MNIST(root=str(root)).prepare_data()
    assert len(str(caught.value).splitlines()) == 1
    assert not root.parent.exists()


def test_download_to_a_place_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"could not download to .*file/root .*writable"):
        MNIST(root=str(tmp_path / "file" / "root")).prepare_data()


def test_real_mnist(real_root: Path) -> None:
    data = MNIST(20, root=str(real_root), download=False)
    try:
        data.prepare_data()
    except DataError as error:
        pytest.skip(str(error))
    data.setup()
    train, test = data._loaded("train").data, data.test_images()
    assert (len(train.labels), len(test.labels)) == (60000, 10000)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    packed = real_root / "MNIST/raw/t10k-images-idx3-ubyte.gz"
    if packed.is_file():
        whole = np.frombuffer(gzip.decompress(packed.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
        expected = np.stack([crop_one(image) for image in whole[:500]])
        assert np.array_equal(test.images[:500, 0].numpy(), expected)
        assert np.array_equal(test.images.sum((1, 2, 3)), whole.astype(np.int64).sum((1, 2)))
