"""The progress bar of a run that is bounded by its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from lgn_lightning.callbacks import StepProgressBar
from tests.callbacks.callback_toy import loader, module

STEPS_AN_EPOCH = 3


class Watch(pl.Callback):
    """What the training bar shows after each step: (steps, total)."""

    def __init__(self) -> None:
        self.shown: list[tuple[float, float | None]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        bar = trainer.progress_bar_callback
        assert isinstance(bar, StepProgressBar)
        self.shown.append((bar.train_progress_bar.completed, bar.train_progress_bar.total))


def fit(folder: Path, checkpoint: str | None = None, **options: Any) -> tuple[Watch, pl.Trainer]:
    watch = Watch()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[StepProgressBar(refresh_rate=1), watch],
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
