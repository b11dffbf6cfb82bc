"""Images that stay on the trainer's device; the meta device stands in for a GPU where values do not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from lgn_lightning.data import DataError, EpochBatchSampler, TensorLoader
from lgn_lightning.data.loader import _take
from tests.data.test_training import COUNT, Numbers, Recorder, trainer


def on(device: str, tmp_path: Path, **settings: Any) -> tuple[Numbers, Trainer]:
    """A data module whose trainer works on a device."""
    run = trainer(tmp_path)
    run.strategy._root_device = torch.device(device)  # type: ignore[attr-defined]
    data = Numbers(batch_size=5, **settings)
    data.trainer = run
    data.setup()
    return data, run


def test_batches_lie_on_the_device_of_the_trainer(tmp_path: Path) -> None:
    data, _ = on("meta", tmp_path, resident=True, drop_last=False)
    for loader, sizes in (
        (data.train_dataloader(), [5] * 8 + [2]),
        (data.val_dataloader(), [5]),
        (data.test_dataloader(), [COUNT]),
    ):
        assert isinstance(loader, TensorLoader)
        assert loader.indices is None
        batches = list(loader)
        assert [len(labels) for _, labels in batches] == sizes
        assert {tensor.device.type for batch in batches for tensor in batch} == {"meta"}
        assert all(images.shape[1:] == (1, 1, 1) and images.dtype == torch.uint8 for images, _ in batches)


def test_a_split_is_copied_once_and_freed_in_the_end(tmp_path: Path) -> None:
    data, _ = on("meta", tmp_path, resident=True)
    first, second = data.train_dataloader(), data.train_dataloader()
    assert first.images is second.images
    assert len(first.images) == first.num_samples == 42
    data.teardown("fit")
    assert data.train_dataloader().images is not first.images


@pytest.mark.parametrize("settings", [{"resident": False}, {"resident": True}])
def test_on_the_cpu_nothing_is_copied(tmp_path: Path, settings: Any) -> None:
    data, _ = on("cpu", tmp_path, **settings)
    loader = data.train_dataloader()
    assert loader.images is data._loaded("train").data.images


def test_without_a_trainer_batches_are_on_the_cpu() -> None:
    data = Numbers(batch_size=5, resident=True)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))[0].device.type == "cpu"


def test_resident_splits_hold_the_images_of_the_split(tmp_path: Path) -> None:
    data, _ = on("cpu", tmp_path)
    for split in ("train", "val"):
        indices = data._loaded(split).indices
        assert indices is not None
        kept = data._make_resident(split, torch.device("cpu"))
        assert torch.equal(kept.images.flatten().long(), indices)
        assert torch.equal(kept.labels, indices % 2)


def test_the_order_is_that_of_the_cpu(tmp_path: Path) -> None:
    """Gathering from a split by position gives the batches that gathering by image number gives."""
    data, _ = on("cpu", tmp_path, shuffle_seed=7)
    usual = data.train_dataloader()
    kept = data._make_resident("train", torch.device("cpu"))
    sampler = EpochBatchSampler(len(kept.labels), 5, shuffle=True, seed=7, drop_last=True)
    for (x, y), (resident_x, resident_y) in zip(usual, TensorLoader(*kept, sampler), strict=True):
        assert torch.equal(x, resident_x)
        assert torch.equal(y, resident_y)


def test_position_and_epoch_do_not_depend_on_the_device() -> None:
    def sampler(device: str) -> EpochBatchSampler:
        return EpochBatchSampler(23, 4, shuffle=True, rank=1, world_size=2, device=device)

    here, there = sampler("cpu"), sampler("meta")
    for made in (here, there):
        made.set_epoch(2)
        iterator = iter(made)
        next(iterator), next(iterator)
    assert here.state_dict() == there.state_dict()
    resumed = sampler("meta")
    resumed.load_state_dict(here.state_dict())
    assert [len(batch) for batch in resumed] == [len(batch) for batch in list(sampler("cpu"))[2:]]


def test_numpys_gather_is_that_of_torch() -> None:
    images, index = torch.randint(256, (9, 1, 3, 2), dtype=torch.uint8), torch.tensor([3, 8, 3])
    assert torch.equal(_take(images, 0, index), torch.index_select(images, 0, index))


def test_mixed_devices_are_refused(tiny_images: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="images, labels, indices and sampler lie on cpu, meta"):
        TensorLoader(*tiny_images, EpochBatchSampler(23, 4, device="meta"))


def test_images_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = on("meta", tmp_path, resident=True)

    def full(self: torch.Tensor, device: torch.device) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(DataError, match=r"Numbers: 0\.0 GB of images do not fit .* of meta; use resident=false"):
        data.train_dataloader()


@pytest.mark.cuda
def test_a_fit_on_a_gpu_sees_the_batches_of_the_cpu(tmp_path: Path) -> None:
    seen = []
    for settings in ({"accelerator": "cpu"}, {"accelerator": "cuda"}):
        model = Recorder()
        data = Numbers(batch_size=5, shuffle_seed=4, resident=True)
        trainer(tmp_path, max_epochs=2, **settings).fit(model, data)
        seen.append((model.train_batches, model.eval_batches))
    assert seen[0] == seen[1]


@pytest.mark.cuda
def test_no_batch_waits_for_the_gpu(tmp_path: Path) -> None:
    data, _ = on("cuda:0", tmp_path, resident=True)
    batches = iter(data.train_dataloader())
    next(batches)  # the order of the epoch is copied
    torch.cuda.set_sync_debug_mode("error")
    try:
        images, labels = next(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(images.flatten() % 2, labels)
