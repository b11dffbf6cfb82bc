"""Everything that the package uses of Lightning and that is private there, or public without a type.

Written for Lightning 2.6 (pyproject.toml); ``tests/base/test_lightning_private.py`` fails in a release where a name has
another meaning. Private methods that a subclass overrides are at the subclass: ``cli/training_cli.py``,
``runs/run_logger.py``, ``runs/wandb_logger.py``.
"""

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint, WeightAveraging
from lightning.pytorch.strategies import DDPStrategy, Strategy


class PlainHookName(pl.LightningModule):
    """A module whose note of the current hook is a plain attribute.

    Lightning sets ``_current_fx_name`` 40 times a step. ``nn.Module`` looks for parameters and modules in every
    attribute that is set, which was a fifth of the time of Lightning's loop.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


def datamodule_of(module: pl.LightningModule) -> Any:
    """The data module that a module trains on; None if there is none, or no trainer."""
    return getattr(module._trainer, "datamodule", None)


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]


def averages_buffers(callback: pl.Callback) -> bool:
    return isinstance(callback, WeightAveraging) and bool(callback._use_buffers)


def callbacks_id(trainer: pl.Trainer) -> int:
    """Tells the trials of Lightning's tuners from trainings: they replace the list of callbacks."""
    return id(callbacks_of(trainer))


def log_interval(trainer: pl.Trainer) -> int:
    """Steps between two rows of the loggers; 0 if nothing is logged."""
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]


def set_log_interval(trainer: pl.Trainer, steps: int) -> None:
    trainer.log_every_n_steps = steps  # type: ignore[attr-defined]


def log_short_runs(trainer: pl.Trainer) -> None:
    """Logs ten steps of a run that has fewer steps than lie between two rows of the loggers."""
    steps = training_steps(trainer)
    if 0 < steps < log_interval(trainer):
        set_log_interval(trainer, max(1, int(steps) // 10))


def training_steps(trainer: pl.Trainer) -> float:
    """Optimizer steps of the whole training, from ``max_steps`` or ``max_epochs``; 0, -1 or ∞ if they are not known.

    Lightning's estimate takes the batches that a step has now for those of all epochs.
    """
    steps, epochs, batches = trainer.estimated_stepping_batches, trainer.max_epochs or 0, trainer.num_training_batches
    plans = [part for part in callbacks_of(trainer) if isinstance(part, GradientAccumulationScheduler)]
    if not plans or epochs < 1 or batches == math.inf:
        return steps
    planned = sum(math.ceil(batches / plans[0].get_accumulate_grad_batches(epoch)) for epoch in range(epochs))
    return min(planned, trainer.max_steps) if trainer.max_steps >= 0 else planned


def logs_this_step(trainer: pl.Trainer) -> bool:
    """Whether loggers get what is logged in the step that is being made."""
    interval = log_interval(trainer)
    return bool(interval) and (trainer.global_step + 1) % interval == 0


def skip_capture_checks(trainer: pl.Trainer) -> None:
    """Spares optimizers on a CPU torch's question at each step of Adam whether a GPU is recording a graph.

    It looks for a driver every time, which takes longer than a step of a small net.
    """
    for optimizer in trainer.optimizers:
        optimizer._accelerator_graph_capture_health_check = lambda: None  # type: ignore[method-assign]


def is_rehearsal(trainer: pl.Trainer) -> bool:
    """Whether the trainer runs a few batches to find errors (``fast_dev_run``)."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def detects_anomalies(trainer: pl.Trainer) -> bool:
    """Whether every backward pass is searched for NaN (``detect_anomaly``)."""
    return bool(trainer._detect_anomaly)


def shards_data(trainer: pl.Trainer) -> bool:
    """Whether each process is to get a share of the data (``use_distributed_sampler``)."""
    return bool(trainer._accelerator_connector.use_distributed_sampler)


def needs_all_gradients(strategy: Strategy) -> bool:
    """Whether a strategy is a DDP that waits for the gradients of all parameters."""
    return isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters")


def validates_after_batch(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the training batch that is being processed."""
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def end_restart(trainer: pl.Trainer) -> None:
    """Lets a resumed epoch behave like any other.

    In the epoch in which a run is resumed, Lightning leaves out plateau schedules, because its checkpoints lack the
    metric that they watch. The public property would also tell the validation loop to resume within a validation.
    """
    trainer.fit_loop._restarting = False


def write_last(checkpoint: ModelCheckpoint, wanted: bool) -> None:
    """Makes a callback write ``last.ckpt`` at the end of the training, or not, whatever it wrote before.

    Lightning writes it together with the best checkpoint, and at the end only in a process that wrote none: the file of
    a resumed run would differ from that of an uninterrupted one, and a rehearsal would leave one. A training that kept
    nothing, as there was no validation to keep it at, ends with ``last.ckpt`` even without ``save_last``.
    """
    if wanted and checkpoint.save_top_k and not checkpoint.best_model_path:
        checkpoint.save_last = True
    checkpoint._last_checkpoint_saved = "" if wanted else "none is wanted"
