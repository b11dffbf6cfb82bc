"""MNIST, at 28×28 or cropped to 20×20, and Fashion-MNIST."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torchvision
from torch import Tensor

from lgn_lightning.data.border import BORDER, remove_border
from lgn_lightning.data.download import corrupt_file
from lgn_lightning.data.idx import read_idx
from lgn_lightning.data.images import ImageSet
from lgn_lightning.data.known import IMAGE_SHAPES
from lgn_lightning.data.torchvision_data import TorchvisionDataModule


class _IdxDataModule(TorchvisionDataModule):
    """Data sets in four IDX files under ``<root>/<name>/raw``, plain or packed with gzip."""

    #: MD5 of each file, unpacked: a distribution may have packed the same data anew.
    _md5: ClassVar[dict[str, str]]

    @property
    def _folder(self) -> str:
        return f"{self._dataset.__name__}/raw"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return IMAGE_SHAPES["MNIST"]

    def _load(self, train: bool) -> ImageSet:
        part = "train" if train else "t10k"
        images = self._read(f"{part}-images-idx3-ubyte", dimensions=3)
        labels = self._read(f"{part}-labels-idx1-ubyte", dimensions=1)
        if images.shape[1:] != (28, 28):
            reason = f"images of {tuple(images.shape[1:])} pixels, not (28, 28)"
            raise corrupt_file(type(self).__name__, self._paths(f"{part}-images-idx3-ubyte")[0], reason)
        return ImageSet(self._transform(images).unsqueeze(1), labels.to(torch.int64))

    def _transform(self, images: Tensor) -> Tensor:
        """Maps all images of a split, uint8 ``[N, 28, 28]``."""
        return images

    def _read(self, file: str, dimensions: int) -> Tensor:
        return read_idx(type(self).__name__, self._paths(file)[0], dimensions, self._md5[file])

    def _paths(self, file: str) -> list[Path]:
        """Where a file is there, plain before packed."""
        candidates = (self.root / self._folder / file, self.root / self._folder / f"{file}.gz")
        return [path for path in candidates if path.is_file()]

    def _missing(self) -> list[str]:
        names = [packed.removesuffix(".gz") for packed, _ in self._dataset.resources]
        return [f"{self._folder}/{name}" for name in names if not self._paths(name)]


class MNIST(_IdxDataModule):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, in ``<root>/MNIST/raw``.

    Args:
        size: 28, or 20 for the images without 8 of their black border rows and columns, as in the original paper.
        *args: Arguments of :class:`ImageDataModule`.
        **kwargs: More of them.
    """

    _md5: ClassVar = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }

    def __init__(self, size: Literal[28, 20] = 28, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if size not in (28, 20):
            raise ValueError(f"size must be 28 or 20, got {size}")
        self.size: int = size

    @property
    def class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, self.size, self.size

    @property
    def preparation(self) -> str | None:
        """``"remove_border"`` of images 20×20."""
        return "remove_border" if self.size == 28 - BORDER else None

    @property
    def _dataset(self) -> Any:
        return torchvision.datasets.MNIST

    def _transform(self, images: Tensor) -> Tensor:
        return torch.from_numpy(remove_border(images.numpy())) if self.size == 28 - BORDER else images


class FashionMNIST(_IdxDataModule):
    """Fashion-MNIST: 60,000 training and 10,000 test images 28×28 of clothes, in ``<root>/FashionMNIST/raw``."""

    _md5: ClassVar = {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }

    @property
    def class_names(self) -> list[str]:
        return list(torchvision.datasets.FashionMNIST.classes)

    @property
    def _dataset(self) -> Any:
        return torchvision.datasets.FashionMNIST
