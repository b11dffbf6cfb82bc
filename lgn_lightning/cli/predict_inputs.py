"""What ``lgn predict`` is given: images, folders, an array, or a test split; with labels where they are known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.arrays import load_arrays
from lgn_lightning.base.columns import Column
from lgn_lightning.base.errors import LgnError, note, some
from lgn_lightning.base.settings_text import arguments_of
from lgn_lightning.data.image_file import is_hidden, prepare_image
from lgn_lightning.data.known import OF_ROOT

IMAGE_SUFFIXES: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: Images whose highest grey level is no higher were hardly meant so: pixels of 0 and 1, or of scikit-learn's digits.
_NEARLY_BLACK: Final = 16


@dataclass(frozen=True)
class Samples:
    """What is to be classified.

    Attributes:
        names: A name a sample.
        values: ``[N, …]``.
        labels: The true class of each, None where it is not known; None if none is known.
    """

    names: list[str]
    values: NDArray[Any]
    labels: list[int | None] | None = None


def missing_marks(settings: dict[str, Any]) -> list[str]:
    """What stands for a missing value in the tables of a training, ``data.missing``, as far as settings say so."""
    said = arguments_of(settings.get("data")).get("missing")
    return [str(mark) for mark in said] if isinstance(said, list) else []


def placeless(source: object) -> LgnError:
    """The error of a test split that is nowhere."""
    return LgnError(
        f"{source} does not say where its data are: give what to predict, or --data.root <the file or folder of the "
        "data>, of which the test split is taken, or else --data <recipe>"
    )


def require_array(paths: Sequence[Path], what: str) -> None:
    """Refuses anything but one array for a net of sequences, which are in no other file alone; ``what`` it holds.

    Raises:
        LgnError: If so.
    """
    for path in paths:
        if path.suffix.lower() != ".npy":
            raise LgnError(
                f"{path} is no .npy array, and this net takes sequences: give one of {what}, or, of a run that was "
                "trained on such files, --data.root <that file>, of which the test split is taken"
            )


def read_inputs(
    paths: Sequence[Path],
    shape: tuple[int, int, int] | None,
    preparation: str | None,
    class_names: Sequence[str] | None,
    columns: tuple[Column, ...] | None = None,
    gaps: Collection[str] | None = None,
    target: str | None = None,
    marks: Sequence[str] = (),
) -> Samples:
    """Reads one ``.npy`` array, one table, or images.

    Args:
        paths: Of the array, or of images and folders.
        shape: (C, H, W) of the net's images; None if it takes bits.
        preparation: As of `prepare_image`.
        class_names: Names of the classes: an image in a folder of such a name has this label.
        columns: Columns of the table that a net takes the rows of; None for other nets.
        gaps: Those of them that had missing values in training.
        target: The column of the classes, in case the table has it.
        marks: What stands for a missing value in a table, see `missing_marks`.

    Raises:
        LgnError: If a file is missing or of no use; the message names it.
    """
    if columns is not None and not any(path.suffix.lower() == ".npy" for path in paths):
        if len(paths) > 1:
            raise LgnError(f"this net takes the rows of one table, and was given {len(paths)} files")
        return _read_rows(columns, paths[0], gaps, target, class_names, marks)
    if any(path.suffix.lower() == ".npy" for path in paths):
        if len(paths) > 1:
            raise LgnError("give one .npy array alone, or images")
        array = _as_images(_read_array(paths[0]), shape)
        return Samples([str(index) for index in range(len(array))], array)
    if shape is None:
        raise LgnError("this circuit has no thresholds for pixels: give bits, as a .npy array of bools")
    if shape[0] not in (1, 3):
        raise LgnError(f"this net takes images of {shape[0]} channels; give them as a .npy array of uint8")
    files = [(file, path) for path in paths for file in _image_files(path)]
    pixels = np.empty((len(files), *shape), np.uint8)
    for index, (file, _) in enumerate(files):
        pixels[index] = prepare_image(file, shape, preparation)
    numbers = {name: number for number, name in enumerate(class_names or ())}
    labels = [_label(file, folder, numbers) for file, folder in files]
    known = None if all(label is None for label in labels) else labels
    return Samples([str(file) for file, _ in files], pixels, known)


def _label(file: Path, folder: Path, numbers: dict[str, int]) -> int | None:
    """The class whose name the folder of a file has, below the folder that was given."""
    inside = file.relative_to(folder).parts[:-1] if file != folder else ()
    return next((numbers[part] for part in reversed(inside) if part in numbers), None)


def _read_rows(
    columns: tuple[Column, ...],
    path: Path,
    gaps: Collection[str] | None,
    target: str | None,
    class_names: Sequence[str] | None,
    marks: Sequence[str],
) -> Samples:
    """Rows of a table file, with the classes if it has them; says what of it was not in training."""
    from lgn_lightning.data.table_columns import make_table_rows, without_marks
    from lgn_lightning.data.table_file import read_table  # pandas takes half a second, which images do not need
    from lgn_lightning.data.table_target import known_labels

    frame, labels = without_marks(read_table(path), marks), list[int | None]()
    if target in frame.columns and class_names:
        labels, foreign = known_labels(frame.pop(target), class_names)
        if foreign:
            note(f"{path}: target {target!r} has {some(foreign)}, no class of the net; such rows are not scored")
    rows, notes = make_table_rows(columns, frame, str(path), gaps)
    for line in notes.lines():
        note(f"{path}: {line}")
    known = any(label is not None for label in labels)
    return Samples([str(index) for index in range(len(rows))], rows, labels if known else None)


def _read_array(path: Path) -> NDArray[Any]:
    array = load_arrays(path, mmap_mode="r")
    if isinstance(array, dict):
        raise LgnError(f"{path} holds arrays by names ({some(array)}); write one alone, with numpy.save")
    if not array.ndim:
        raise LgnError(f"{path} holds a single number; the first axis must be the samples")
    return np.asarray(array)


def _as_images(array: NDArray[Any], shape: tuple[int, int, int] | None) -> NDArray[Any]:
    """Gives images the axes and pixels that the net takes, if it is clear what they are.

    One image gets the axis of the samples, channels that stand last move forward; intensities from 0 to 1 and whole
    numbers from 0 to 255 become uint8. All else is left to the check of the samples.
    """
    if shape is None:
        return array
    channels, height, width = shape
    if array.shape in (shape, (height, width, channels)) or (channels == 1 and array.shape == shape[1:]):
        array = array[None]
    if array.shape[1:] == (height, width, channels) and array.shape[1:] != shape:
        array = array.transpose(0, 3, 1, 2)
    is_image = array.shape[1:] == shape or (channels == 1 and array.shape[1:] == shape[1:])
    if not is_image or not array.size or array.dtype.kind not in "iuf":
        return array
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and 0 <= low <= high <= 1:
        return (array * 255).round().astype(np.uint8)
    whole = array.dtype.kind in "iu" or bool((array == np.round(array)).all())
    if not whole or not 0 <= low <= high <= 255:
        return array
    if 0 < high <= _NEARLY_BLACK:
        note(
            f"the highest value of these whole numbers is {high:g} of 255, nearly black: scale them to 0 … 255, or "
            "give floats from 0 to 1"
        )
    return array.astype(np.uint8, copy=False)


def _image_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise LgnError(f"there is no image or folder {path}")
    images = (file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    found = sorted(file for file in images if not is_hidden(file, path))
    if not found:
        raise LgnError(f"there are no images in {path} ({', '.join(IMAGE_SUFFIXES)})")
    return found


def read_test_split(
    settings: dict[str, Any], root: Path | None, source: Path | None, columns: tuple[Column, ...] | None = None
) -> Samples:
    """The test samples of the data set that settings name.

    Args:
        settings: As plain values.
        root: Data folder that replaces theirs.
        source: The file that they were found in; None if it is a recipe that the user named.
        columns: What a net on tables was trained on.

    Raises:
        DataError: If they are missing, or of other columns.
        LgnError: If nothing says where they are.
    """
    from lgn_lightning.data.from_settings import data_module  # torch takes seconds, which image files do not need

    data = data_module(settings, root, source)
    # Others look into their folder, or need none.
    if type(data).__name__ in OF_ROOT and getattr(data, "path", "") is None and not data.root.is_file():
        raise placeless("the recipe" if source is None else source)
    data.prepare_data()
    images, labels = (part.numpy() for part in data.test_samples())
    if columns is not None:
        data.check_columns(columns)
    names = [str(index) for index in range(len(images))]
    return Samples(names, images, labels.tolist() if labels.ndim == 1 and labels.dtype.kind == "i" else None)
