"""Trains on, and ships the average of the weights."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn


class AverageWeights(EMAWeightAveraging):
    """Validates, tests and exports an exponential moving average of the weights, in place of their last values.

    Lightning's own callback, without what breaks a net of gates: it averages buffers, too, which are wires here, and a
    test after the training would measure the last weights and not the average.

    Args:
        decay: Share of the average that a step keeps, in (0, 1).
        update_starting_at_step: First step that counts.

    Raises:
        ValueError: If ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.99, update_starting_at_step: int | None = None) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"AverageWeights(decay={decay}): must be in (0, 1)")
        super().__init__(use_buffers=False, decay=decay, update_starting_at_step=update_starting_at_step)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continues a training with its last weights; everything else takes the average, which is the checkpoint's."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
