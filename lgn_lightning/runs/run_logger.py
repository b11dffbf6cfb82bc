"""``metrics.csv``: the logger that every run has; the other loggers take its folder."""

import csv
import io
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment  # type: ignore[attr-defined]
from lightning.pytorch.utilities import rank_zero_only

from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.runs.metrics_file import read_metrics


class RunLogger(CSVLogger):
    """``metrics.csv`` in the run's folder, with the rows that an uninterrupted run would have.

    Args:
        save_dir: Folder of all runs.
        name: Name of the recipe.
        version: Name of the run's folder; the next free ``version_N`` if not given.
        resume_at: First step of a resumed run: earlier rows are kept, later ones are logged anew.
        file: Name of the file, if it is not that of the training.
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
        if self._writer is None:
            self._writer = self._experiment = _Writer(self.log_dir, self._resume_at, self._file)
        return self._writer

    @property
    def folder(self) -> Path | None:
        """The run's folder; None as long as it has not been chosen."""
        return None if self._version is None else Path(self.log_dir)

    def _get_next_version(self) -> int:
        # Made at once, so that two runs that start together get two folders. Rank zero alone chooses; Lightning tells
        # the other ranks (Trainer.log_dir).
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
        kept = [row for row in read_metrics(path) if int(row["step"]) < (self._resume_at or 0)]
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
