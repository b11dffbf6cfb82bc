"""The number of thresholds that images want."""

import pytest
import torch
from torch import Tensor

from lgn_lightning.data.levels import PixelSample, choose_levels
from lgn_lightning.nn import Threshold


def images_of(levels: int, count: int = 3000) -> tuple[Tensor, Tensor]:
    """Images of 4 × 4 pixels whose class, one of 4, each pixel tells by its brightness, by so many levels."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 4
    steps = torch.randint(max(1, levels // 4), (count, 1, 4, 4), generator=chance)
    of_class = labels[:, None, None, None] * (levels // 4) + steps
    return (of_class * 255 // max(1, levels - 1)).to(torch.uint8), labels


def test_two_levels_want_one_threshold() -> None:
    images = torch.randint(2, (500, 1, 4, 4), generator=torch.Generator().manual_seed(1)).to(torch.uint8) * 255
    found = choose_levels(images, (images[:, 0, 0, 0] > 0).long())
    assert found.chosen == (127,)
    assert found.found == 2
    assert found.thresholds == [0.5]


def test_classes_by_grey_want_as_many_thresholds_as_tell_them_apart() -> None:
    found = choose_levels(*images_of(8))
    assert found.found == 8
    assert found.chosen == (54, 127, 200)
    assert found.information[1] == pytest.approx(1.0, abs=0.02)  # halves of four classes
    assert found.information[3] == pytest.approx(2.0, abs=0.02)
    assert found.entropy[3] == pytest.approx(2.0, abs=0.02)
    assert found.share(1) == pytest.approx(0.5, abs=0.05)
    assert choose_levels(*images_of(4)).chosen == (42, 127, 212)


def test_a_level_that_fills_the_images_takes_one_threshold_alone() -> None:
    images, labels = images_of(64)
    images[:, :, :2] = 0
    sample = PixelSample(images, labels)
    levels = sample.spread(7)
    assert levels[0] < 10
    assert levels[1] > 10
    assert len(levels) == 7


def test_images_of_one_level_say_nothing() -> None:
    found = choose_levels(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10) % 2)
    assert found.thresholds == [0.5]
    assert found.share(1) == 1.0


def test_a_threshold_is_the_level_that_was_chosen() -> None:
    found = choose_levels(*images_of(64))
    assert Threshold(found.thresholds, (1, 4, 4)).current_levels().tolist() == list(found.chosen)


def test_the_number_of_images_is_no_information() -> None:
    images = torch.randint(256, (2000, 1, 4, 4), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    labels = torch.randint(10, (2000,), generator=torch.Generator().manual_seed(3))
    found = choose_levels(images, labels)
    assert max(found.information.values()) < 0.01
    assert len(found.chosen) == 1
