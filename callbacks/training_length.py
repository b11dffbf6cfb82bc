"""How far a training is, for callbacks that change something on the way."""

import math

import lightning.pytorch as pl

from lgn_lightning.base import lightning_private


def training_steps(trainer: pl.Trainer, who: str) -> float:
    """Optimizer steps of the whole training, from ``max_steps`` or ``max_epochs``; ValueError if not known."""
    steps = float(lightning_private.training_steps(trainer))
    if not 0 < steps < math.inf:
        raise ValueError(f"{who} needs the length of the training: set max_steps or max_epochs")
    return steps


def begins_step(trainer: pl.Trainer, batch: int) -> bool:
    """Whether a batch, by its number in the epoch, is the first of an optimizer step.

    With ``accumulate_grad_batches`` a step has several batches, and ``global_step`` stands still in between.
    """
    return batch % trainer.accumulate_grad_batches == 0


def progress(trainer: pl.Trainer, steps: float) -> float:
    """Share of the training that is done: 0 at the first step, 1 at the last one and after."""
    return min(trainer.global_step / max(steps - 1, 1), 1.0)
