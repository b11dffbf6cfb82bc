from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from lgn_lightning.data import MNIST


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LGN_DATA_ROOT", raising=False)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


_REAL_ROOT = os.environ.get("LGN_DATA_ROOT") or Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def real_root() -> Path:
    """Folder with real data: $LGN_DATA_ROOT, else ../shared/data beside the repository; only read."""
    root = Path(_REAL_ROOT)
    if not root.is_dir():
        pytest.skip(f"no real data: {root} is not a folder; set LGN_DATA_ROOT to one that holds MNIST/raw")
    return root


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digit_like(count: int, seed: int) -> np.ndarray:
    """Images 28×28 with ink in a box of at most 20×20 at a random place, like MNIST's."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    for image in images:
        height, width = rng.integers(1, 21, size=2)
        top, left = rng.integers(0, 29 - height), rng.integers(0, 29 - width)
        # 0 inside the box too: margins may be wider than the box says
        image[top : top + height, left : left + width] = rng.choice([0, 1, 128, 255], size=(height, width))
    return images


@pytest.fixture
def write_mnist(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small data set in MNIST's format and returns its root; label = image number modulo 10."""

    def write(name: str = "MNIST", packed: bool = False, train: int = 200, test: int = 50, root: str = "root") -> Path:
        raw = tmp_path / root / name / "raw"
        raw.mkdir(parents=True)
        for part, count, seed in (("train", train, 0), ("t10k", test, 1)):
            labels = (np.arange(count) % 10).astype(np.uint8)
            for file, array in (
                (f"{part}-images-idx3-ubyte", digit_like(count, seed)),
                (f"{part}-labels-idx1-ubyte", labels),
            ):
                content = idx_bytes(array)
                if packed:
                    (raw / f"{file}.gz").write_bytes(gzip.compress(content, mtime=0))
                else:
                    (raw / file).write_bytes(content)
        return tmp_path / root

    return write


@pytest.fixture
def tiny_images() -> tuple[torch.Tensor, torch.Tensor]:
    """23 images 1×2×2 whose pixels and label are their number."""
    numbers = torch.arange(23)
    return numbers.to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous(), numbers


def publish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes torchvision, and the data module, take the packed files in ``folder`` for the published ones."""
    raw = folder / "MNIST/raw"
    inside = {path.stem: hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest() for path in raw.glob("*.gz")}
    monkeypatch.setattr(MNIST, "_md5", MNIST._md5 | inside)
    resources = [
        (name, hashlib.md5((raw / name).read_bytes()).hexdigest() if (raw / name).exists() else "")
        for name, _ in torchvision.datasets.MNIST.resources
    ]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)


CLASSES = ("ant", "bee")  # of the image folders


def write_image(path: Path, value: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size[1], size[0]), value if mode in ("L", "P") else (value, value, value)).save(path)


@pytest.fixture
def image_root(tmp_path: Path) -> Path:
    """Per class 6 training and 2 test images 3×6×4 as PNG; the grey value is 10 · label + number."""
    for part, count in (("train", 6), ("test", 2)):
        for label, name in enumerate(CLASSES):
            for number in range(count):
                write_image(tmp_path / part / name / f"{number}.png", 10 * label + number)
    return tmp_path


def values(loader: object) -> list[tuple[int, int]]:
    return [
        (int(image.float().mean()), int(label))
        for images, labels in loader  # type: ignore[attr-defined]
        for image, label in zip(images, labels, strict=True)
    ]
