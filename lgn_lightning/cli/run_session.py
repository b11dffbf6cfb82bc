"""The folder of a run while ``lgn fit``, ``validate`` or ``test`` works in it: lock, loggers, and how it is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lgn_lightning.base.errors import CheckpointError, LgnError, UsageError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.base.programs import hangup_like_sigterm
from lgn_lightning.cli.trained import TrainedNet
from lgn_lightning.runs.checkpoints import read_checkpoint
from lgn_lightning.runs.folder import RUNS, RunFolder
from lgn_lightning.runs.loggers import make_loggers, split_names
from lgn_lightning.runs.run_logger import RunLogger
from lgn_lightning.runs.wandb_logger import RunWandbLogger


class RunSession:
    """One command at work in the folder of a run.

    Args:
        command: ``fit``, ``validate`` or ``test``.
        recipe: The recipe's name.
        resume: The run to resume; None for a new one.
        trained: What the other commands measure.
    """

    def __init__(
        self, command: str, recipe: str, resume: RunFolder | None = None, trained: TrainedNet | None = None
    ) -> None:
        self.command = command
        self.recipe = recipe
        self.resume = resume
        self.trained = trained
        self._logger: RunLogger | None = None
        self._lock: FileLock | None = None

    def check(self, config: Any) -> None:
        """Checks folder and checkpoint before minutes are spent on data and nets; ``config`` is that of the command.

        Raises:
            CheckpointError: If there is nothing to measure, or ``ckpt_path`` cannot be read.
            UsageError: If the run's name is none for a folder.
            RunError: If there is a run of that name.
        """
        if self.command != "fit":
            if self.trained is None:
                raise CheckpointError(f"`lgn {self.command}` needs a trained net: lgn {self.command} {self._newest()}")
            return
        name, path = config.run_name, config.ckpt_path
        if name is not None and (name in ("", ".", "..") or Path(name).name != name):
            raise UsageError(
                f"--run_name {name!r}: give a name for a folder below {RUNS / self.recipe}, without slashes"
            )
        if name is not None and self.resume is None and _makes_folder(config):
            # On all ranks, before any of them writes.
            RunFolder(RUNS / self.recipe / name).check_new()
        if path is not None and path not in ("best", "last", "hpc"):
            read_checkpoint(path)

    def _newest(self) -> str:
        found = sorted(RUNS.glob(f"{self.recipe}/*/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
        if found:
            return str(found[-1].parent.parent)
        return f"<run folder or checkpoint>; `lgn fit {self.recipe}` leaves one"

    def trainer_arguments(self, config: Any) -> dict[str, Any]:
        """The trainer's loggers, or its folder where it shall log nothing; none where the user says where files go."""
        if not _makes_folder(config):
            return {}
        self._logger = logger = self._make_logger(config)
        if config.trainer.logger is False:
            return {"default_root_dir": logger.log_dir}
        return {"logger": make_loggers(split_names(config.logger), logger)}

    def _make_logger(self, config: Any) -> RunLogger:
        if self.trained is not None:
            folder = self.trained.folder if len(self.trained.folder.parts) > 1 else self.trained.folder.resolve()
            return RunLogger(folder.parent.parent, folder.parent.name, folder.name, file=f"{self.command}.csv")
        if self.resume is None:
            return RunLogger(RUNS, self.recipe, config.run_name)
        folder = self.resume.path
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self._lock = self.resume.lock()  # before the logger cuts what will be logged again
        step = read_checkpoint(config.ckpt_path)["global_step"] if config.ckpt_path else 0
        return RunLogger(folder.parent.parent, folder.parent.name, folder.name, resume_at=step)

    def begin(self, folder: Path, settings: str) -> None:
        """Writes the settings, atomically: a run that is killed here resumes with its whole settings or not at all."""
        name = self.command
        if self.command == "fit":
            run, name = RunFolder(folder), "config"
            self._lock = self._lock or run.lock()
            run.remove_leftovers()
        atomic_write_text(folder / f"{name}.yaml", settings)

    @contextmanager
    def running(self, trainer: Trainer) -> Iterator[None]:
        """Closes loggers and folder behind the trainer, however it ends.

        Raises:
            KeyboardInterrupt: After Ctrl-C, for which Lightning's own exit code is 1.
            SystemExit: After SIGTERM, for which it is 0.
        """
        try:
            with hangup_like_sigterm():
                yield
        except BaseException as error:
            self._close(trainer, failed=True)
            # A run that Ctrl-C or SIGTERM stopped can be resumed.
            if self.command == "fit" and isinstance(error, Exception):
                self._discard_untrained(trainer)
            if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            if isinstance(error, SIGTERMException):
                raise SystemExit(128 + signal.SIGTERM) from None
            raise
        self._close(trainer, failed=trainer.interrupted)

    def _close(self, trainer: Trainer, failed: bool) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                logger.finish(int(failed))
        if self._lock is not None:
            self._lock.release()

    def _discard_untrained(self, trainer: Trainer) -> None:
        """Removes the folder of a run that failed before its first step, so that its name is free."""
        if trainer.global_step or self.resume is not None or not trainer.is_global_zero:
            return
        if self._logger is not None and self._logger.folder is not None:
            RunFolder(self._logger.folder).discard()

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Makes one error of whatever a net of a file raises: nobody can have trained it.

        Raises:
            CheckpointError: In the place of anything that is no error of ours.
        """
        try:
            yield
        except Exception as error:
            if self.trained is None or isinstance(error, LgnError):
                raise
            raise CheckpointError(f"{self.trained.chosen.path} cannot be measured: {error}") from error


def _makes_folder(config: Any) -> bool:
    """Whether files go to ``runs/<recipe>/``, and not where a logger or a root folder of the user's own says."""
    trainer = config.trainer
    elsewhere = trainer.default_root_dir if trainer.logger is False else trainer.logger not in (None, True)
    return not elsewhere and not trainer.fast_dev_run


class SaveConfig(SaveConfigCallback):
    """Leaves the settings in the run's folder, ``config.yaml`` for ``fit``, and tells the loggers."""

    def __init__(self, parser: LightningArgumentParser, config: Any, session: RunSession) -> None:
        super().__init__(parser, config, overwrite=session.resume is not None, save_to_log_dir=False)
        self._session = session
        self._folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks for the folder on all ranks: rank zero alone would wait forever for the others."""
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)
        run = RunFolder(self._folder)
        if stage == "fit" and not self.overwrite and trainer.strategy.broadcast(run.config.is_file()):
            run.check_new()
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """On rank zero alone, once."""
        self._session.begin(self._folder, str(pl_module.recipe))
        for logger in trainer.loggers[1:]:  # metrics.csv has no place for settings
            logger.log_hyperparams(self.config.as_dict())
