"""What a table is to predict: classes, numbers or labels of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def read_target(frame: pd.DataFrame, task: str, source: str, names: list[str]) -> Targets:
    """Classes, numbers or labels of each row, of target columns whose task is known.

    Classes are int64 ``[N]``, numbers float32 ``[N]`` or ``[N, columns]``, labels float32 ``[N, columns]``. ``source``
    is the file, for messages; ``names`` are those of the training.

    Raises:
        DataError: If a value is missing, none of its kind, or a class that is not among the names.
    """
    for name in frame.columns:
        _refuse_gaps(frame[name], f"{source}, target {name!r}")
    if task == "class":
        _require_one(frame, source)
        return _classes(frame.iloc[:, 0], f"{source}, target {frame.columns[0]!r}", names)
    read = numbers_of if task == "number" else truths_of
    columns = [read(frame[name], f"{source}, target {name!r}") for name in frame.columns]
    table = np.stack(columns, axis=1).astype(np.float32)
    if not np.isfinite(table).all():
        raise DataError(f"{source}: a number to predict is infinite, or too large for float32")
    return table[:, 0] if task == "number" and len(columns) == 1 else table


def check_target(frame: pd.DataFrame, source: str) -> None:
    """Refuses target columns, all rows of them, in which a value is missing or all are equal.

    Raises:
        DataError: If so.
    """
    for name, values in frame.items():
        where = f"{source}, target {name!r}"
        _refuse_gaps(values, where)
        if values.nunique() == 1:
            raise DataError(f"{where} is {values.iloc[0]!r} in all rows: there is nothing to learn")


class TargetReader:
    """Reads a target, whole or piece by piece, and finds what it holds.

    Args:
        task: One of `TASKS`; None to find it: several columns are labels, one of text or of few whole numbers classes.
        source: The file, for messages.
    """

    def __init__(self, task: str | None, source: str) -> None:
        self.task, self.source, self.names = task, source, list[str]()
        self._codes: dict[str, int] = {}
        self._parts: list[Targets] = []

    def add(self, frame: pd.DataFrame) -> None:
        """The target columns of the next rows.

        Raises:
            DataError: If a value is missing, or none of its kind.
        """
        self.names = list(frame.columns)
        if self.task is None and len(self.names) > 1:
            self.task = "labels"
        elif self.task is None and frame.iloc[:, 0].dtype.kind not in "iuf":
            self.task = "class"
        if self.task in (None, "class"):
            _require_one(frame, self.source)
            self._add_classes(frame.iloc[:, 0])
        else:
            self._parts.append(read_target(frame, self.task, self.source, self.names))

    def _add_classes(self, values: pd.Series[Any]) -> None:
        import pandas as pd  # takes half a second, which nothing but tables needs

        _refuse_gaps(values, f"{self.source}, target {self.names[0]!r}")
        inverse, found = pd.factorize(values)
        if self.task is None and self._is_number(found.to_numpy(np.float64)):
            self.task = "number"
            known = np.array([float(name) for name in self._codes], np.float32)
            self._parts = [known[codes] for codes in self._parts]
            self.add(values.to_frame())
            return
        codes = [self._codes.setdefault(text, len(self._codes)) for text in pd.Series(found).map(text_of)]
        self._parts.append(np.array(codes, np.int32)[inverse])

    def _is_number(self, found: NDArray[np.float64]) -> bool:
        """Whether the numbers up to here are no classes."""
        known = np.array([float(name) for name in self._codes])
        return bool((found != np.floor(found)).any()) or np.union1d(known, found).size > MOST_CLASSES

    def finish(self) -> tuple[str, list[str], Targets]:
        """The task, names of classes, numbers or labels, and those of all rows, as `read_target` gives them.

        Raises:
            DataError: If there are no rows, or all labels are equal.
        """
        if not self._parts:
            raise DataError(f"{self.source} has no rows")
        labels = np.concatenate(self._parts)
        self._parts.clear()
        if self.task in (None, "class"):
            found, counts = np.array(list(self._codes)), np.bincount(labels)
            order = np.argsort(found)
            order = order[class_order(found[order], counts[order], f"{self.source}, target {self.names[0]!r}")]
            place = np.empty_like(order)
            place[order] = np.arange(order.size)
            return "class", found[order].tolist(), place[labels]
        _refuse_constant(self.names, labels.reshape(len(labels), -1), self.source)
        return str(self.task), self.names, labels


def _refuse_gaps(values: pd.Series[Any], where: str) -> None:
    missing = values.isna()
    if missing.any():
        raise DataError(
            f"{where}: {int(missing.sum()):,} of {len(values):,} values are missing, first in row "
            f"{values.index[missing.to_numpy(bool)][0] + 1}; remove these rows"
        )


def _refuse_constant(names: Iterable[str], table: Targets, source: str) -> None:
    for name, values in zip(names, table.T, strict=True):
        if (values == values[0]).all():
            raise DataError(
                f"{source}, target {name!r} is {values[0]:g} in all rows, or differs by less than float32 holds: "
                "there is nothing to learn; of large numbers predict the difference to one of them"
            )


def _require_one(frame: pd.DataFrame, source: str) -> None:
    if len(frame.columns) != 1:
        raise DataError(f"{source}: classes are in one column; several are --data.task labels or number")


def _classes(values: pd.Series[Any], where: str, names: list[str]) -> Targets:
    found, inverse = np.unique(values.map(text_of).to_numpy(str), return_inverse=True)
    foreign = [name for name in found.tolist() if name not in names]
    if foreign:
        raise DataError(f"{where} has the class {foreign[0]!r}, of which there are no training rows")
    return np.array([names.index(name) for name in found.tolist()], np.int64)[inverse]


def known_labels(values: pd.Series[Any], names: Sequence[str]) -> tuple[list[int | None], list[str]]:
    """Labels of rows that need none, None where there is none or no class of the net; and what is no class of it."""
    numbers = {name: number for number, name in enumerate(names)}
    texts = values.map(text_of, na_action="ignore")
    foreign = sorted(set(texts.dropna()) - set(numbers))
    return [numbers.get(text) for text in texts], foreign


def class_order(found: NDArray[np.str_], counts: NDArray[np.integer[Any]], where: str) -> NDArray[np.intp]:
    """The order of classes that were found so often: numbers in theirs, names in that of the alphabet.

    Raises:
        DataError: If there is one alone, or one of a single row.
    """
    if found.size == 1:
        raise DataError(f"{where} is {str(found[0])!r} in all rows: there is nothing to learn")
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
