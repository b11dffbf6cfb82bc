"""A progress bar over all steps of a run that is bounded by a number of steps, as most recipes are."""

from datetime import timedelta
from typing import Any, Final

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.text import Text

#: Columns that two metrics take, ``train/loss: 0.123 val/acc_hard: 0.987``, and all else but bar and numbers of steps.
_METRICS: Final = 38
_REST: Final = len("Validation") + len("ETA 0:00:00") + 4
#: Columns of a terminal from which on the speed is shown, too.
_WIDE: Final = 110


class StepProgressBar(RichProgressBar):
    """Lightning's rich progress bar; in a run bounded by ``max_steps`` alone, one bar from the first to the last step.

    Lightning draws a new bar in every epoch, and an epoch of a small data set is a few steps: its bar does not show how
    much of the run is left. A run bounded by epochs or time has a bar an epoch. All fit into 80
    columns. Takes the arguments of Lightning's.
    """

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        """Bar, steps, time that is left; in a wide terminal also the speed."""
        width = 80 if self._console is None else self._console.width
        steps = 2 * len(str(self.total_train_batches)) + 1 if trainer.state.fn == "fit" else 9
        columns = [
            TextColumn("{task.description}"),
            BarColumn(max(4, min(40, width - _METRICS - _REST - steps)), complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            _Time(),
        ]
        return [*columns, _Speed()] if width >= _WIDE else columns

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        """Metrics by the names that loggers have, without the number of a version."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

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


class _Time(ProgressColumn):
    """How long it still takes, and at the end how long it took."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"in {_clock(task.finished_time)}", style="dim")
        return Text(f"ETA {_clock(task.time_remaining)}")


class _Speed(ProgressColumn):
    """Steps a second, once they are known."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f} steps/s" if speed else "", style="dim")


def _clock(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
