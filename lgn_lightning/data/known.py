"""What the settings of a data module tell of its images before it is made: torch is not imported for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.image_file import is_hidden

ROOT_VARIABLE: Final = "LGN_DATA_ROOT"
#: Shape of an image where it is always the same, or the default.
IMAGE_SHAPES: Final = {"Digits": (1, 8, 8), "MNIST": (1, 28, 28), "FashionMNIST": (1, 28, 28), "CIFAR10": (3, 32, 32)}

#: Modules whose root is the data set, and not the place of one that is known by its name.
OF_ROOT: Final = frozenset(("ImageFolder", "PackedTable", "Sequences", "Table"))


class KnownData(NamedTuple):
    """Images of a data set, as far as its settings say; None where they do not."""

    image_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None


def data_root(root: str | None = None) -> Path:
    """The data folder of a module; of one that was given none ``$LGN_DATA_ROOT``, else ``data``."""
    return Path(os.environ.get(ROOT_VARIABLE) or "data" if root is None else root).expanduser()


def file_or_folder(root: Path) -> Path | None:
    """The root of a module of one file, if it is that file; None of a folder, where the module takes its own data.

    A DataError if it looks like a file and is not there.
    """
    if root.is_file():
        return root
    if root.suffix and not root.exists():
        raise DataError(f"{root} does not exist: give a file, or a folder or nothing for the data of the module")
    return None


def root_is_data(class_path: str, root: Path) -> bool:
    """Whether another root is another data set, by the name of the class; true of classes of other packages."""
    package, _, name = class_path.rpartition(".")
    return root.is_file() or name in OF_ROOT or (package != "" and package.partition(".")[0] != "lgn_lightning")


def class_folders(folder: Path) -> list[str]:
    """Names of the folders of images in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path, folder))


def known_data(
    name: str, /, root: str | None = None, size: Any = None, image_size: Any = None, **more: Any
) -> KnownData:
    """Looks at the arguments of a data module of this package.

    Args:
        name: Name of its class.
        root: Its argument, as the others.
        size: Of `MNIST`.
        image_size: Of `ImageFolder`.
        **more: Other arguments.
    """
    if name == "ImageFolder":
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size or (0, 0)
        folder = data_root(root) / "train"
        return KnownData(
            (1 if more.get("grayscale") else 3, height, width) if height else None,
            len(class_folders(folder)) if folder.is_dir() else None,
        )
    if name not in IMAGE_SHAPES:
        return KnownData()
    return KnownData((1, size, size) if name == "MNIST" and size else IMAGE_SHAPES[name], 10)
