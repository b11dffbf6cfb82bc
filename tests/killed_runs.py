"""Runs of ``lgn`` in processes of their own that are killed, and what is left of them."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from lgn_lightning.cli import main as cli
from lgn_lightning.cli import training_cli  # noqa: F401 - what a fork need not import any more
from lgn_lightning.training.module import LogicModule


def run_lgn(arguments: list[str], prepare: Callable[[], None] = lambda: None) -> int:
    """Runs ``lgn`` in a fork, which saves the seconds of importing; returns its exit code, −9 if it was killed."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout = sys.stderr = os.fdopen(os.dup(log), "w", buffering=1)  # not the test runner's capture
            for name in list(logging.root.manager.loggerDict):
                for handler in logging.getLogger(name).handlers:
                    if isinstance(handler, logging.StreamHandler):
                        handler.setStream(sys.stderr)
            prepare()
            code = cli.main(arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_at_step(step: int, delay: float = 0.0) -> Callable[[], None]:
    """Makes the process kill itself in the middle of a training step, or so many seconds later, whatever it does then.

    Seconds from a step and not from the start: a busy machine cannot make the run end before.
    """

    def prepare() -> None:
        compute = LogicModule.training_step

        def training_step(self, batch, batch_idx):
            loss = compute(self, batch, batch_idx)
            if self.trainer.global_step == step:
                if delay:
                    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
                else:
                    os.kill(os.getpid(), signal.SIGKILL)
            return loss

        LogicModule.training_step = training_step  # type: ignore[method-assign]

    return prepare


def kill_at_write(number: int) -> Callable[[], None]:
    """Makes the process kill itself in the middle of writing its n-th checkpoint."""

    def prepare() -> None:
        save, count = torch.save, 0

        def torch_save(content, file):
            nonlocal count
            count += 1
            if count == number:
                file.write(b"half a checkpoint")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            save(content, file)

        torch.save = torch_save

    return prepare


def differences(left: Path, right: Path) -> list[str]:
    """What two runs do not have in common: bits of their checkpoints, rows of their metrics, results."""
    found = []
    for name in ("best.ckpt", "last.ckpt"):
        a, b = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (left, right))
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            found += [f"{name}: {where}" for where in unequal(a[part], b[part], part)]
    if sorted(rows(left)) != sorted(rows(right)):
        found.append("metrics.csv")
    return found


def rows(run: Path) -> list[str]:
    return (run / "metrics.csv").read_text().splitlines()


def unequal(a, b, where: str) -> list[str]:
    if isinstance(a, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [where]
        return [text for key in a for text in unequal(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list):
        if len(a) != len(b):
            return [where]
        return [text for i, (x, y) in enumerate(zip(a, b, strict=True)) for text in unequal(x, y, f"{where}.{i}")]
    return [] if a == b else [where]
