from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from lgn_lightning.data import Digits


def split(loader: object) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(loader)  # type: ignore[call-overload]
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def rows(images: torch.Tensor, labels: torch.Tensor) -> list[tuple[int, ...]]:
    return sorted((int(label), *image.flatten().tolist()) for image, label in zip(images, labels, strict=True))


def test_splits_partition_the_scans() -> None:
    data = Digits(drop_last=False)
    parts = [split(loader) for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())]
    assert [len(labels) for _, labels in parts] == [1293, 144, 360]
    source = load_digits()
    scaled = torch.from_numpy((source.images * 255 / 16).round()).to(torch.uint8)
    together = rows(torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts]))
    assert together == rows(scaled, torch.from_numpy(source.target))
    assert parts[0][0].dtype == torch.uint8
    assert tuple(parts[0][0].shape[1:]) == data.image_shape == (1, 8, 8)
    assert (int(parts[0][0].min()), int(parts[0][0].max())) == (0, 255)


def test_splits_are_stratified() -> None:
    data = Digits()
    for loader, count in ((data.val_dataloader(), 144), (data.test_dataloader(), 360)):
        per_class = split(loader)[1].bincount(minlength=10)
        assert int((per_class - count / 10).abs().max()) <= 2, per_class


def test_the_test_split_depends_on_the_seed_only() -> None:
    first = split(Digits().test_dataloader())
    assert torch.equal(first[0], split(Digits(val_fraction=0, batch_size=7).test_dataloader())[0])
    assert not torch.equal(first[0], split(Digits(split_seed=1).test_dataloader())[0])
    assert Digits(val_fraction=0).val_dataloader() == []


@pytest.mark.parametrize("settings", [{"test_fraction": 0.0}, {"test_fraction": 1.0}, {"val_fraction": 0.001}])
def test_bad_arguments(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Digits(**settings)  # type: ignore[arg-type]
