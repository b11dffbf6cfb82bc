"""`Growth`: a seed, and the pattern that a cellular automaton shall grow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from PIL import Image

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.errors import DataError
from lgn_lightning.data.images import ImageDataModule, ImageSet
from lgn_lightning.data.known import file_or_folder

#: Patterns by name, drawn for this package.
PATTERNS: Final = {
    "lizard": """
................
......##........
.....####.......
.....####..#....
..#...##..##....
..##..##.##.....
...########.....
.....####.......
......###.......
......####......
...########.....
..##..###.##....
..#....##..#....
........##......
.........###....
...........##...
""",
    "heart": """
..........
..##..##..
.########.
.########.
.########.
..######..
...####...
....##....
..........
..........
""",
}


class Growth(ImageDataModule):
    """Copies of one grid, uint8 0 and 255 ``[N, channels, rows, columns]``, and a pattern, a label a cell.

    All bits of the cell in the middle are set, of the others none; the first channel shall become the pattern (growth
    in DiffLogic CA, Miotti et al., arXiv 2506.04912). ``download`` is not used.

    Args:
        *args: Arguments of :class:`ImageDataModule`.
        pattern: ``"lizard"`` or ``"heart"``.
        path: An image file instead, whose dark pixels are the pattern; None takes ``root``, if that is a file.
        channels: Bits of a cell.
        count: Copies to train on; an epoch.
        **kwargs: More arguments of :class:`ImageDataModule`.

    Raises:
        ValueError: If a number is not positive, or there is no such pattern.
    """

    not_from_files: ClassVar[dict[str, Any]] = {**ImageDataModule.not_from_files, "path": None}
    noun = "grids"

    def __init__(
        self,
        *args: Any,
        pattern: str = "lizard",
        path: str | None = None,
        channels: int = 16,
        count: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if min(channels, count) < 1:
            raise ValueError(f"channels={channels} and count={count} must be 1 or more")
        check_choice("pattern", pattern, PATTERNS, "; an image file is the path")
        self.pattern, self.channels, self.count = pattern, channels, count
        self.path = None if path is None else Path(path).expanduser()
        self._cells: torch.Tensor | None = None

    @property
    def cells(self) -> torch.Tensor:
        """The pattern, bool ``[rows, columns]``; a DataError if the file is no image."""
        if self._cells is None:
            self._cells = torch.from_numpy(self._read())
        return self._cells

    def _read(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        path = self.path or file_or_folder(self.root)
        if path is None:
            return np.array([[char == "#" for char in line] for line in PATTERNS[self.pattern].split()])
        try:
            with Image.open(path) as image:
                cells = np.asarray(image.convert("L")) < 128
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as an image: {error}") from error
        if min(cells.shape) < 3 or max(cells.shape) > 256:
            raise DataError(f"{path} has {cells.shape[0]} × {cells.shape[1]} pixels, a cell each: give 3 to 256")
        return cells

    @property
    def class_names(self) -> list[str]:
        rows, columns = self.cells.shape
        return [f"cell_{row}_{column}" for row in range(rows) for column in range(columns)]

    @property
    def task(self) -> str:
        """A label a cell."""
        return "labels"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.channels, self.cells.shape[0], self.cells.shape[1]

    def _check_samples(self, data: Any) -> ImageSet:
        return ImageSet(*data)

    def _load_train(self) -> ImageSet:
        return self._grids(self.count)

    def _load_test(self) -> ImageSet:
        return self._grids(1)

    def _grids(self, count: int) -> ImageSet:
        grids = torch.zeros(count, *self.image_shape, dtype=torch.uint8)
        grids[:, :, self.image_shape[1] // 2, self.image_shape[2] // 2] = 255
        return ImageSet(grids, self.cells.float().flatten().expand(count, -1).clone())
