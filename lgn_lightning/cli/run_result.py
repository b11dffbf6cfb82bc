"""The end of ``lgn fit``: the chosen checkpoint, tested once, and what is written of it in ``result.json``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from lgn_lightning.base.errors import ExportError
from lgn_lightning.base.lightning_private import callbacks_of
from lgn_lightning.callbacks import ResumePoint
from lgn_lightning.cli.summary import Summary, hardware, print_summary, summarize, with_compiled
from lgn_lightning.data.base import SampleDataModule
from lgn_lightning.runs.folder import RunFolder
from lgn_lightning.training.module import LogicModule


def record_result(trainer: Trainer, model: LogicModule, data: SampleDataModule, origin: Mapping[str, Any]) -> None:
    """Tests the checkpoint that validation chose, leaves ``result.json`` in the run's folder and prints the result.

    Args:
        trainer: The trainer, right after its fit.
        model: What it trained.
        data: The data module of both.
        origin: Where the result comes from: ``recipe``, ``seed`` and ``commit``.

    Raises:
        ExportError: If the compiled C and the hard net disagree, which the result says, too.
    """
    chosen = trainer.checkpoint_callback
    # Without validation there is no best one, and the last one is the end of the training.
    path = (chosen.best_model_path or chosen.last_model_path) if isinstance(chosen, ModelCheckpoint) else ""
    if path and not Path(path).is_file():  # it was that of the run that this one continues
        rank_zero_warn(f"the best checkpoint {path} is not there any more: the last weights are tested")
        path = ""
    trainer.test(model, datamodule=data, ckpt_path=path or None, verbose=False, weights_only=True)
    folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked on all ranks: rank zero broadcasts it
    if "test/score_hard" not in trainer.callback_metrics:
        rank_zero_warn("limit_test_batches=0 leaves no image to test on: there is no result")
    elif trainer.is_global_zero:
        summary, run = summarize(trainer, model, data, Path(path) if path else None), RunFolder(folder)
        about = dict(origin) | _training(trainer)
        run.finish(about | _values(summary, folder))  # first: what may fail below must not take it along
        try:
            summary = with_compiled(summary, model, data)
        except ExportError as error:
            run.finish(about | _values(dataclasses.replace(summary, c_differs=str(error)), folder))
            raise
        run.finish(about | _values(summary, folder))
        print_summary(summary)


def _training(trainer: Trainer) -> dict[str, Any]:
    """How long and on what a run was trained, and what its checkpoint was chosen by: never the test split."""
    clock = next((c for c in callbacks_of(trainer) if isinstance(c, ResumePoint)), None)
    chosen = trainer.checkpoint_callback
    score = chosen.best_model_score if isinstance(chosen, ModelCheckpoint) else None
    return {
        "steps": trainer.global_step,
        "train_seconds": None if clock is None else round(clock.seconds, 1),
        "train_cpu_seconds": None if clock is None else round(clock.cpu_seconds, 1),
        "monitor": chosen.monitor if isinstance(chosen, ModelCheckpoint) else None,
        "validation": None if score is None else float(score),
        "hardware": hardware(trainer),
        "torch": torch.__version__,
    }


def _values(summary: Summary, folder: Path) -> dict[str, Any]:
    """The fields of a summary, with paths relative to the run's folder."""
    return {
        name: os.path.relpath(value, folder) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(summary).items()
    }
