"""A learning rate that waits for validations: `ReduceLROnPlateau`."""

from __future__ import annotations

import math
import sys

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lgn_lightning.base.lightning_private import training_steps


class Plateau:
    """Steps a ``ReduceLROnPlateau`` after each validation.

    Lightning would step it at the end of epochs, which may come before the first validation or after several.

    Args:
        scheduler: What is stepped. It watches ``val/loss_hard`` if it has no ``monitor``.
    """

    def __init__(self, scheduler: ReduceLROnPlateau) -> None:
        self.scheduler = scheduler
        self.monitor: str = getattr(scheduler, "monitor", "val/loss_hard")

    @property
    def config(self) -> LRSchedulerConfigType:
        """For Lightning, which with this frequency only saves the state."""
        return {"scheduler": self.scheduler, "monitor": self.monitor, "frequency": sys.maxsize}

    def check(self, trainer: pl.Trainer) -> None:
        """A ValueError if the training that starts ends before its first validation: the rate would never change."""
        none = "ReduceLROnPlateau steps after validations, but this fit has none"
        if not trainer.enable_validation or (trainer.val_dataloaders is not None and not sum(trainer.num_val_batches)):
            raise ValueError(f"{none}: give validation data")
        epochs, every = trainer.max_epochs or 0, trainer.check_val_every_n_epoch
        if every is not None and 0 < epochs < every:
            raise ValueError(f"{none}: check_val_every_n_epoch is {every}, and there are {epochs} epochs")
        first, batches = trainer.val_check_batch, _batches(trainer)
        if first is None:  # the clock decides
            return
        if every is not None:
            first += (every - 1) * trainer.num_training_batches
        if 0 < batches < first < math.inf:
            raise ValueError(f"{none}: the first is due after {first:,} batches, and there are {batches:,}")

    def step(self, trainer: pl.Trainer) -> None:
        """A ValueError if what it watches was not logged."""
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            there = ", ".join(sorted(metrics))
            raise ValueError(f"ReduceLROnPlateau watches {self.monitor!r}, which was not logged; there are {there}")
        self.scheduler.step(metrics[self.monitor].item())


def _batches(trainer: pl.Trainer) -> float:
    """Batches of the whole training; not positive, or ∞, if they are not known."""
    steps, of_epoch, of_step = training_steps(trainer), trainer.num_training_batches, trainer.accumulate_grad_batches
    if not 0 < steps < math.inf or of_epoch == math.inf:
        return steps * of_step
    # The last step of an epoch takes what is left.
    epochs, rest = divmod(int(steps), math.ceil(of_epoch / of_step))
    return int(epochs * of_epoch + rest * of_step)
