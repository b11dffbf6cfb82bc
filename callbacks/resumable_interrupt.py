"""Ctrl-C leaves a checkpoint to go on from."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info


class ResumableInterrupt(pl.Callback):
    """Writes ``interrupted.ckpt`` beside the other checkpoints when Ctrl-C stops the training, and says how to go on.

    Args:
        recipe: Recipe to name in the message.
    """

    def __init__(self, recipe: str) -> None:
        self.recipe = recipe

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Saves the checkpoint on all ranks, as distributed strategies need."""
        if not isinstance(exception, KeyboardInterrupt) or not trainer.training or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"
        path = folder / "interrupted.ckpt"
        trainer.save_checkpoint(path)
        rank_zero_info(f"Stopped at step {trainer.global_step}. Go on with:  lgn fit {self.recipe} --ckpt_path {path}")
