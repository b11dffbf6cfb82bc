"""A data set of the user's own: one folder of images per class."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.cache import cached_images
from lgn_lightning.data.decode import decode_files
from lgn_lightning.data.image_file import is_hidden, read_image
from lgn_lightning.data.images import ImageDataModule, ImageSet
from lgn_lightning.data.known import class_folders


class ImageFolder(ImageDataModule):
    """Images in ``<root>/train/<class>/…``, and optionally ``<root>/val/<class>/…`` and ``<root>/test/<class>/…``.

    Classes are the folders of ``train``, in alphabetical order. Without ``val`` a share of the training images is the
    validation split; ``lgn fit`` ends with a test and does not start without ``test``. All images are decoded into
    memory. Files and folders whose names begin with a dot are left out.

    Args:
        root: Folder that holds ``train``; ``None`` means the environment variable ``LGN_DATA_ROOT``, else ``data``.
        image_size: Side, or [height, width], that images are resized to (aspect ratio not kept); ``None`` if all
            images have one size.
        grayscale: Whether to give one channel and not three (RGB).
        cache: Whether to keep the decoded images in ``<root>/.lgn-cache``; a changed file is noticed.
        **kwargs: The other arguments of :class:`ImageDataModule`. ``val_fraction`` does not count if there is a
            ``val`` folder; ``download`` is not used.
    """

    def __init__(
        self,
        root: str | None = None,
        image_size: int | tuple[int, int] | None = None,
        grayscale: bool = False,
        cache: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"image_size must be one or two positive numbers, got {image_size}")
        self.size, self.grayscale, self.cache = size, grayscale, cache
        self._class_names: list[str] = []
        self._image_shape: tuple[int, int, int] | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the folders in ``train``; a DataError if there are fewer than two."""
        if not self._class_names:
            self._class_names = self._find_classes()
        return self._class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(1 or 3, H, W): ``image_size``, or the size of the first training image."""
        if self._image_shape is None:
            height, width = self.size or read_image(self._list("train")[0][0], self.grayscale).shape[1:]
            self._image_shape = (1 if self.grayscale else 3, height, width)
        return self._image_shape

    @property
    def preparation(self) -> str | None:
        """``"resize"`` with an ``image_size``."""
        return None if self.size is None else "resize"

    @property
    def has_test(self) -> bool:
        return (self.root / "test").is_dir()

    def prepare_data(self) -> None:
        """Checks the class folders of all parts, so that a wrong one is reported before any process starts to load.

        No ``train`` folder, fewer than two class folders in it, or other ones in ``val`` or ``test`` are a DataError.
        """
        for part in ("train", "val", "test"):
            if part == "train" or (self.root / part).is_dir():
                self._list(part)

    def _load_train(self) -> ImageSet:
        return self._load("train")

    def _load_val(self) -> ImageSet | None:
        return self._load("val") if (self.root / "val").is_dir() else None

    def _load_test(self) -> ImageSet:
        if self.class_names and not self.has_test:  # class_names first: a wrong root lacks train, too
            raise DataError(
                f"ImageFolder: no folder {(self.root / 'test').absolute()}; put test images into test/<class>/, of "
                "every class: `lgn fit` ends with a test. If you have none, move some of the training images there"
            )
        return self._load("test")

    def _find_classes(self) -> list[str]:
        folder = self.root / "train"
        if not folder.is_dir():
            raise DataError(
                f"ImageFolder: no folder {folder.absolute()}; data.root (or the environment variable LGN_DATA_ROOT) "
                "must hold train/<class>/<images> and optionally val/ and test/ of the same form"
            )
        names = class_folders(folder)
        if len(names) < 2:
            raise DataError(
                f"ImageFolder: {len(names)} class folder(s) in {folder.absolute()}, 2 or more are needed; put the "
                "images of each class into a folder train/<class>/"
            )
        return names

    def _load(self, part: str) -> ImageSet:
        files = self._list(part)
        paths, size, resize = [path for path, _ in files], self.image_shape[1:], self.size is not None

        def decode() -> Tensor:
            return decode_files(paths, size, self.grayscale, resize)

        cache, settings = self.root / ".lgn-cache", (size, self.grayscale)
        images = cached_images(cache, part, paths, settings, decode) if self.cache else decode()
        return ImageSet(images, torch.tensor([label for _, label in files], dtype=torch.int64))

    def _list(self, part: str) -> list[tuple[Path, int]]:
        """Files and labels of ``train``, ``val`` or ``test``, in alphabetical order."""
        folder = self.root / part
        class_to_index = {name: index for index, name in enumerate(self.class_names)}
        strangers = [name for name in class_folders(folder) if name not in class_to_index]
        if strangers:
            raise DataError(
                f"ImageFolder: {folder.absolute()} has class folders that train has not: {', '.join(strangers)}; "
                "classes are the folders of train"
            )
        found = make_dataset(folder, class_to_index, IMG_EXTENSIONS, allow_empty=True)
        files = [(Path(path), label) for path, label in found if not is_hidden(Path(path), folder)]
        empty = sorted(set(class_to_index.values()) - {label for _, label in files})
        if empty:
            raise DataError(
                f"ImageFolder: no images in {(folder / self.class_names[empty[0]]).absolute()} "
                f"({len(empty)} empty or missing class folders in {part}); put images there "
                f"({', '.join(IMG_EXTENSIONS)}) or remove the class from train"
            )
        return files
