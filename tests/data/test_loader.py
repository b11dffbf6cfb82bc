from __future__ import annotations

import time
from statistics import median

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning.data import EpochBatchSampler, TensorLoader
from lgn_lightning.data.loader import _take


def test_batches_are_the_images_of_the_index_vectors(tiny_images: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = tiny_images
    indices = torch.tensor([2, 3, 5, 7, 11, 13, 17, 19])
    loader = TensorLoader(images, labels, EpochBatchSampler(8, 3, shuffle=True, seed=1), indices)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    assert loader.num_samples == 8
    for pixels, classes in batches:
        assert pixels.dtype == torch.uint8
        assert classes.dtype == torch.int64
        assert pixels.shape == (len(classes), 1, 2, 2)
        assert torch.equal(pixels[:, 0, 0, 0].long(), classes)
    assert sorted(torch.cat([classes for _, classes in batches]).tolist()) == indices.tolist()


def test_changing_a_batch_does_not_change_the_data(tiny_images: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = tiny_images
    for pixels, _ in TensorLoader(images, labels, EpochBatchSampler(23, 23)):
        pixels.zero_()
    assert torch.equal(images[:, 0, 0, 0].long(), labels)


def test_state_goes_through_the_loader(tiny_images: tuple[torch.Tensor, torch.Tensor]) -> None:
    def loader() -> TensorLoader:
        return TensorLoader(*tiny_images, EpochBatchSampler(23, 4, shuffle=True))

    whole = [labels.tolist() for _, labels in loader()]
    interrupted, resumed = loader(), loader()
    iterator = iter(interrupted)
    next(iterator), next(iterator)
    resumed.load_state_dict(interrupted.state_dict())
    assert [labels.tolist() for _, labels in resumed] == whole[2:]


def test_no_per_sample_work() -> None:
    images = torch.randint(0, 256, (5000, 1, 28, 28), dtype=torch.uint8)
    labels = torch.zeros(5000, dtype=torch.int64)

    def seconds(loader: object) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            for _ in loader:  # type: ignore[attr-defined]
                pass
            times.append(time.perf_counter() - start)
        return median(times)

    ours = seconds(TensorLoader(images, labels, EpochBatchSampler(5000, 100, shuffle=True)))
    usual = seconds(DataLoader(TensorDataset(images, labels), batch_size=100, shuffle=True))
    assert ours < usual / 4, f"{ours * 1e6 / 50:.0f} µs per batch against {usual * 1e6 / 50:.0f}"  # measured: 1/20


def test_numpys_gather_is_that_of_torch() -> None:
    images, index = torch.randint(256, (9, 1, 3, 2), dtype=torch.uint8), torch.tensor([3, 8, 3])
    assert torch.equal(_take(images, 0, index), torch.index_select(images, 0, index))


def test_mixed_devices_are_refused(tiny_images: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="cpu, meta"):
        TensorLoader(*tiny_images, EpochBatchSampler(23, 4, device="meta"))
