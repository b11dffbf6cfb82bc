"""What a table is to predict: classes, numbers or labels of its rows."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.table_columns import numbers_of, text_of, truths_of

if TYPE_CHECKING:
    import pandas as pd

#: What the target columns hold: one of many classes; a number, or several; labels that are true or not, one a column.
TASKS: Final = ("class", "number", "labels")

Targets = NDArray[Any]


#: A column of more different whole numbers is taken for a number, and not for classes.
MOST_CLASSES: Final = 30


def task_of(frame: pd.DataFrame) -> str:
    """What target columns hold, of which the user says nothing."""
    if len(frame.columns) > 1:
        return "labels"
    values = frame.iloc[:, 0].dropna()
    if values.dtype.kind not in "iuf":
        return "class"
    numbers = np.unique(values.to_numpy(np.float64))
    return "number" if numbers.size > MOST_CLASSES or (numbers != np.floor(numbers)).any() else "class"


def read_target(
    frame: pd.DataFrame, task: str, source: str, names: list[str] | None = None
) -> tuple[list[str], Targets]:
    """Names of classes, numbers or labels, and those of each row.

    Args:
        frame: The target columns.
        task: One of `TASKS`.
        source: The file, for messages.
        names: The classes of the training, if they are known.

    Returns:
        Classes int64 ``[N]``, numbers float32 ``[N]`` or ``[N, columns]``, labels float32 ``[N, columns]``.

    Raises:
        DataError: If a value is missing, none of its kind, or all are equal.
    """
    for name in frame.columns:
        where, values = f"{source}, target {name!r}", frame[name]
        missing = int(values.isna().sum())
        if missing:
            raise DataError(f"{where}: {missing:,} of {len(values):,} values are missing; remove these rows")
        if names is None and values.nunique() == 1:
            raise DataError(f"{where} is {values.iloc[0]!r} in all rows: there is nothing to learn")
    if task == "class":
        if len(frame.columns) != 1:
            raise DataError(f"{source}: classes are in one column; several are --data.task labels or number")
        return _classes(frame.iloc[:, 0], f"{source}, target {frame.columns[0]!r}", names)
    read = numbers_of if task == "number" else truths_of
    columns = [read(frame[name], f"{source}, target {name!r}") for name in frame.columns]
    table = np.stack(columns, axis=1).astype(np.float32)
    if not np.isfinite(table).all():
        raise DataError(f"{source}: a number to predict is infinite, or too large for float32")
    return list(frame.columns), table[:, 0] if task == "number" and len(columns) == 1 else table


def _classes(values: pd.Series[Any], where: str, names: list[str] | None) -> tuple[list[str], Targets]:
    texts = values.map(text_of).to_numpy(str)
    found, inverse, counts = np.unique(texts, return_inverse=True, return_counts=True)
    if names is not None:
        foreign = [name for name in found.tolist() if name not in names]
        if foreign:
            raise DataError(f"{where} has the class {foreign[0]!r}, of which there are no training rows")
        return names, np.array([names.index(name) for name in found.tolist()], np.int64)[inverse]
    order = class_order(found, counts, where)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return found[order].tolist(), place[inverse].astype(np.int64)


def class_order(found: NDArray[np.str_], counts: NDArray[np.integer[Any]], where: str) -> NDArray[np.intp]:
    """The order of classes that were found so often: numbers in theirs, names in that of the alphabet.

    Raises:
        DataError: If there is one alone, or one of a single row.
    """
    if found.size == 1:
        raise DataError(f"{where} is {found[0]!r} in all rows: there is nothing to learn")
    once = found[counts == 1].tolist()
    if len(once) > max(1, found.size // 2):
        raise DataError(
            f"{where} has {found.size:,} different values in {counts.sum():,} rows: it is no class; --data.task number "
            "and --model.target number predict a number"
        )
    if once:
        raise DataError(
            f"{where}: the class {once[0]!r} has one row, which cannot be both learned and tested; join it with "
            "another class, or remove it"
        )
    with suppress(ValueError):  # names
        return np.argsort(found.astype(np.float64), kind="stable")
    return np.argsort(found, kind="stable")
