"""How far a training is, for what changes on the way."""

from __future__ import annotations

import math

import lightning.pytorch as pl


def training_steps(trainer: pl.Trainer, who: str) -> float:
    """Optimizer steps of the whole training, known from ``max_steps`` or ``max_epochs``.

    Args:
        trainer: The trainer, in a fit.
        who: Names the asker in the error.

    Raises:
        ValueError: If the length is not known.
    """
    steps = float(trainer.estimated_stepping_batches)
    if not 0 < steps < math.inf:
        raise ValueError(f"{who} needs the length of the training: set max_steps or max_epochs")
    return steps
