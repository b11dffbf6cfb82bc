"""What the data sets that torchvision can download have in common."""

from abc import abstractmethod
from typing import Any

from lgn_lightning.data.download import download_files, missing_data
from lgn_lightning.data.images import ImageDataModule, ImageSet


class TorchvisionDataModule(ImageDataModule):
    """Base of data sets whose files lie under ``root`` where torchvision puts them, and come from there if missing."""

    @property
    @abstractmethod
    def _dataset(self) -> Any:
        """The torchvision class: addresses, checksums, class names."""

    @abstractmethod
    def _missing(self) -> list[str]:
        """Files that are not there, as paths relative to ``root``."""

    @abstractmethod
    def _load(self, train: bool) -> ImageSet:
        """The training or test images from files that are there."""

    def prepare_data(self) -> None:
        """Downloads the data set if it is missing; a DataError if it may not (``download``) or cannot be."""
        if self.download and self._missing():
            download_files(type(self).__name__, self.root, self._missing, lambda to: self._dataset(to, download=True))
        self._refuse_missing()

    def _load_train(self) -> ImageSet:
        self._refuse_missing()
        return self._load(train=True)

    def _load_test(self) -> ImageSet:
        self._refuse_missing()
        return self._load(train=False)

    def _refuse_missing(self) -> None:
        if files := self._missing():
            raise missing_data(type(self).__name__, self.root, files)
