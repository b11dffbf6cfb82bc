"""Many files on many threads."""

from __future__ import annotations

from pathlib import Path

from lgn_lightning.data import ImageFolder
from tests.data.conftest import CLASSES, values, write_image


def test_many_threads_keep_the_order(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for index in range(200):
            write_image(tmp_path / part / CLASSES[index >= 100] / f"{index:03}.png", index, size=(100, 100))
    test = values(ImageFolder(str(tmp_path), eval_batch_size=64).test_dataloader())
    assert test == [(index, int(index >= 100)) for index in range(200)]
