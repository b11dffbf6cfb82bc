"""Reads ``metrics.csv``, which a run appends to, and which a kill may have cut."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from lgn_lightning.base.errors import RunError


def read_metrics(file: Path) -> list[dict[str, str]]:
    """Reads the rows that were written whole.

    Args:
        file: A file of `RunLogger` or Lightning's ``CSVLogger``.

    Returns:
        One dict a row, by the names in the file's first line; ``step`` among them, a whole number. Cells may be empty.

    Raises:
        RunError: If it is no such file; the message names the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a kill may have cut the last row
        reader = csv.DictReader(io.StringIO(whole))
        rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(file, str(error)) from error
    if rows and "step" not in (reader.fieldnames or ()):
        raise _damaged(file, "its first line names no column step")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise _damaged(file, f"row {number} has not as many cells as the first line")
        if not re.fullmatch(r"[0-9]{0,18}", row["step"], re.ASCII):
            raise _damaged(file, f"row {number} has the step {row['step'][:40]!r}")
    return [row for row in rows if row["step"]]


def _damaged(file: Path, what: str) -> RunError:
    return RunError(f"{file} is no table of metrics: {what}; move it away")
