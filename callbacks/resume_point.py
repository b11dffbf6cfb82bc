"""A run that was killed goes on as if it had not been: a checkpoint to resume from, every so many steps."""

from __future__ import annotations

import math
import random
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lgn_lightning.base.lightning_private import (
    end_restart,
    is_rehearsal,
    log_interval,
    validates_after_batch,
    write_last_again,
)

#: The file below a run's folder that ``lgn fit --resume`` goes on from.
RESUME_POINT: Final = Path("checkpoints", "resume.ckpt")


class ResumePoint(pl.Callback):
    """Writes ``checkpoints/resume.ckpt`` every so many steps; a run resumed from it ends with the very same weights.

    Lightning's checkpoints hold weights, optimizer, schedules, callbacks and the loader's position. What they lack is
    added to every checkpoint of the run: the states of the random number generators of each rank, the last logged
    metrics (plateau schedules read them) and the time spent training.

    A resume point follows a step after which nothing is left to do: not the last step of an epoch, none that a
    validation follows, none in the middle of accumulating gradients, and none whose metrics are still to be logged
    (unless every step's are). When one is due at such a step it is written a step later. Ctrl-C waits for the end of
    the step and leaves a resume point; a second one stops at once.

    Args:
        every_n_steps: Optimizer steps between two resume points, at least.
        max_overhead: Share of the training time that may be spent on writing them. The distance grows with a net that
            takes long to write.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, every_n_steps: int = 100, max_overhead: float = 0.02) -> None:
        if every_n_steps < 1 or max_overhead <= 0:
            raise ValueError(
                f"ResumePoint(every_n_steps={every_n_steps}, max_overhead={max_overhead}): both must be above 0"
            )
        self.every_n_steps = every_n_steps
        self.max_overhead = max_overhead
        #: Seconds that this run has trained, those before it was resumed included.
        self.seconds = 0.0
        self._path: Path | None = None
        self._last_step = 0
        self._next_step = every_n_steps
        self._resumed: dict[str, Any] | None = None
        self._trainer: pl.Trainer | None = None
        self._clock = 0.0
        self._unflushed = False
        self._stop = False
        self._handler: Any = None

    @property
    def state_key(self) -> str:
        """The same whatever the arguments are: another distance must not lose the state."""
        return "ResumePoint"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the run's folder, on all ranks: Lightning tells the others what rank zero chose."""
        self._trainer = trainer
        if stage == "fit" and not is_rehearsal(trainer):
            self._path = Path(trainer.log_dir or trainer.default_root_dir) / RESUME_POINT

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes up the state of the checkpoint: this is the last hook before a resumed run asks for its first batch."""
        self._last_step = trainer.global_step
        self._next_step = self._last_step + self.every_n_steps
        self._clock = time.perf_counter()
        if self._resumed is not None:
            states = self._resumed["random"]
            if len(states) == trainer.world_size:
                _set_random_state(states[trainer.global_rank])
            else:
                rank_zero_warn(
                    f"the checkpoint was written by {len(states)} processes and {trainer.world_size} go on: random "
                    "numbers start anew"
                )
            trainer.callback_metrics.update(self._resumed["metrics"])
            self.seconds = self._resumed["seconds"]
            self._resumed = None
        if threading.current_thread() is threading.main_thread() and trainer.world_size == 1:
            self._stop, self._handler = False, signal.signal(signal.SIGINT, self._on_interrupt)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Brings the metrics of the resume point's own step to disk, if it logged any."""
        end_restart(trainer)
        if self._unflushed:
            self._unflushed = False
            _flush(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes a resume point where one is due."""
        if self._path is None:
            return
        due = trainer.global_step >= self._next_step or self._stop or trainer.received_sigterm
        if due and _nothing_left_to_do(trainer, batch_idx):
            self._write(trainer, self._path)
            if self._stop:
                raise KeyboardInterrupt

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Says how to go on after Ctrl-C."""
        self._release()
        if isinstance(exception, KeyboardInterrupt) and self._path is not None and trainer.training:
            rank_zero_info(
                f"Stopped at step {trainer.global_step}. Go on with:  lgn fit --resume {self._path.parent.parent}"
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock; ``last.ckpt`` becomes the end of the training."""
        self._tick()
        self._release()
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                write_last_again(callback)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Gives Ctrl-C back."""
        self._release()
        self._trainer = None

    def state_dict(self) -> dict[str, Any]:
        """What Lightning's checkpoints lack; called on all ranks, as each of them has its random state."""
        if self._clock:
            self._tick()
        return {"random": _random_states(), "metrics": self._logged(), "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state until training starts: building loaders may still draw random numbers."""
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
        # All ranks write together, so all have to agree on when.
        distance = trainer.strategy.broadcast(distance) if trainer.world_size > 1 else distance
        self._last_step, self._next_step = trainer.global_step, trainer.global_step + distance
        self._unflushed = True

    def _logged(self) -> dict[str, torch.Tensor]:
        if self._trainer is None:
            return {}
        return {name: value.detach().cpu().clone() for name, value in self._trainer.callback_metrics.items()}

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        rank_zero_info("Stopping after this step; Ctrl-C again stops at once.")

    def _release(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None


def _nothing_left_to_do(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether everything that belongs to the steps up to this one is done when this one ends."""
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
    """Plain values and tensors, which checkpoints are read back with."""
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
