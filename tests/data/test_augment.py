from __future__ import annotations

import math
import re
import time
from statistics import median

import pytest
import torch
from torch import Tensor

from lgn_lightning.cli.main import main
from lgn_lightning.data import (
    Affine,
    Augmentation,
    Compose,
    Elastic,
    EpochBatchSampler,
    HorizontalFlip,
    RandomResizedCrop,
    Shift,
    TensorLoader,
)
from lgn_lightning.data.augment import epoch_draws


def images(count: int = 5, channels: int = 1, height: int = 9, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def draws(value: float | list[float], count: int, augment: Augmentation) -> Tensor:
    return torch.full((count, 1), 1.0) * torch.tensor(value).expand(augment.num_draws)


def bilinear(image: Tensor, x: float, y: float) -> float:
    """One sample of an image ``[H, W]`` that is black outside, by the textbook formula."""
    height, width = image.shape
    left, top = math.floor(x), math.floor(y)
    value = 0.0
    for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= i < height and 0 <= j < width:
            value += float(image[i, j]) * (1 - abs(y - i)) * (1 - abs(x - j))
    return value


def test_affine_is_the_textbook_formula() -> None:
    augment = Affine(rotation=20, scale=0.2, shear=0.3, shift=2)
    x = images(4, channels=2)
    u = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))
    out = augment(x, u)
    for n in range(4):
        angle, grow_x, grow_y, shear, dx, dy = (
            (2 * float(u[n, k]) - 1) * r for k, r in enumerate((math.radians(20), 0.2, 0.2, 0.3, 2, 2))
        )
        for row in range(9):
            for column in range(7):
                right, down = column - 3, row - 4
                turned_x = right * math.cos(angle) - down * math.sin(angle) + shear * down
                turned_y = right * math.sin(angle) + down * math.cos(angle)
                at_x, at_y = (1 + grow_x) * turned_x + dx + 3, (1 + grow_y) * turned_y + dy + 4
                for channel in range(2):
                    expected = bilinear(x[n, channel], at_x, at_y)
                    assert abs(float(out[n, channel, row, column]) - expected) <= 0.51


@pytest.mark.parametrize("augment", [Affine(), RandomResizedCrop(), Affine(padding="reflection"), Elastic()])
def test_the_middle_of_the_ranges_changes_nothing(augment: Augmentation) -> None:
    x = images(3, 3)
    middle = draws([1.0, 0.5, 0.5, 0.5] if isinstance(augment, RandomResizedCrop) else 0.5, 3, augment)
    assert torch.equal(augment(x, middle), x)


def test_elastic_is_the_textbook_formula() -> None:
    augment = Elastic(displacement=2.5, cells=2)
    x = images(2, channels=2)
    u = torch.rand(2, augment.num_draws, generator=torch.Generator().manual_seed(1))
    assert augment.num_draws == 2 * 5 * 5
    out = augment(x, u)

    def spline(d: float) -> float:  # the cubic B-spline, four pieces
        return max(2 - abs(d), 0) ** 3 / 6 - 4 * max(1 - abs(d), 0) ** 3 / 6

    for n in range(2):
        moves = (2 * u[n].view(2, 5, 5) - 1) * 2.5
        for row in range(9):
            for column in range(7):
                place = (row + 0.5) * 2 / 9, (column + 0.5) * 2 / 7  # in cells; control points stand at -1, 0, 1, 2, 3
                weight = [[spline(place[0] - i) * spline(place[1] - j) for j in range(-1, 4)] for i in range(-1, 4)]
                move_x, move_y = (float((torch.tensor(weight) * moves[axis]).sum()) for axis in (0, 1))
                for channel in range(2):
                    expected = bilinear(x[n, channel], column + move_x, row + move_y)
                    assert abs(float(out[n, channel, row, column]) - expected) <= 0.51


def test_resized_crop_stays_inside_the_image() -> None:
    augment = RandomResizedCrop(min_area=0.25, max_aspect=1.0)
    ramp = torch.arange(8, dtype=torch.uint8).mul(16).expand(1, 1, 8, 8).contiguous()
    # the left half of the columns, enlarged twice: pixel centres at 1/4, 3/4, … of the window's pixels
    left = augment(ramp, torch.tensor([[0.0, 0.5, 0.0, 0.5]]))[0, 0, 0]
    assert left.tolist() == [0, 4, 12, 20, 28, 36, 44, 52]
    assert augment(ramp, torch.tensor([[0.0, 0.5, 0.999999, 0.5]]))[0, 0, 0].tolist()[-1] == 7 * 16


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_shift_is_pad_and_crop(padding: str) -> None:
    from torch.nn.functional import pad

    augment = Shift(2, padding=padding)  # type: ignore[arg-type]
    x = images(50, 3)
    u = torch.rand(50, 2, generator=torch.Generator().manual_seed(2))
    modes = {"zeros": "constant", "border": "replicate", "reflection": "reflect"}
    padded = pad(x.float(), (2, 2, 2, 2), mode=modes[padding]).to(torch.uint8)
    out = augment(x, u)
    places = set()
    for n in range(50):
        top, left = int(u[n, 0] * 5), int(u[n, 1] * 5)
        places.add((top, left))
        assert torch.equal(out[n], padded[n, :, top : top + 9, left : left + 7])
    assert len(places) > 10


def test_flip_mirrors_the_drawn_images() -> None:
    x = images(4)
    out = HorizontalFlip(0.5)(x, torch.tensor([[0.1], [0.9], [0.49], [0.5]]))
    assert torch.equal(out, torch.stack([x[0].flip(2), x[1], x[2].flip(2), x[3]]))


def test_compose_gives_each_step_its_own_draws() -> None:
    both = Compose([HorizontalFlip(), Shift(1)])
    x = images(6)
    u = torch.rand(6, both.num_draws)
    assert both.num_draws == 3
    assert torch.equal(both(x, u), Shift(1)(HorizontalFlip()(x, u[:, :1]), u[:, 1:]))
    assert repr(both) == "HorizontalFlip() + Shift(±1 px)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(scale=1), "scale in [0, 1)"),
        (lambda: Affine(padding="black"), "must be one of 'zeros'"),  # type: ignore[arg-type]
        (lambda: Elastic(displacement=-1), "displacement must be 0 or more"),
        (lambda: Elastic(cells=0), "cells at least 1"),
        (lambda: Shift(0), "at least 1"),
        (lambda: HorizontalFlip(1.5), "in [0, 1]"),
        (lambda: RandomResizedCrop(min_area=0), "in (0, 1]"),
        (lambda: Shift(7, "reflection")(images(), torch.zeros(5, 2)), "reflects 7 pixels"),
    ],
)
def test_faulty_arguments_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()  # type: ignore[operator]


def loader(batch_size: int = 4, seed: int = 3, epoch: int = 0, rank: int = 0, world_size: int = 1) -> TensorLoader:
    x = images(24)
    sampler = EpochBatchSampler(24, batch_size, shuffle=True, seed=seed, rank=rank, world_size=world_size)
    sampler.set_epoch(epoch)
    return TensorLoader(x, torch.arange(24), sampler, augment=Affine())


def by_image(*loaders: TensorLoader) -> list[Tensor]:
    pixels, labels = (torch.cat(parts) for parts in zip(*(batch for one in loaders for batch in one), strict=True))
    return list(pixels[labels.argsort()])


def test_an_image_is_augmented_alike_on_any_number_of_ranks_and_in_any_batch() -> None:
    whole = torch.stack(by_image(loader()))
    assert torch.equal(torch.stack(by_image(loader(rank=0, world_size=2), loader(rank=1, world_size=2))), whole)
    assert torch.equal(torch.stack(by_image(loader(batch_size=7))), whole)
    assert not torch.equal(torch.stack(by_image(loader(epoch=1))), whole)
    assert not torch.equal(torch.stack(by_image(loader(seed=4))), whole)


def test_a_resumed_epoch_goes_on_with_the_same_images() -> None:
    interrupted, resumed = loader(epoch=2), loader()
    iterator = iter(interrupted)
    next(iterator), next(iterator)
    resumed.load_state_dict(interrupted.state_dict())
    for (left, _), (right, _) in zip(iterator, resumed, strict=True):
        assert torch.equal(left, right)


def test_the_draws_of_an_epoch_are_uniform_and_not_those_of_the_next() -> None:
    u = epoch_draws(20_000, 2, seed=5, epoch=0)
    assert abs(float(u.mean()) - 0.5) < 0.01
    assert abs(float(u.var()) - 1 / 12) < 0.002
    assert abs(float(torch.corrcoef(torch.cat([u, epoch_draws(20_000, 2, 5, 1)], 1).t())[0, 2])) < 0.03


@pytest.mark.parametrize("augment", [Affine(), Elastic()])
def test_augmenting_costs_a_fraction_of_a_training_step(augment: Augmentation) -> None:
    x, u = torch.randint(256, (128, 1, 28, 28), dtype=torch.uint8), torch.rand(128, augment.num_draws)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        for _ in range(15):
            start = time.process_time()
            augment(x, u)
            times.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    assert median(times) < 2e-3  # measured: 0.3 and 0.5 ms; a training step of the 48,000-gate net takes 7


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Affine", "Affine(±6°, scale ±0.06, shear ±0.06, ±1 px)"),
        ("Elastic", "Elastic(±3 px, 4 cells)"),
        ("{class_path: Shift, init_args: {pixels: 3}}", "Shift(±3 px)"),
        ("[{class_path: HorizontalFlip}, {class_path: lgn_lightning.data.Shift}]", "HorizontalFlip() + Shift(±4 px)"),
    ],
)
def test_a_recipe_names_it_in_one_line(value: str, expected: str, tmp_path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    from jsonargparse import ArgumentParser

    from lgn_lightning.data import MNIST

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(MNIST, "data")
    data = parser.instantiate(parser.parse_args([f"--data.augment={value}"])).data
    assert repr(data.augment) == expected


def test_lgn_fit_augments_training_images_only(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    seen: list[int] = []
    monkeypatch.setattr(Affine, "__call__", lambda self, x, u: (seen.append(len(x)), x)[1])
    assert main(["fit", "digits", "--data.augment=Affine", "--trainer.max_steps=3"]) == 0
    assert seen[:3] == [100, 100, 100]
    assert len(seen) <= 4  # validation and test images stay as they are
