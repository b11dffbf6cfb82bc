from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lgn_lightning.data import DataError, Growth
from lgn_lightning.data.growth import PATTERNS


def test_a_seed_in_the_middle_and_the_pattern() -> None:
    data = Growth(channels=3, count=5)
    (x, y), lines = data._load_train(), PATTERNS["lizard"].split()
    assert x.shape == (5, 3, 16, 16)
    assert torch.equal(x.nonzero()[:3], torch.tensor([[0, channel, 8, 8] for channel in range(3)]))
    assert int((x > 0).sum()) == 15
    assert [["#" if cell else "." for cell in row] for row in y[4].view(16, 16)] == [list(line) for line in lines]
    assert (data.num_classes, data.task) == (256, "labels")


def test_an_image_of_ones_own(tmp_path: Path) -> None:
    pixels = np.full((5, 7), 250, np.uint8)
    pixels[1:3, 2:6] = 3
    Image.fromarray(pixels).save(tmp_path / "p.png")
    data = Growth(path=str(tmp_path / "p.png"), channels=2)
    assert data.image_shape == (2, 5, 7)
    assert torch.equal(data.test_samples()[1].view(5, 7) > 0, torch.from_numpy(pixels < 128))
    (tmp_path / "t.png").write_text("no image")
    assert torch.equal(Growth(root=str(tmp_path / "p.png"), channels=2).cells, data.cells)
    for name in ("t.png", "none.png"):
        with pytest.raises(DataError, match="cannot be read"):
            _ = Growth(path=str(tmp_path / name)).cells
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        _ = Growth(root=str(tmp_path / "none.png")).cells
    with pytest.raises(ValueError, match="one of 'lizard'"):
        Growth(pattern="unicorn")
