from __future__ import annotations

import pytest
import torch

from lgn_lightning.data import ParityStream


def test_labels_are_the_parity_of_what_counts() -> None:
    data = ParityStream(steps=9, test_steps=30, count=200, test_count=50)
    x, y = data._load_train()
    assert x.shape == (200, 9, 1)
    counts = x[:, :, 0] != 255
    lengths = counts.sum(1)
    assert (lengths.min(), lengths.max()) == (1, 9)
    assert torch.equal(counts, torch.arange(9) < lengths[:, None])
    assert torch.equal(y, (x[:, :, 0].long() * counts).sum(1) % 2)
    x, y = data.test_samples()
    assert x.max() == 1
    assert torch.equal(y, x.long().sum((1, 2)) % 2)


def test_no_steps_are_an_error() -> None:
    with pytest.raises(ValueError, match="steps=0"):
        ParityStream(steps=0)
