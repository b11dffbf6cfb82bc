"""The 1,797 real 8×8 digit scans that scikit-learn ships: no download, the data set of the first steps."""

from typing import Any

import torch
from torch import Tensor

from lgn_lightning.data.images import ImageDataModule, ImageSet
from lgn_lightning.data.known import IMAGE_SHAPES
from lgn_lightning.data.splits import split_rows


class Digits(ImageDataModule):
    """Optical digits 8×8 (UCI), as shipped with scikit-learn: 1,797 images, 10 classes.

    The 17 grey levels 0 … 16 are spread over 0 … 255. There are no test files, so the test split is a share of all
    images, and ``val_fraction`` a share of the others. Both splits are stratified and depend on ``split_seed``.
    ``root`` and ``download`` are not used.

    Args:
        *args: Arguments of :class:`ImageDataModule`.
        test_fraction: Share of all images to test on.
        **kwargs: More of them.
    """

    def __init__(self, *args: Any, test_fraction: float = 0.2, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 0.01 <= test_fraction <= 0.9:  # at least one image of every class on both sides
            raise ValueError(f"test_fraction must be in [0.01, 0.9], got {test_fraction}")
        if self.val_fraction and not 0.01 <= self.val_fraction <= 0.9:
            raise ValueError(f"val_fraction must be 0 or in [0.01, 0.9], got {self.val_fraction}")
        self.test_fraction = test_fraction

    @property
    def class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return IMAGE_SHAPES["Digits"]

    def _load_train(self) -> ImageSet:
        return self._load(0)

    def _load_test(self) -> ImageSet:
        return self._load(1)

    def _load(self, part: int) -> ImageSet:
        from sklearn.datasets import load_digits  # takes a second to import

        digits = load_digits()
        images = (torch.from_numpy(digits.images) * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(digits.target).to(torch.int64)
        indices = self._stratified(labels, self.test_fraction)[part]
        return ImageSet(images[indices], labels[indices])

    def _split_train(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.val_fraction == 0:
            return super()._split_train(labels)
        return self._stratified(labels, self.val_fraction)

    def _stratified(self, labels: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
        first, second = split_rows(len(labels), fraction, self.split_seed, labels.numpy())
        return torch.from_numpy(first), torch.from_numpy(second)
