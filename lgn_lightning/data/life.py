"""`GameOfLife`: random boards of Conway's Game of Life, and the boards after a step."""

from typing import Any

import torch
from torch import Tensor

from lgn_lightning.data.images import ImageDataModule, ImageSet


class GameOfLife(ImageDataModule):
    """Random boards as images, uint8 0 and 255 ``[N, 1, size, size]``; the labels are the next board, a label a cell.

    A board is a torus. Its share of live cells is drawn between a fifth and three fifths. ``root`` and ``download`` are
    not used.

    Args:
        *args: Arguments of :class:`ImageDataModule`.
        size: Rows and columns of a board.
        count: Boards to train on.
        test_count: Boards to test on.
        **kwargs: More arguments of :class:`ImageDataModule`.

    Raises:
        ValueError: If a board is smaller than 3 × 3, or there is none.
    """

    noun = "boards"

    def __init__(self, *args: Any, size: int = 16, count: int = 2048, test_count: int = 256, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if size < 3 or min(count, test_count) < 1:
            raise ValueError(f"size={size} must be 3 or more, count={count} and test_count={test_count} 1 or more")
        self.size, self.count, self.test_count = size, count, test_count

    @property
    def class_names(self) -> list[str]:
        return [f"cell_{row}_{column}" for row in range(self.size) for column in range(self.size)]

    @property
    def task(self) -> str:
        """A label a cell."""
        return "labels"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, self.size, self.size

    def _check_samples(self, data: Any) -> ImageSet:
        return ImageSet(*data)

    def _load_train(self) -> ImageSet:
        return self._boards(self.count, self.split_seed)

    def _load_test(self) -> ImageSet:
        return self._boards(self.test_count, self.split_seed + 1)

    def _boards(self, count: int, seed: int) -> ImageSet:
        generator = torch.Generator().manual_seed(seed)
        shares = 0.2 + 0.4 * torch.rand(count, 1, 1, generator=generator)
        boards = (torch.rand(count, self.size, self.size, generator=generator) < shares).to(torch.uint8)
        return ImageSet(255 * boards[:, None], next_boards(boards).flatten(1).float())


def next_boards(boards: Tensor) -> Tensor:
    """A step of the Game of Life on a torus: uint8 0 and 1 ``[N, rows, columns]`` to the same."""
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    around = sum(torch.roll(boards, shift, (1, 2)) for shift in shifts)
    return ((around == 3) | ((around == 2) & (boards == 1))).to(torch.uint8)
