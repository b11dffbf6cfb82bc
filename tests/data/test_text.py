from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lgn_lightning.data import DataError, TextChars
from lgn_lightning.data.text import ALPHABET


def test_windows_are_followed_by_their_labels(tmp_path: Path) -> None:
    text = "".join(chr(32 + i % 90) for i in range(200)) + "\nä~" * 50
    (tmp_path / "a.txt").write_text(text)
    data = TextChars(path=str(tmp_path / "a.txt"), steps=5, count=1000, test_count=7)
    x, y = data._load_train()
    assert x.shape == (len(text) * 9 // 10 - 5, 5, 7)
    codes = (x.long() << torch.arange(7)).sum(2)
    clean = [char if char in ALPHABET else " " for char in text]
    for start in (0, 17, 250, len(x) - 1):
        assert [chr(code) for code in codes[start]] == clean[start : start + 5]
        assert data.class_names[y[start]] == repr(clean[start + 5])
    assert len(data.test_samples()[1]) == 7
    of_a_run = TextChars(root=str(tmp_path / "a.txt"), steps=5, count=1000)
    assert torch.equal(of_a_run._load_train()[0], x)


def test_python_has_a_text_and_short_ones_are_refused(tmp_path: Path) -> None:
    x, y = TextChars(count=100)._load_train()
    assert (len(x), int(y.max()) < 96) == (100, True)
    with pytest.raises(DataError, match=r"shakespear\.txt does not exist"):
        TextChars(root=str(tmp_path / "shakespear.txt"))._load_train()
    assert TextChars(root=str(tmp_path), count=100)._load_train()[0].equal(x)
    (tmp_path / "a.txt").write_text("short")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    for path, message in (("a.txt", "no window"), ("b.txt", "cannot be read"), ("c.txt", "cannot be read")):
        with pytest.raises(DataError, match=message):
            TextChars(path=str(tmp_path / path))._load_train()
    with pytest.raises(ValueError, match="steps=0"):
        TextChars(steps=0)
