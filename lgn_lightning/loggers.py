"""Loggers of a run: all of them write into one folder, ``runs/<recipe>/version_N``, and go on where a run goes on."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment  # type: ignore[attr-defined]
from lightning.pytorch.utilities import rank_zero_only

from lgn_lightning.errors import RecipeError
from lgn_lightning.files import atomic_write_text
from lgn_lightning.wandb_logger import RunWandbLogger


class RunLogger(CSVLogger):
    """``metrics.csv`` in the run's folder, with the rows that an uninterrupted run would have.

    Args:
        save_dir: Folder of all runs.
        name: Name of the recipe.
        version: Name of the run's folder; the next free ``version_N`` if not given.
        resume_at: The step that a resumed run goes on with: earlier rows are kept, later ones are logged anew.
        file: Another name of the file, of what is measured after the training.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str,
        version: str | None = None,
        resume_at: int | None = None,
        file: str = "metrics.csv",
    ) -> None:
        super().__init__(os.fspath(save_dir), name=name, version=version)
        self._resume_at = resume_at
        self._file = file
        self._writer: _Writer | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """Writes the file."""
        if self._writer is None:
            self._writer = self._experiment = _Writer(self.log_dir, self._resume_at, self._file)
        return self._writer

    @property
    def folder(self) -> Path | None:
        """The run's folder; None as long as it has not been chosen."""
        return None if self._version is None else Path(self.log_dir)

    def _get_next_version(self) -> int:
        # Made right away: of two runs that start together, each gets a folder of its own. Other ranks are told by
        # Lightning what rank zero chose (Trainer.log_dir) and must not choose.
        number = super()._get_next_version()
        while rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            try:
                Path(self.root_dir, f"version_{number}").mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
        return number


class _Writer(ExperimentWriter):
    """Lightning's writer deletes an older metrics.csv, and loses all of it when it is killed while adding a column."""

    def __init__(self, log_dir: str, resume_at: int | None, file: str) -> None:
        self._resume_at = resume_at
        self.NAME_METRICS_FILE = file
        super().__init__(log_dir)

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a kill may have cut the last row
        rows = list(csv.DictReader(io.StringIO(whole)))
        kept = [row for row in rows if int(row["step"]) < (self._resume_at or 0)]
        self.metrics_keys = sorted({name for row in kept for name, value in row.items() if value})
        self._write(kept)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with Path(self.metrics_file_path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self._write(rows, fieldnames)

    def _write(self, rows: list[dict[str, Any]], fieldnames: list[str] | None = None) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames or self.metrics_keys, extrasaction="ignore")
        if rows or fieldnames:
            writer.writeheader()
            writer.writerows(rows)
            atomic_write_text(self.metrics_file_path, text.getvalue())
        else:
            Path(self.metrics_file_path).unlink()


class RunTensorBoardLogger(TensorBoardLogger):
    """TensorBoard's event files in the run's folder.

    Args:
        run: The logger whose folder is the run's.
    """

    def __init__(self, run: RunLogger) -> None:
        super().__init__(run.save_dir, name=run.name, version="")
        self._run = run

    @property
    def log_dir(self) -> str:
        """The run's folder."""
        return self._run.log_dir


_MAKERS: Final[dict[str, Callable[[RunLogger], Logger]]] = {
    "tensorboard": RunTensorBoardLogger,
    "wandb": RunWandbLogger,
}


def make_loggers(names: Sequence[str], run: RunLogger) -> list[Logger]:
    """Makes the loggers of a run.

    Args:
        names: Any of ``csv`` (always there: reports are made of it), ``tensorboard``, ``wandb``.
        run: The run's own logger; becomes the first.

    Returns:
        The loggers, each name once.

    Raises:
        RecipeError: If a name is unknown, or its package is not installed.
    """
    loggers: list[Logger] = [run]
    for name in dict.fromkeys(names):
        if name == "csv":
            continue
        if name not in _MAKERS:
            raise RecipeError(f"there is no logger {name!r}; take some of csv, {', '.join(_MAKERS)}")
        try:
            loggers.append(_MAKERS[name](run))
        except ModuleNotFoundError as error:
            raise RecipeError(f"logger {name} needs a package that is not installed: pip install {name}") from error
    return loggers


def split_names(names: str | Sequence[str]) -> list[str]:
    """``"csv,wandb"`` or a list of names, as a list."""
    return [n for n in re.split(r"[,\s]+", names) if n] if isinstance(names, str) else list(names)
