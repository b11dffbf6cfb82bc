"""MNIST, at 28×28 or cropped to 20×20, and Fashion-MNIST."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor

from lgn_lightning.data.augment import Augmentation
from lgn_lightning.data.base import ImageDataModule, ImageSet
from lgn_lightning.data.border import BORDER, remove_border
from lgn_lightning.data.download import corrupt_file, download_files, missing_data
from lgn_lightning.data.idx import read_idx


class _IdxDataModule(ImageDataModule):
    """Data sets in four IDX files under ``<root>/<name>/raw``, plain or packed, where torchvision puts them."""

    @property
    @abstractmethod
    def _dataset(self) -> Any:
        """The torchvision class: addresses, checksums, class names."""

    @property
    def _folder(self) -> str:
        return f"{self._dataset.__name__}/raw"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(1, 28, 28)."""
        return 1, 28, 28

    def prepare_data(self) -> None:
        """Downloads the data set if it is missing and ``download`` is set.

        Raises:
            DataError: If it is missing and may not or cannot be downloaded.
        """
        files = self._missing()
        if not files:
            return
        if not self.download:
            raise missing_data(type(self).__name__, self.root, files)
        download_files(type(self).__name__, self.root, self._missing, lambda to: self._dataset(to, download=True))

    def _load_train(self) -> ImageSet:
        return self._load("train")

    def _load_test(self) -> ImageSet:
        return self._load("t10k")

    def _load(self, part: str) -> ImageSet:
        if files := self._missing():
            raise missing_data(type(self).__name__, self.root, files)
        images = self._read(f"{part}-images-idx3-ubyte", dimensions=3)
        labels = self._read(f"{part}-labels-idx1-ubyte", dimensions=1)
        if images.shape[1:] != (28, 28):
            path = self._find(f"{part}-images-idx3-ubyte")
            assert path is not None
            raise corrupt_file(type(self).__name__, path, f"images of {tuple(images.shape[1:])} pixels, not (28, 28)")
        return ImageSet(self._transform(images).unsqueeze(1), labels.to(torch.int64))

    def _transform(self, images: Tensor) -> Tensor:
        """Maps all images of a split, uint8 ``[N, 28, 28]``."""
        return images

    def _read(self, file: str, dimensions: int) -> Tensor:
        path = self._find(file)
        assert path is not None  # _missing was asked before
        return read_idx(type(self).__name__, path, dimensions, dict(self._dataset.resources).get(f"{file}.gz"))

    def _find(self, file: str) -> Path | None:
        candidates = (self.root / self._folder / file, self.root / self._folder / f"{file}.gz")
        return next((path for path in candidates if path.is_file()), None)

    def _missing(self) -> list[str]:
        names = [packed.removesuffix(".gz") for packed, _ in self._dataset.resources]
        return [f"{self._folder}/{name}" for name in names if self._find(name) is None]


class MNIST(_IdxDataModule):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits.

    Args:
        size: 28, or 20 for the images without 8 of their black border rows and columns, as in the original paper.
        root: Data folder with ``MNIST/raw/``; ``None`` means the environment variable ``LGN_DATA_ROOT``, else ``data``.
        batch_size: Training images per batch and process.
        eval_batch_size: Images per batch and process in validation, test and prediction.
        val_fraction: Share of the training images to validate on, 0 for no validation.
        split_seed: Seed of the train/validation split.
        drop_last: Whether training leaves out an incomplete last batch.
        download: Whether :meth:`prepare_data` may download a missing data set.
        shuffle_seed: Seed of training order and augmentation; ``None`` means the one of ``seed_everything``, else 0.
        resident: Whether the images stay in the memory of the trainer's device, where batches are then gathered: no
            copy to the GPU at any step.
        augment: Augmentation of the training images; a list is applied in turn.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        size: Literal[28, 20] = 28,
        root: str | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 1000,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        drop_last: bool = True,
        download: bool = True,
        shuffle_seed: int | None = None,
        resident: bool = False,
        augment: Augmentation | list[Augmentation] | None = None,
    ) -> None:
        super().__init__(
            root,
            batch_size,
            eval_batch_size,
            val_fraction,
            split_seed,
            drop_last,
            download,
            shuffle_seed,
            resident,
            augment,
        )
        if size not in (28, 20):
            raise ValueError(f"size must be 28 or 20, got {size}")
        self.size: int = size

    @property
    def class_names(self) -> list[str]:
        """The digits."""
        return [str(digit) for digit in range(10)]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(1, size, size)."""
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
    """Fashion-MNIST: 60,000 training and 10,000 test images 28×28 of clothes, in ``<root>/FashionMNIST/raw``.

    Takes the arguments of :class:`ImageDataModule`.
    """

    @property
    def class_names(self) -> list[str]:
        """Names of the ten kinds of clothes."""
        return list(torchvision.datasets.FashionMNIST.classes)

    @property
    def _dataset(self) -> Any:
        return torchvision.datasets.FashionMNIST
