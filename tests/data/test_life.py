from __future__ import annotations

import pytest
import torch

from lgn_lightning.data import GameOfLife
from lgn_lightning.data.life import next_boards


def test_a_glider_flies() -> None:
    board = torch.zeros(1, 8, 8, dtype=torch.uint8)
    for row, column in ((0, 1), (1, 2), (2, 0), (2, 1), (2, 2)):
        board[0, row, column] = 1
    flown = board
    for _ in range(4):
        flown = next_boards(flown)
    assert torch.equal(flown, torch.roll(board, (1, 1), (1, 2)))


def test_labels_are_the_next_boards() -> None:
    data = GameOfLife(size=5, count=20, test_count=7)
    x, y = data.test_samples()
    assert (x.shape, y.shape, data.num_classes) == ((7, 1, 5, 5), (7, 25), 25)
    assert torch.equal(next_boards((x[:, 0] > 127).to(torch.uint8)).flatten(1).float(), y)
    with pytest.raises(ValueError, match="size=2"):
        GameOfLife(size=2)
