"""A net of a few dozen gates on random bits: every callback test trains it in a fraction of a second."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from lgn_lightning.callbacks import ResumePoint
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn.samplers import StraightThrough
from lgn_lightning.training.classifier import LogicClassifier
from tests.synthetic import SyntheticImages

SHAPE = (1, 2, 3)
CLASSES = 2


def images(count: int, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)
    return TensorDataset(pixels, (pixels[:, 0, 0, 0] > 127).long())


def loader(count: int = 24, batch_size: int = 8, seed: int = 0) -> DataLoader:
    return DataLoader(images(count, seed), batch_size=batch_size)


def net(width: int = 12, depth: int = 2) -> LogicMLP:
    torch.manual_seed(1)
    return LogicMLP(SHAPE, CLASSES, width=width, depth=depth, connections="random", tau=3.0)


def module(of: nn.Module | None = None) -> LogicClassifier:
    # A rate that turns some gates into others at every step.
    return LogicClassifier(
        of if of is not None else net(), num_classes=CLASSES, optimizer=partial(torch.optim.Adam, lr=0.5)
    )


def trainer(folder: Path, *callbacks: pl.Callback, logger: Any = False, **options: Any) -> pl.Trainer:
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), logger=logger, **{**settings, **options})


class Uneven(Sampler):
    """Gives rank 0 all but the last sample. Here and not in its test, so that spawned processes find it."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        if not torch.distributed.is_initialized():
            return iter(range(self.count))
        first = torch.distributed.get_rank() == 0
        return iter(range(self.count - 1) if first else [self.count - 1])

    def __len__(self):
        return len(list(iter(self)))


def assert_a_resumed_run_is_exact(folder: Path, make: Callable[[], Callback]) -> None:
    """Trains straight-through gates with a callback, stopped and resumed, and in one go: the weights are the same."""

    def start(folder: Path, *more: Callback, **options: Any) -> Any:
        torch.manual_seed(1)
        of = LogicMLP(SHAPE, 10, 20, 4, connections="random", sampler=StraightThrough(noise=1.0))
        module = LogicClassifier(of, optimizer=partial(torch.optim.Adam, lr=0.1))
        return trainer(folder, make(), ResumePoint(), *more, max_epochs=-1, max_steps=12, **options), module

    saves = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=7, save_top_k=-1)
    run, straight = start(folder, saves, enable_checkpointing=True)
    run.fit(straight, datamodule=SyntheticImages([*SHAPE], count=53))
    run, resumed = start(folder / "resumed")
    again = SyntheticImages([*SHAPE], count=53)
    run.fit(resumed, datamodule=again, ckpt_path=folder / "step=7.ckpt", weights_only=True)
    assert run.global_step == 12
    for (name, a), b in zip(straight.net.state_dict().items(), resumed.net.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
