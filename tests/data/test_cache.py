"""Decoded images are kept beside their files, as image folders do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lgn_lightning.data import ImageFolder, image_folder
from lgn_lightning.data.decode import decode_files
from tests.data.conftest import values, write_image


def test_decoded_images_are_kept_until_a_file_or_a_setting_changes(
    image_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def count(paths: Sequence[Path], *settings: Any) -> torch.Tensor:
        decoded.append(len(paths))
        return decode_files(paths, *settings)

    monkeypatch.setattr(image_folder, "decode_files", count)

    def load(**settings: Any) -> list[tuple[int, int]]:
        decoded.clear()
        return values(ImageFolder(str(image_root), **settings).test_dataloader())

    first = load()
    assert decoded == [4]
    assert load() == first
    assert decoded == []
    assert load(cache=False) == first
    assert decoded == [4]
    write_image(image_root / "test/ant/0.png", 99)
    assert load()[0] == (99, 0)
    load(grayscale=True)
    assert decoded == [4]
    (kept,) = (image_root / ".lgn-cache").iterdir()  # the older ones were removed
    kept.write_bytes(kept.read_bytes()[:-5])
    assert load(grayscale=True)[0] == (99, 0)
    assert decoded == [4]


def test_a_folder_that_cannot_hold_the_cache_is_read_all_the_same(image_root: Path) -> None:
    (image_root / ".lgn-cache").write_text("a file where the folder should be")
    assert values(ImageFolder(str(image_root)).test_dataloader()) == [(0, 0), (1, 0), (10, 1), (11, 1)]
