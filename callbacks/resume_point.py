"""Writes checkpoints from which a killed run resumes exactly."""

import math
import random
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lgn_lightning.base.lightning_private import (
    end_restart,
    is_rehearsal,
    log_interval,
    validates_after_batch,
    write_last,
)
from lgn_lightning.runs.folder import RunFolder


class ResumePoint(pl.Callback):
    """Writes ``checkpoints/resume.ckpt`` every few steps; a run resumed from it ends with exactly the same weights.

    Lightning's checkpoints hold weights, optimizer, schedules, callbacks and the loader's position. This callback adds
    what they lack to every checkpoint of the run: the states of the random number generators of each rank, the last
    logged metrics, which plateau schedules read, and the time spent training.

    A resume point is written after a step that leaves nothing to do. That is neither the last step of an epoch, nor one
    that a validation follows, nor one within an accumulation of gradients, nor one whose metrics are still to be logged
    (unless every step has some). A resume point that is due at such a step is written a step later. Ctrl-C waits for
    the end of the step and leaves a resume point; a second one stops at once. So does SIGTERM in a single process, but
    one that comes in a validation stops at once, and the run resumes from the last resume point.

    Args:
        every_n_steps: Smallest number of optimizer steps between two resume points.
        max_overhead: Share of the training time that may be spent on writing. If writing takes long, the distance
            between two resume points grows.
    """

    def __init__(self, every_n_steps: int = 100, max_overhead: float = 0.02) -> None:
        if every_n_steps < 1 or max_overhead <= 0:
            raise ValueError(
                f"ResumePoint(every_n_steps={every_n_steps}, max_overhead={max_overhead}): must be positive"
            )
        self.every_n_steps = every_n_steps
        self.max_overhead = max_overhead
        #: Seconds that this run has trained, those before it was resumed included.
        self.seconds = 0.0
        #: Processor time of the same, of all threads of this process.
        self.cpu_seconds = 0.0
        self._path: Path | None = None
        self._last_step = 0
        self._next_step = every_n_steps
        self._resumed: dict[str, Any] | None = None
        self._trainer: pl.Trainer | None = None
        self._clock = self._cpu_clock = 0.0
        self._unflushed = False
        self._stop: signal.Signals | None = None  # which of those below came
        self._handlers: dict[signal.Signals, Any] = {}  # those of before
        self._save_last: dict[ModelCheckpoint, Any] = {}  # what the user gave

    @property
    def state_key(self) -> str:
        """Independent of the arguments: a changed distance must not lose the state."""
        return "ResumePoint"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the run's folder, on all ranks: Lightning sends the choice of rank zero to the others."""
        self._trainer = trainer
        if stage == "fit" and not is_rehearsal(trainer):
            self._path = RunFolder(Path(trainer.log_dir or trainer.default_root_dir)).resume_point

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restores the state: this is the last hook before a resumed run asks for its first batch."""
        self._last_step = trainer.global_step
        self._next_step = self._last_step + self.every_n_steps
        self._clock, self._cpu_clock = time.perf_counter(), time.process_time()
        if self._resumed is not None:
            states = self._resumed["random"]
            if len(states) == trainer.world_size:
                _set_random_state(states[trainer.global_rank])
            else:
                processes = f"{len(states)} processes and {trainer.world_size} resume it"
                rank_zero_warn(f"the checkpoint was written by {processes}: random numbers start again")
            trainer.callback_metrics.update(self._resumed["metrics"])
            self.seconds = self._resumed["seconds"]
            self.cpu_seconds = self._resumed.get("cpu_seconds", 0.0)
            self._resumed = None
        self._stop = None
        alone = trainer.world_size == 1 and self._path is not None
        if alone and threading.current_thread() is threading.main_thread():
            for number, handler in ((signal.SIGINT, self._on_interrupt), (signal.SIGTERM, self._on_terminate)):
                self._handlers[number] = signal.signal(number, handler)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Writes the metrics of the resume point's own step to disk, if it logged any."""
        end_restart(trainer)
        if self._unflushed:
            self._unflushed = False
            _flush(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._path is None:
            return
        due = trainer.global_step >= self._next_step or self._stop or trainer.received_sigterm
        if due and _nothing_left_to_do(trainer, batch_idx):
            self._write(trainer, self._path)
            if self._stop == signal.SIGINT:
                raise KeyboardInterrupt
            if self._stop == signal.SIGTERM:
                self._stop = None
                self._handlers[signal.SIGTERM](signal.SIGTERM, None)  # the Trainer's, which ends here

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._release()
        if isinstance(exception, (KeyboardInterrupt, SIGTERMException)) and self._path is not None and trainer.training:
            behind = "" if trainer.global_step == self._last_step else f" (from step {self._last_step})"
            rank_zero_info(
                f"Stopped at step {trainer.global_step}; resume: lgn fit --resume {self._path.parent.parent}{behind}"
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock; ``last.ckpt`` becomes the end of the training."""
        self._tick()
        self._release()
        if self._stop is not None:  # no later step could write a resume point
            raise KeyboardInterrupt if self._stop == signal.SIGINT else SIGTERMException
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                self._save_last[callback] = callback.save_last
                write_last(callback, wanted=not is_rehearsal(trainer))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Gives checkpoint callbacks their ``save_last`` back."""
        self._release()
        for callback, given in self._save_last.items():
            callback.save_last = given
        self._save_last.clear()
        self._trainer = None

    def state_dict(self) -> dict[str, Any]:
        """What Lightning's checkpoints lack; called on all ranks, because each has a random state of its own."""
        if self._clock:
            self._tick()
        clocks = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        return {"random": _random_states(), "metrics": self._logged(), **clocks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state until training starts: loaders that are still to be built may draw random numbers."""
        self._resumed = state_dict

    def _write(self, trainer: pl.Trainer, path: Path) -> None:
        earlier = self.seconds
        self._tick()
        step_seconds = (self.seconds - earlier) / max(1, trainer.global_step - self._last_step)
        start = time.perf_counter()
        _flush(trainer)
        trainer.save_checkpoint(path, weights_only=False)
        writing = time.perf_counter() - start
        distance = max(self.every_n_steps, math.ceil(writing / (self.max_overhead * max(step_seconds, 1e-9))))
        # All ranks write at the same step.
        distance = trainer.strategy.broadcast(distance) if trainer.world_size > 1 else distance
        self._last_step, self._next_step = trainer.global_step, trainer.global_step + distance
        self._unflushed = True

    def _logged(self) -> dict[str, torch.Tensor]:
        if self._trainer is None:
            return {}
        return {name: value.detach().cpu().clone() for name, value in self._trainer.callback_metrics.items()}

    def _tick(self) -> None:
        now, cpu_now = time.perf_counter(), time.process_time()
        self.seconds += now - self._clock
        self.cpu_seconds += cpu_now - self._cpu_clock
        self._clock, self._cpu_clock = now, cpu_now

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = signal.SIGINT
        rank_zero_info("Stopping after this step; Ctrl-C again stops at once.")

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        if self._stop or self._trainer is None or not self._trainer.training:
            self._handlers[signal.SIGTERM](number, frame)
        else:
            self._stop = signal.SIGTERM

    def _release(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def _nothing_left_to_do(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether nothing of the steps so far is left to do when this one ends."""
    interval = log_interval(trainer)
    return not (
        trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        or batch_idx + 1 >= trainer.num_training_batches
        or (batch_idx + 1) % trainer.accumulate_grad_batches
        or 0 <= trainer.max_steps <= trainer.global_step
        or (interval > 1 and trainer.global_step % interval == 0)
        or validates_after_batch(trainer)
    )


def _flush(trainer: pl.Trainer) -> None:
    for logger in trainer.loggers:
        logger.save()


def _random_states() -> list[dict[str, Any]]:
    """The random states of all ranks, in their order."""
    mine = _random_state()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        states: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(states, mine)
        return states
    return [mine]


def _random_state() -> dict[str, Any]:
    """As plain values and tensors: checkpoints are read with nothing else."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() and torch.cuda.is_initialized() else None,  # type: ignore[no-untyped-call]
        "numpy": (str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
