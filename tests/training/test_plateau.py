"""A rate that waits for validations steps at each, and says so before a training in which there is none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, ModelCheckpoint
from lightning.pytorch.cli import ReduceLROnPlateau as Monitoring
from lightning.pytorch.tuner import Tuner
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lgn_lightning import LogicClassifier
from lgn_lightning.data import Digits
from lgn_lightning.models import LogicMLP
from tests.training.toy import loader, net, trainer


def module(of: Any = None, classes: int = 2) -> LogicClassifier:
    plateau = partial(ReduceLROnPlateau, factor=0.5, patience=0, threshold=1e9)
    return LogicClassifier(of or net(), classes, optimizer=partial(torch.optim.SGD, lr=1.0), lr_scheduler=plateau)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit_val_batches": 0}, "give validation data"),
        ({"max_epochs": 3, "check_val_every_n_epoch": 4}, "check_val_every_n_epoch is 4, and there are 3 epochs"),
        ({"max_epochs": -1, "max_steps": 3}, "the first is due after 4 batches, and there are 3"),
        (
            {"max_epochs": -1, "max_steps": 7, "val_check_interval": 8, "check_val_every_n_epoch": None},
            "the first is due after 8 batches, and there are 7",
        ),
        (
            {"max_epochs": -1, "max_steps": 11, "check_val_every_n_epoch": 3},
            "the first is due after 12 batches, and there are 11",
        ),
        (  # steps of three batches, and of the fourth
            {"max_epochs": -1, "max_steps": 3, "accumulate_grad_batches": 3, "val_check_interval": 8}
            | {"check_val_every_n_epoch": None},
            "the first is due after 8 batches, and there are 7",
        ),
    ],
    ids=str,
)
def test_a_training_without_a_validation_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"ReduceLROnPlateau steps after validations, .*{message}"):
        trainer(tmp_path, **options).fit(module(), loader(), loader())


def test_validation_data_of_no_rows_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give validation data"):
        trainer(tmp_path).fit(module(), loader(), [])


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 3, "check_val_every_n_epoch": 3},
        {"max_epochs": -1, "max_steps": 4},
        {"max_epochs": -1, "max_steps": 3, "val_check_interval": 0.75},
        {"max_epochs": -1, "max_steps": 8, "val_check_interval": 8, "check_val_every_n_epoch": None},
        {"max_epochs": -1, "max_steps": 3, "accumulate_grad_batches": 3, "val_check_interval": 7}
        | {"check_val_every_n_epoch": None},
        {"fast_dev_run": True},
    ],
    ids=str,
)
def test_a_validation_at_the_last_step_is_one(options: dict[str, Any], tmp_path: Path) -> None:
    run = trainer(tmp_path, **options)
    run.fit(module(), loader(), loader())
    assert run.optimizers[0].param_groups[0]["lr"] == 0.5


def test_the_trials_of_tuners_are_no_trainings(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Their few steps end before the first validation, and before the schedule does."""
    options = {"max_epochs": -1, "max_steps": 60, "val_check_interval": 60, "check_val_every_n_epoch": None}
    digits = partial(LogicMLP, (1, 8, 8), 10, width=200, depth=2, tau=5.0)
    run = trainer(tmp_path, **options, callbacks=[BatchSizeFinder(max_trials=2)])
    run.fit(module(digits(), 10), datamodule=Digits())
    assert run.optimizers[0].param_groups[0]["lr"] == 0.5
    cosine = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=60)
    run = trainer(tmp_path, **options, callbacks=[BatchSizeFinder(max_trials=2)])
    run.fit(LogicClassifier(digits(), 10, lr_scheduler=cosine), datamodule=Digits())
    run = trainer(tmp_path, **options, log_every_n_steps=55)
    found = Tuner(run).lr_find(module(digits(), 10), datamodule=Digits(), num_training=20)
    assert found is not None
    assert run.log_every_n_steps == 55
    assert not [str(w.message) for w in recwarn if "CosineAnnealingLR" in str(w.message)]


def test_plateau_scheduler_watches_validation(tmp_path: Path) -> None:
    model = LogicClassifier(
        net(),
        2,
        optimizer=partial(torch.optim.SGD, lr=1.0),
        lr_scheduler=partial(Monitoring, monitor="val/gap_acc", factor=0.5, patience=0, threshold=1e9),
    )
    checkpoints = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    run = trainer(tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=[checkpoints])
    run.fit(model, loader(), loader())
    assert run.optimizers[0].param_groups[0]["lr"] == 0.125  # nothing is an improvement by a factor of 1e9
    kept = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    assert kept["lr_schedulers"][0]["_last_lr"] == [0.25], "a checkpoint goes on with the rate that its run has"


class _Steps(pl.Callback):
    """Writes down the learning rate that each step had."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(("every", "epoch"), [(6, 4), (2, 4)], ids=["epochs end before it", "twice an epoch"])
def test_plateau_scheduler_steps_at_every_validation(tmp_path: Path, every: int, epoch: int) -> None:
    plateau = partial(ReduceLROnPlateau, factor=0.5, patience=0, threshold=1e9)
    model = LogicClassifier(net(), 2, optimizer=partial(torch.optim.SGD, lr=1.0), lr_scheduler=plateau)
    steps = _Steps()
    run = trainer(
        tmp_path,
        max_epochs=-1,
        max_steps=3 * every,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=2,
        callbacks=[steps],
    )
    run.fit(model, loader(50 * epoch), loader())
    assert steps.rates == [1.0] * every + [0.5] * every + [0.25] * every
    run.validate(model, loader(), verbose=False)
    assert run.optimizers[0].param_groups[0]["lr"] == 0.125


def test_plateau_scheduler_says_what_it_lacks(tmp_path: Path) -> None:
    model = LogicClassifier(net(), 2, lr_scheduler=partial(Monitoring, monitor="val/lost"))
    with pytest.raises(ValueError, match=r"watches 'val/lost', which was not logged; there are .*val/loss_hard"):
        trainer(tmp_path).fit(model, loader(), loader())
