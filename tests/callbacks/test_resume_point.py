"""Resume points do not change a run: every validation counts all images.

tests/cli/test_resume.py kills and resumes runs.
"""

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from lgn_lightning import LogicClassifier
from lgn_lightning.callbacks import ResumePoint
from lgn_lightning.data import Digits
from lgn_lightning.models import LogicMLP


class ValidatedImages(pl.Callback):
    """Counts the images of each validation."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.counts.append(0)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.counts[-1] += len(batch[0])


@pytest.mark.parametrize("bound", [{"max_steps": 12}, {"max_epochs": 1}])
def test_every_validation_counts_all_images(tmp_path: Path, bound: dict[str, int]) -> None:
    counter = ValidatedImages()
    data = Digits(batch_size=100, eval_batch_size=37)
    trainer = pl.Trainer(
        **bound,
        accelerator="cpu",
        val_check_interval=3,
        callbacks=[ResumePoint(every_n_steps=2), counter],
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(LogicClassifier(LogicMLP([1, 8, 8], 10, width=100, depth=1), 10), data)
    assert len(counter.counts) >= 4
    assert set(counter.counts) == {data.val_dataloader().num_samples}
    assert (tmp_path / "checkpoints" / "resume.ckpt").is_file()


def test_a_fit_that_kept_nothing_ends_with_last_and_leaves_the_callback_as_it_was(tmp_path: Path) -> None:
    saves = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/acc_hard")
    trainer = pl.Trainer(
        max_steps=2,
        accelerator="cpu",
        limit_val_batches=0,
        callbacks=[ResumePoint(), saves],
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(LogicClassifier(LogicMLP([1, 8, 8], 10, width=100, depth=1), 10), Digits())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    assert saves.save_last is None


class Interrupt(pl.Callback):
    """Ctrl-C in the last step."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == trainer.max_steps:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_in_the_last_step_stops(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        max_steps=4,
        accelerator="cpu",
        limit_val_batches=0,
        callbacks=[Interrupt(), ResumePoint(every_n_steps=2)],
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer.fit(LogicClassifier(LogicMLP([1, 8, 8], 10, width=100, depth=1), 10), Digits(batch_size=100))
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "checkpoints" / "resume.ckpt").is_file()
