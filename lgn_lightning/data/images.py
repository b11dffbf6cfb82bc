"""What the data modules of images share: arguments, shape, checks, histogram."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.augment import Augmentation, Compose
from lgn_lightning.data.base import SampleDataModule, Samples


class ImageSet(NamedTuple):
    """Images and labels in memory.

    Attributes:
        images: uint8 ``[N, C, H, W]``.
        labels: classes int64 ``[N]``, or labels float32 ``[N, labels]``.
    """

    images: Tensor
    labels: Tensor


class ImageDataModule(SampleDataModule):
    """Base of the image data modules: everything in memory, batches of uint8 ``[B, C, H, W]`` and of their labels.

    The validation split is a seeded random share of the training images; the test split comes from the test files
    only. The shuffle order is a function of the seed and the epoch, equal on all ranks; the seed is saved in
    checkpoints, so a resumed run sees the order that the interrupted one would have seen, also from within an epoch.

    A subclass names its classes and image shape and says how its training and test images are loaded.

    Args:
        root: Folder of the data sets; ``None`` means the environment variable ``LGN_DATA_ROOT``, else ``data``.
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
        folds: Parts of the training images for a cross-validation; 0 for none.
        fold: The part, from 0 on, that is the test split; the others train and validate.

    Raises:
        ValueError: If an argument is out of range.
    """

    #: Places and downloads are the user's to name, and nothing measured is augmented.
    not_from_files: ClassVar[dict[str, Any]] = {"root": None, "download": False, "augment": None}
    noun: ClassVar = "images"

    def __init__(
        self,
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
        folds: int = 0,
        fold: int = 0,
    ) -> None:
        sizes = root, batch_size, eval_batch_size, val_fraction, split_seed, drop_last
        super().__init__(*sizes, shuffle_seed, resident, folds, fold)
        self.download = download
        self.augment = Compose(augment) if isinstance(augment, list) else augment

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an image."""

    @property
    def preparation(self) -> str | None:
        """What makes the data set's images of files, a name of `lgn_lightning.data.image_file.prepare_image`.

        Checkpoints and circuits keep it, for ``lgn predict``; ``None`` where files are taken as they are.
        """
        return None

    def training_images(self) -> Tensor:
        """The images that train, as they are stored and in that order: uint8 ``[N, C, H, W]``."""
        return self.training_samples()[0]

    def pixel_histogram(self) -> Tensor:
        """Pixels of each brightness in the images that train, as they are stored: int64 ``[channels, 256]``."""
        used = self.training_images()
        return torch.stack([used[:, c].flatten().bincount(minlength=256) for c in range(used.shape[1])])

    def _check_samples(self, data: Samples) -> Samples:
        images, labels = data
        name = type(self).__name__
        kinds = [(part.dtype, part.ndim) if isinstance(part, Tensor) else type(part) for part in data]
        if kinds != [(torch.uint8, 4), (torch.int64, 1)]:
            given = [f"{p.dtype} {list(p.shape)}" if isinstance(p, Tensor) else type(p).__name__ for p in data]
            raise DataError(
                f"{name}: its images are {given[0]} and its labels {given[1]}; they must be tensors, torch.uint8 "
                "[N, C, H, W] with pixels from 0 to 255 and torch.int64 [N] with the number of the class: convert them "
                "where they are loaded, such as (intensities * 255).round().to(torch.uint8) and labels.long()"
            )
        if len(images) != len(labels) or tuple(images.shape[1:]) != self.image_shape:
            raise DataError(
                f"{name}: {len(images)} images of shape {tuple(images.shape[1:])} and {len(labels)} labels in "
                f"{self.root.absolute()}, expected as many labels as images of shape {self.image_shape}; replace the "
                "files by those of the data set"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise DataError(
                f"{name}: labels {int(labels.min())} … {int(labels.max())} in {self.root.absolute()}, expected "
                f"0 … {self.num_classes - 1}; replace the label file by the one of the data set"
            )
        if len(labels) < self.num_classes:
            raise DataError(
                f"{name}: only {len(labels)} images for {self.num_classes} classes in {self.root.absolute()}; "
                "every class needs images"
            )
        return ImageSet(*super()._check_samples(data))
