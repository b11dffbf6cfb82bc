"""The progress bar of a run that is bounded by its steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from rich.progress import Progress

from lgn_lightning.callbacks import StepProgressBar
from lgn_lightning.callbacks.step_progress import _Speed, _Time
from tests.callbacks.callback_toy import loader, module

STEPS_AN_EPOCH = 3


class Watch(pl.Callback):
    """What the training bar shows after each step: (steps, total), and in the end all that was printed."""

    def __init__(self) -> None:
        self.shown: list[tuple[float, float | None]] = []
        self.printed = ""

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        bar = trainer.progress_bar_callback
        assert isinstance(bar, StepProgressBar)
        assert bar.progress is not None
        with bar.progress.console.capture() as capture:
            bar.progress.console.print(bar.progress.get_renderable())
        self.printed = capture.get()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        bar = trainer.progress_bar_callback
        assert isinstance(bar, StepProgressBar)
        self.shown.append((bar.train_progress_bar.completed, bar.train_progress_bar.total))


def fit(folder: Path, checkpoint: str | None = None, width: int = 80, **options: Any) -> tuple[Watch, pl.Trainer]:
    watch = Watch()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[StepProgressBar(refresh_rate=1, console_kwargs={"width": width}), watch],
        **options,
    )
    trainer.fit(module(), loader(8 * STEPS_AN_EPOCH), loader(8), ckpt_path=checkpoint)
    return watch, trainer


def test_one_bar_over_all_steps(tmp_path: Path) -> None:
    watch, _ = fit(tmp_path, max_steps=8, max_epochs=-1)
    assert watch.shown == [(step, 8) for step in range(1, 9)]


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    watch, _ = fit(tmp_path, max_steps=3, max_epochs=-1, accumulate_grad_batches=2)
    assert watch.shown[-1] == (3, 3)
    assert max(step for step, _ in watch.shown) == 3


def test_epochs_have_bars_of_their_own(tmp_path: Path) -> None:
    watch, _ = fit(tmp_path, max_epochs=2)
    assert watch.shown == [(1 + step % STEPS_AN_EPOCH, STEPS_AN_EPOCH) for step in range(2 * STEPS_AN_EPOCH)]


@pytest.mark.parametrize("steps", [3, 4])
def test_a_resumed_run_goes_on_where_it_was(steps: int, tmp_path: Path) -> None:
    _, trainer = fit(tmp_path, max_steps=steps, max_epochs=-1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    watch, _ = fit(tmp_path, str(tmp_path / "half.ckpt"), max_steps=8, max_epochs=-1)
    assert watch.shown == [(step, 8) for step in range(steps + 1, 9)]


def test_it_fits_80_columns_with_the_names_of_the_loggers(tmp_path: Path) -> None:
    narrow, _ = fit(tmp_path, max_steps=8, max_epochs=-1, log_every_n_steps=1, val_check_interval=2)
    line, *more = narrow.printed.splitlines()
    assert not more
    assert re.search(r"^Training ━+ 8/8 in 0:00:\d\d train/loss: \d+\.\d{3} val/acc_hard: \d\.\d{3}", line)
    wide, _ = fit(tmp_path, width=120, max_steps=8, max_epochs=-1, log_every_n_steps=1, val_check_interval=2)
    assert "steps/s" in wide.printed
    assert "v_num" not in wide.printed + narrow.printed


def test_what_is_not_known_yet_is_no_number() -> None:
    progress = Progress(_Time(), _Speed())
    progress.add_task("Training", total=5)
    [task] = progress.tasks
    assert [str(column.render(task)) for column in (_Time(), _Speed())] == ["ETA -:--:--", ""]
