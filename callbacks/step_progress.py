"""A progress bar over all steps of a run that is bounded by a number of steps, as most recipes are."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT


class StepProgressBar(RichProgressBar):
    """Lightning's rich progress bar; in a run bounded by ``max_steps`` alone, one bar from the first to the last step.

    Lightning draws a new bar in every epoch, and an epoch of a small data set is a few steps: its bar does not show how
    much of the run is left. A run bounded by epochs or time has the bars of Lightning. Takes the same arguments.
    """

    @property
    def total_train_batches(self) -> int | float:
        """Length of the training bar."""
        return self.trainer.max_steps if self._one_bar else super().total_train_batches

    @property
    def _one_bar(self) -> bool:
        return self.trainer.max_epochs == -1 and self.trainer.max_steps > 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the bar, in a resumed run at the step that is resumed; later epochs continue it."""
        if not self._one_bar:
            super().on_train_epoch_start(trainer, pl_module)
        elif self.train_progress_bar_id is None and self.progress is not None and self.is_enabled:
            self.train_progress_bar_id = self.progress.add_task(
                f"[{self.theme.description}]Training" if self.theme.description else "Training",
                total=self.total_train_batches,
                completed=trainer.global_step,
            )
            self.refresh()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        if self._one_bar:
            self.on_train_epoch_start(trainer, pl_module)  # a run resumed within an epoch does not call it
            batch_idx = trainer.global_step - 1
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
