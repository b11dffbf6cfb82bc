from __future__ import annotations

import pytest
import torch

from lgn_lightning.data import KeywordStream


def test_a_step_has_the_class_of_the_word_that_was_heard_last() -> None:
    data = KeywordStream(steps=20, words=2, length=3, hold=2, count=60, test_count=30)
    for x, y in (data._load_train(), data.test_samples()):
        counts = x[:, :, 0] != 255
        assert torch.equal(counts, y != -100)
        assert counts.sum(1).min() >= 10
        symbols = (x.long() << torch.arange(4)).sum(2)
        for stream, labels in zip(symbols.tolist(), y.tolist(), strict=True):
            for step, label in enumerate(labels):
                heard = 0
                for end in (step - 1, step):
                    for number, word in enumerate(data.words.tolist()):
                        heard = number + 1 if end >= 2 and stream[end - 2 : end + 1] == word else heard
                assert label in (heard, -100)
        assert 0.1 < (y > 0).float().mean() < 0.9


def test_streams_without_room_are_an_error() -> None:
    with pytest.raises(ValueError, match="steps=5"):
        KeywordStream(steps=5)
