"""The base of the data modules under a Trainer: exact resumption, DDP, and images that stay on the trainer's device.

For the latter the meta device stands in for a GPU where values do not matter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lgn_lightning.data import DataError, EpochBatchSampler, ImageDataModule, ImageSet, TensorLoader

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*callbacks used to create the checkpoint need to be provided", "ignore:Total length of `list`"
)

COUNT = 47  # training images; with a validation image in ten: 42 and 5


class Numbers(ImageDataModule):
    """Images whose pixel is their number."""

    @property
    def class_names(self) -> list[str]:
        return ["a", "b"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, 1, 1

    def _load_train(self) -> ImageSet:
        numbers = torch.arange(COUNT)
        return ImageSet(numbers.to(torch.uint8).reshape(-1, 1, 1, 1), numbers % 2)

    def _load_test(self) -> ImageSet:
        return self._load_train()


class Recorder(LightningModule):
    """Learns nothing; remembers which images were in which batch, as (epoch, batch number, images)."""

    def __init__(self, folder: str | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("broadcast_by_ddp", torch.zeros(1))  # unequal numbers of steps would hang
        self.folder = folder
        self.train_batches: list[tuple[int, int, list[int]]] = []
        self.eval_batches: list[list[int]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        self.train_batches.append((self.current_epoch, batch_index, batch[0].flatten().tolist()))
        return self.weight * batch[0].float().mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self.eval_batches.append(batch[0].flatten().tolist())

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self.eval_batches.append(batch[0].flatten().tolist())

    def on_fit_end(self) -> None:
        if self.folder:
            record = {"train": self.train_batches, "eval": self.eval_batches}
            Path(self.folder, f"{self.global_rank}.json").write_text(json.dumps(record))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **settings: Any) -> Trainer:
    return Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 0,
            **settings,
        }
    )


def fit(folder: Path, checkpoint: str | None = None, data: Numbers | None = None, **settings: Any) -> Recorder:
    model = Recorder()
    data = data or Numbers(batch_size=5)
    trainer(folder, **settings).fit(model, data, ckpt_path=checkpoint)
    return model


@pytest.mark.parametrize(
    ("when", "settings", "steps"),
    [
        ("in the middle of the first epoch", {"every_n_train_steps": 3}, 3),
        ("in the middle of the second epoch", {"every_n_train_steps": 13}, 13),
        ("after the last batch of an epoch", {"every_n_train_steps": 8}, 8),
        ("at the end of an epoch", {"every_n_epochs": 1, "save_on_train_epoch_end": True}, 8),
        ("after a validation at the end of an epoch", {"every_n_epochs": 1, "save_on_train_epoch_end": False}, 16),
    ],
)
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, settings: dict[str, Any], steps: int
) -> None:
    whole = fit(tmp_path, max_epochs=3, data=Numbers(batch_size=5, shuffle_seed=4)).train_batches
    assert [(epoch, index) for epoch, index, _ in whole] == [(epoch, index) for epoch in range(3) for index in range(8)]

    saver = ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1, **settings)
    first = fit(
        tmp_path,
        max_steps=steps,
        data=Numbers(batch_size=5, shuffle_seed=4),
        callbacks=[saver],
        enable_checkpointing=True,
    )
    torch.load(tmp_path / "saved" / f"step={steps}.ckpt", weights_only=True)  # no pickled objects of ours
    monkeypatch.setenv("PL_GLOBAL_SEED", "77")  # the checkpoint's seed counts
    second = fit(tmp_path, max_epochs=3, checkpoint=str(tmp_path / "saved" / f"step={steps}.ckpt"))
    assert first.train_batches + second.train_batches == whole


def test_resuming_after_a_validation_inside_an_epoch(tmp_path: Path) -> None:
    whole = fit(tmp_path, max_epochs=2).train_batches
    saver = ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1, save_on_train_epoch_end=False)
    fit(tmp_path, max_epochs=1, val_check_interval=3, callbacks=[saver], enable_checkpointing=True)
    path = tmp_path / "saved" / "step=3.ckpt"
    assert fit(tmp_path, max_epochs=2, val_check_interval=3, checkpoint=str(path)).train_batches == whole[3:]


def test_epochs_differ_and_overfit_batches_repeats(tmp_path: Path) -> None:
    usual = fit(tmp_path, max_epochs=2).train_batches
    assert [images for _, _, images in usual[:8]] != [images for _, _, images in usual[8:]]
    overfit = fit(tmp_path, max_epochs=2, overfit_batches=2).train_batches
    assert [images for _, _, images in overfit[:2]] == [images for _, _, images in overfit[2:]]


def test_validation_off(tmp_path: Path) -> None:
    model = fit(tmp_path, max_epochs=1, data=Numbers(batch_size=5, val_fraction=0))
    assert not model.eval_batches
    assert len(model.train_batches) == 9


def test_test_covers_all_images_in_order(tmp_path: Path) -> None:
    model = Recorder()
    trainer(tmp_path).test(model, Numbers(eval_batch_size=10), verbose=False)
    assert [image for batch in model.eval_batches for image in batch] == list(range(COUNT))


def test_two_processes_share_uneven_data_exactly(tmp_path: Path) -> None:
    data = {"shuffle_seed": 4, "drop_last": False, "val_fraction": 0.234}  # 36 and 11: 11 is uneven
    alone = fit(tmp_path, max_epochs=2, data=Numbers(batch_size=10, **data)).train_batches
    model = Recorder(str(tmp_path))
    # Forked, not spawned: a spawned process runs torch's static destructors on its way out, and there gloo's
    # threads now and then abort it after all work is done.
    trainer(tmp_path, devices=2, strategy="ddp_fork", max_epochs=2).fit(
        model, Numbers(batch_size=5, eval_batch_size=5, **data)
    )
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert len(ranks[0]["train"]) == len(ranks[1]["train"]) == len(alone)
    for (epoch, index, images), first, second in zip(alone, ranks[0]["train"], ranks[1]["train"], strict=True):
        assert first[:2] == second[:2] == [epoch, index]
        assert sorted(first[2] + second[2]) == sorted(images)
    one_epoch = [image for rank in ranks for batch in rank["eval"][: len(rank["eval"]) // 2] for image in batch]
    assert len(one_epoch) == len(set(one_epoch)) == 11
    trained = {image for _, _, images in alone for image in images}
    assert trained | set(one_epoch) == set(range(COUNT))
    assert not trained & set(one_epoch)


def on_device(device: str, tmp_path: Path, **settings: Any) -> tuple[Numbers, Trainer]:
    """A data module whose trainer works on a device."""
    run = trainer(tmp_path)
    run.strategy._root_device = torch.device(device)  # type: ignore[attr-defined]
    data = Numbers(batch_size=5, **settings)
    data.trainer = run
    data.setup()
    return data, run


def test_batches_lie_on_the_device_of_the_trainer(tmp_path: Path) -> None:
    data, _ = on_device("meta", tmp_path, resident=True, drop_last=False)
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
    data, _ = on_device("meta", tmp_path, resident=True)
    first, second = data.train_dataloader(), data.train_dataloader()
    assert first.images is second.images
    assert len(first.images) == first.num_samples == 42
    data.teardown("fit")
    assert data.train_dataloader().images is not first.images


@pytest.mark.parametrize("settings", [{"resident": False}, {"resident": True}])
def test_on_the_cpu_nothing_is_copied(tmp_path: Path, settings: Any) -> None:
    data, _ = on_device("cpu", tmp_path, **settings)
    loader = data.train_dataloader()
    assert loader.images is data.train_dataloader().images is data.val_dataloader().images


def test_without_a_trainer_batches_are_on_the_cpu() -> None:
    data = Numbers(batch_size=5, resident=True)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))[0].device.type == "cpu"


def test_resident_splits_hold_the_images_of_the_split(tmp_path: Path) -> None:
    data, _ = on_device("cpu", tmp_path)
    for split in ("train", "val"):
        indices = data._SampleDataModule__loaded(split).indices
        assert indices is not None
        kept = data._SampleDataModule__make_resident(split, torch.device("cpu"))
        assert torch.equal(kept[0].flatten().long(), indices)
        assert torch.equal(kept[1], indices % 2)


def test_the_order_is_that_of_the_cpu(tmp_path: Path) -> None:
    """Gathering from a split by position gives the batches that gathering by image number gives."""
    data, _ = on_device("cpu", tmp_path, shuffle_seed=7)
    usual = data.train_dataloader()
    kept = data._SampleDataModule__make_resident("train", torch.device("cpu"))
    sampler = EpochBatchSampler(len(kept[1]), 5, shuffle=True, seed=7, drop_last=True)
    for (x, y), (resident_x, resident_y) in zip(usual, TensorLoader(*kept, sampler), strict=True):
        assert torch.equal(x, resident_x)
        assert torch.equal(y, resident_y)


def test_images_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = on_device("meta", tmp_path, resident=True)

    def full(self: torch.Tensor, device: torch.device) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(DataError, match=r"Numbers.* meta; use resident=false"):
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
    data, _ = on_device("cuda:0", tmp_path, resident=True)
    batches = iter(data.train_dataloader())
    next(batches)  # the order of the epoch is copied
    torch.cuda.set_sync_debug_mode("error")
    try:
        images, labels = next(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(images.flatten() % 2, labels)
