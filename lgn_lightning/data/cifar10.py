"""CIFAR-10."""

from typing import Any

import torch
import torchvision
from torchvision.datasets.utils import check_integrity

from lgn_lightning.data.download import corrupt_file
from lgn_lightning.data.images import ImageSet
from lgn_lightning.data.known import IMAGE_SHAPES
from lgn_lightning.data.torchvision_data import TorchvisionDataModule


class CIFAR10(TorchvisionDataModule):
    """CIFAR-10: 50,000 training and 10,000 test images 3×32×32, in ``<root>/cifar-10-batches-py``.

    Thresholds belong to the net's encoder; the images come as they are. Arguments as :class:`ImageDataModule`.
    """

    @property
    def class_names(self) -> list[str]:
        return ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return IMAGE_SHAPES["CIFAR10"]

    @property
    def _dataset(self) -> Any:
        return torchvision.datasets.CIFAR10

    def _load(self, train: bool) -> ImageSet:
        try:
            data = self._dataset(self.root, train=train)  # checks the MD5 of every file
        except (RuntimeError, OSError) as error:
            for file, md5 in self._files().items():
                if not check_integrity(self.root / file, md5):
                    raise corrupt_file("CIFAR10", self.root / file, f"its MD5 is not {md5}") from error
            raise
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return ImageSet(images, torch.tensor(data.targets, dtype=torch.int64))

    def _files(self) -> dict[str, str]:
        """MD5 by path under the root."""
        source = self._dataset
        listed = [*source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]]]
        return {f"{source.base_folder}/{file}": md5 for file, md5 in listed}

    def _missing(self) -> list[str]:
        return [file for file in self._files() if not (self.root / file).is_file()]
