"""The 1,797 real 8×8 digit scans that scikit-learn ships: no download, the data set of the first steps."""

from __future__ import annotations

import torch
from torch import Tensor

from lgn_lightning.data.augment import Augmentation
from lgn_lightning.data.base import ImageDataModule, ImageSet


class Digits(ImageDataModule):
    """Optical digits 8×8 (UCI), as shipped with scikit-learn: 1,797 images, 10 classes.

    The 17 grey levels 0 … 16 are spread over 0 … 255. There are no test files, so the test split is a seeded share of
    the images; both splits are stratified.

    Args:
        root: Not used; the images come with scikit-learn.
        batch_size: Training images per batch and process.
        eval_batch_size: Images per batch and process in validation, test and prediction.
        val_fraction: Share of the images outside the test split to validate on, 0 for no validation.
        test_fraction: Share of all images to test on.
        split_seed: Seed of both splits.
        drop_last: Whether training leaves out an incomplete last batch.
        download: Not used.
        shuffle_seed: Seed of training order and augmentation; ``None`` means the one of ``seed_everything``, else 0.
        resident: Whether the images stay in the memory of the trainer's device, where batches are then gathered: no
            copy to the GPU at any step.
        augment: Augmentation of the training images; a list is applied in turn.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 1000,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
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
        if not 0.01 <= test_fraction <= 0.9:  # at least one image of every class on both sides
            raise ValueError(f"test_fraction must be in [0.01, 0.9], got {test_fraction}")
        if val_fraction and not 0.01 <= val_fraction <= 0.9:
            raise ValueError(f"val_fraction must be 0 or in [0.01, 0.9], got {val_fraction}")
        self.test_fraction = test_fraction

    @property
    def class_names(self) -> list[str]:
        """The digits."""
        return [str(digit) for digit in range(10)]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(1, 8, 8)."""
        return 1, 8, 8

    def _load_train(self) -> ImageSet:
        data = self._load_all()
        rest, _ = self._stratified(data.labels, self.test_fraction)
        return ImageSet(data.images[rest], data.labels[rest])

    def _load_test(self) -> ImageSet:
        data = self._load_all()
        _, test = self._stratified(data.labels, self.test_fraction)
        return ImageSet(data.images[test], data.labels[test])

    def _split(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.val_fraction == 0:
            return super()._split(labels)
        return self._stratified(labels, self.val_fraction)

    def _stratified(self, labels: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
        from sklearn.model_selection import train_test_split  # takes a second to import

        first, second = train_test_split(
            torch.arange(len(labels)).numpy(),
            test_size=fraction,
            stratify=labels.numpy(),
            random_state=self.split_seed,
        )
        return torch.from_numpy(first).sort().values, torch.from_numpy(second).sort().values

    @staticmethod
    def _load_all() -> ImageSet:
        from sklearn.datasets import load_digits

        digits = load_digits()
        levels = torch.from_numpy(digits.images)
        images = (levels * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        return ImageSet(images, torch.from_numpy(digits.target).to(torch.int64))
