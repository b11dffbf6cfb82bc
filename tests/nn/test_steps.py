"""Sequences as they are stored to the bits of their steps."""

from __future__ import annotations

import pytest
import torch

from lgn_lightning import Threshold
from lgn_lightning.nn import StepEncoder, Steps


def test_images_become_rows_and_pixels() -> None:
    x = torch.randint(256, (3, 2, 4, 5), dtype=torch.uint8)
    rows = StepEncoder(Threshold([0.5], (2, 1, 5)), "rows")(x)
    wanted = (x > 127).float().transpose(1, 2).flatten(2)
    assert torch.equal(rows, wanted)
    pixels = StepEncoder(Threshold([0.5], (2, 1, 1)), "pixels")(x)
    assert torch.equal(pixels, (x > 127).float().flatten(2).transpose(1, 2))


def test_bits_of_bytes_have_lengths() -> None:
    encoder = StepEncoder(num_bits=2)
    x = torch.tensor([[[0, 1], [1, 1], [255, 255]], [[1, 0], [255, 255], [255, 255]]], dtype=torch.uint8)
    steps = encoder(x)
    assert isinstance(steps, Steps)
    assert steps.lengths.tolist() == [2, 1]
    assert torch.equal(steps.bits[0, :2], torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    assert torch.equal(encoder(x == 1), (x == 1).float())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="scan='columns'"):
        StepEncoder(num_bits=2, scan="columns")
    for given in ({}, {"encoder": Threshold([0.5], (1, 1, 1)), "num_bits": 1}):
        with pytest.raises(ValueError, match="give an encoder, or the number of bits"):
            StepEncoder(**given)
    with pytest.raises(ValueError, match="one step or more"):
        StepEncoder(num_bits=2)(torch.zeros(3, 0, 2))
    bits = torch.zeros(3, 4, 2, dtype=torch.uint8)
    for sequence, step, value, message in (
        (1, slice(1, 3), 255, "sequence 1 of the batch has a step that is padding"),
        (2, slice(0, 4), 255, "sequence 2 of the batch has no step"),
        (0, 1, 3, "bits as uint8 are 0 or 1"),
        (0, 3, torch.tensor([1, 255], dtype=torch.uint8), "255 in steps that are padding, in all of their bits"),
    ):
        wrong = bits.clone()
        wrong[sequence, step] = value
        with pytest.raises(ValueError, match=message):
            StepEncoder(num_bits=2)(wrong)
    with pytest.raises(ValueError, match="images are"):
        StepEncoder(Threshold([0.5], (1, 1, 1)), "rows")(torch.zeros(3, 2, 2))
