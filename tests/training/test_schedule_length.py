"""Schedules follow the steps of the training where the recipe has them equal; everything else is one warning."""

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning import LogicClassifier
from lgn_lightning.cli.training_cli import TrainingCLI
from lgn_lightning.runs.recipes import find_recipe
from lgn_lightning.training.schedule_length import LEAST_STEPS

REHEARSAL = ["--trainer.fast_dev_run=true", "--model.net.width=300", "--trainer.accelerator=cpu"]
SCHEDULE = "--model.lr_scheduler"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], 3000),
        (["--trainer.max_steps=30"], 30),
        (["--trainer.max_steps", "9000", f"{SCHEDULE}.eta_min=0.01"], 9000),
        (["--trainer.max_steps=30", f"{SCHEDULE}.T_max=3000"], 3000),
        (["--trainer.max_steps=30", f"{SCHEDULE}.init_args.T_max", "50"], 50),
        (["--trainer.max_steps=30", "--model.scheduler_interval=epoch"], 3000),
    ],
    ids=str,
)
def test_the_length_follows_the_steps_unless_it_is_given(
    overrides: list[str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    cli = TrainingCLI("fit", find_recipe("digits"), [*overrides, *REHEARSAL])
    config = cli.config.fit
    assert config.model.lr_scheduler.init_args.T_max == expected
    follows = expected == config.trainer.max_steps != 3000
    assert ("the schedule follows: model.lr_scheduler.init_args.T_max is" in caplog.text) == follows
    assert f'"T_max": {expected}' in cli.model.recipe or f"T_max: {expected}\n" in cli.model.recipe


@pytest.mark.parametrize(
    ("overrides", "steps", "interval"),
    [
        ([], 1000, 50),
        (["--data.most_passes=null"], 6000, 300),
        (["--trainer.max_steps=100"], 100, 100),
        (["--trainer.max_steps=700"], 700, 233),
        (["--data.most_passes=0.1"], LEAST_STEPS, 10),
        (["--data.most_passes=50.7"], 500, 25),  # of 507
        (["--trainer.accumulate_grad_batches=2"], 492, 24),  # of 500, 12 steps between two validations
        (["--trainer.devices=2", "--trainer.strategy=ddp_fork"], 500, 25),
    ],
    ids=str,
)
def test_small_tables_train_fewer_steps(
    overrides: list[str], steps: int, interval: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 rows, of which 800 train in batches of 80: a pass is 10 steps."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=1000)
    pd.DataFrame({"x": x, "y": np.where(x > 0, "a", "b")}).to_csv("t.csv", index=False)
    data = ["--data.path=t.csv", "--data.target=y", "--data.val_fraction=0", "--data.batch_size=80"]
    config = TrainingCLI("fit", find_recipe("table"), [*data, *overrides, *REHEARSAL]).config.fit
    assert config.trainer.max_steps == config.model.lr_scheduler.init_args.T_max == steps
    assert config.trainer.val_check_interval == interval


def warnings_of(
    length: int, trainer: dict[str, Any], interval: str = "step", start: Path | None = None, end: Path | None = None
) -> list[str]:
    """What a training of two batches an epoch warns of, with a cosine of a length; it may start or end at a file."""
    data = TensorDataset(torch.rand(4, 5), torch.zeros(4, dtype=torch.long))
    module = LogicClassifier(
        torch.nn.Linear(5, 10),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=length),
        scheduler_interval=interval,
    )
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing"), False)
    fit = pl.Trainer(**quiet, **trainer, accelerator="cpu")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit.fit(module, DataLoader(data, batch_size=2), ckpt_path=start)
    if end is not None:
        fit.save_checkpoint(end)
    return [str(w.message) for w in caught if "CosineAnnealingLR" in str(w.message)]


@pytest.mark.parametrize(
    ("length", "trainer", "interval"),
    [(4, {"max_steps": 4}, "step"), (4, {"max_epochs": 2}, "step"), (2, {"max_epochs": 2}, "epoch")],
    ids=str,
)
def test_another_length_is_one_warning_that_names_the_key(length: int, trainer: dict, interval: str) -> None:
    assert warnings_of(length, trainer, interval) == []
    [warning] = warnings_of(7, trainer, interval)
    assert f"made for 7 {interval}s and the training has {length}, so" in warning
    assert f"set model.lr_scheduler.init_args.T_max to {length}" in warning


def test_steps_of_more_batches_in_later_epochs_are_counted() -> None:
    plan = GradientAccumulationScheduler({0: 1, 1: 2})
    assert warnings_of(4, {"max_epochs": 3, "callbacks": [plan]}) == []
    assert warnings_of(3, {"max_epochs": 3, "max_steps": 3, "callbacks": [plan]}) == []
    [warning] = warnings_of(6, {"max_epochs": 3, "callbacks": [plan]})
    assert "the training has 4, so" in warning


def test_of_a_longer_training_from_a_checkpoint_the_warning_says_so(tmp_path: Path) -> None:
    assert warnings_of(4, {"max_steps": 4}, end=tmp_path / "last.ckpt") == []
    [warning] = warnings_of(6, {"max_steps": 6}, start=tmp_path / "last.ckpt")
    assert "made for 4 steps and the training has 6, so" in warning
    assert "it comes from the checkpoint" in warning
