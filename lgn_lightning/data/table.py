"""`Table`: a data module of a CSV or Parquet file, a frame or arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from torch import Tensor

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.columns import Column, Comparisons, Rows
from lgn_lightning.base.errors import DataError, note, some
from lgn_lightning.base.settings_text import option
from lgn_lightning.data.base import SampleDataModule, Samples
from lgn_lightning.data.column_summary import summary_of_columns
from lgn_lightning.data.splits import split_rows
from lgn_lightning.data.table_columns import (
    counts_rows,
    find_columns,
    make_table_rows,
    numbers_of,
    require_columns,
    without_marks,
)
from lgn_lightning.data.table_file import as_frame, read_table
from lgn_lightning.data.table_remedies import Options
from lgn_lightning.data.table_target import TASKS, TargetReader, Targets, check_target, read_target
from lgn_lightning.data.thresholds import Encoding

if TYPE_CHECKING:
    import pandas as pd


#: A table and its name for messages.
_Named: TypeAlias = "tuple[pd.DataFrame, str]"


class RowSet(NamedTuple):
    """Rows and labels in memory.

    Attributes:
        rows: uint8 ``[N, bytes]``: each row is the C struct of its columns, see `lgn_lightning.base.columns`.
        labels: classes int64 ``[N]``, numbers float32 ``[N]``, or labels float32 ``[N, labels]``.
    """

    rows: Tensor
    labels: Tensor


class _Read(NamedTuple):
    """A table that was read: training and test rows, and what was found out of the former."""

    task: str
    columns: tuple[Column, ...]
    class_names: list[str]
    rows: Rows
    labels: Targets
    groups: NDArray[Any] | None
    weights: NDArray[np.float64] | None
    test_rows: Rows
    test_labels: Targets


class Table(SampleDataModule):
    """Rows of a table: numbers, whole numbers, booleans and categories, with missing values, and what to predict.

    What a column holds, its categories and its thresholds are found in the training rows and shown before training;
    they become part of the net (:class:`~lgn_lightning.nn.Columns`) and of every file that is made of it.

    Args:
        path: A CSV file (also ``.gz``; separator, decimal mark and encoding are found) or a Parquet file; ``None``
            takes ``root``.
        target: Column to predict, or several.
        task: What it holds: ``"class"``, ``"number"`` or ``"labels"``, true or false, a column each; found if ``None``:
            several columns are labels, one with fractions or of more than 30 whole numbers is a number.
        test_path: A file of test rows; ``None`` takes ``test_fraction`` of the rows, of every class alike.
        test_fraction: Share of the rows to test on, by ``split_seed``; 0 for none.
        drop: Columns to leave out.
        group: Column of groups, such as the patient, that must not be on both sides of a split; left out, too.
        weights: Column of weights, left out, too: training rows are repeated in proportion to them, by ``split_seed``
            where that is no whole number. Validation and test count every row once.
        types: By column, where it is found wrongly: ``numeric``, ``float32``, ``float64``, ``integer``, ``boolean``,
            ``category``.
        missing: Texts that stand for a missing value, besides the usual ones (empty, NA, NaN, null, …).
        thresholds: Most thresholds of a column.
        spacing: ``"quantile"`` or ``"even"``, see :class:`~lgn_lightning.data.thresholds.Encoding`.
        given: By column: another number of thresholds, or the thresholds.
        codes: By column: another code: ``one-hot``, ``binary`` or ``gray``.
        show: Whether to show the columns before training.
        batch_size: Training rows a batch; a table of fewer rows makes one of them all.
        val_fraction: Share of the training rows to validate on, of every class alike.
        most_passes: ``lgn fit`` trains no more steps than make so many passes over the training rows, 200 or more.
        **kwargs: More arguments of :class:`~lgn_lightning.data.base.SampleDataModule`.

    Raises:
        ValueError: If an argument is out of range.
    """

    not_from_files: ClassVar[dict[str, Any]] = {"root": None, "path": None, "test_path": None}
    noun: ClassVar = "rows"

    def __init__(
        self,
        path: str | None = None,
        target: str | list[str] | None = None,
        test_path: str | None = None,
        test_fraction: float = 0.2,
        drop: list[str] | None = None,
        group: str | None = None,
        weights: str | None = None,
        types: dict[str, str] | None = None,
        missing: list[str] | None = None,
        thresholds: int = 32,
        spacing: str = "quantile",
        given: dict[str, int | list[float]] | None = None,
        codes: dict[str, str] | None = None,
        show: bool = True,
        batch_size: int = 128,
        val_fraction: float = 0.15,
        task: str | None = None,
        most_passes: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, val_fraction=val_fraction, **kwargs)
        if most_passes is not None and not most_passes > 0:
            raise ValueError(f"most_passes must be positive, got {most_passes}")
        if not 0 <= test_fraction < 1:
            raise ValueError(f"test_fraction must be in [0, 1), got {test_fraction}")
        self.path = None if path is None else Path(path).expanduser()
        self.test_path = None if test_path is None else Path(test_path).expanduser()
        check_choice("task", task, (None, *TASKS))
        self.target = [target] if isinstance(target, str) else list(target or ())
        self._task = task
        self.test_fraction, self.most_passes = test_fraction, most_passes
        self.drop = list(drop or ())
        self.group, self.weights = group, weights
        self.types = dict(types or {})
        self.missing = list(missing or ())
        self.encoding = Encoding(thresholds, spacing, dict(given or {}), dict(codes or {}))
        self.show = show
        self._frame: pd.DataFrame | None = None

    @classmethod
    def of_frame(cls, frame: Any, target: str | list[str], **kwargs: Any) -> Table:
        """A pandas or polars frame, an Arrow table, or a mapping of names to arrays; other arguments as the class."""
        table = cls(target=target, **kwargs)
        table._frame = as_frame(frame)
        return table

    @classmethod
    def of_arrays(cls, x: ArrayLike, y: ArrayLike, names: Sequence[str] | None = None, **kwargs: Any) -> Table:
        """Features ``[N, columns]`` and classes ``[N]``; without names columns are called ``x0``, ``x1``, …."""
        features = np.asarray(x)
        if features.ndim != 2:
            raise DataError(f"features must be [rows, columns], got {list(features.shape)}")
        labels = np.asarray(y)
        if labels.shape != (len(features),):
            raise DataError(f"{len(features)} rows need as many classes, got {list(labels.shape)}")
        names = [f"x{index}" for index in range(features.shape[1])] if names is None else list(names)
        if len(names) != features.shape[1]:
            raise DataError(f"{len(names)} names for {features.shape[1]} columns")
        return cls.of_frame(
            {name: features[:, i] for i, name in enumerate(names)} | {"class": labels}, "class", **kwargs
        )

    # What the base asks.

    @property
    def class_names(self) -> list[str]:
        """The classes, numbers in their order, names in that of the alphabet; or the target columns."""
        return self._read.class_names

    @property
    def task(self) -> str:
        """What the target holds."""
        return self._read.task

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the net reads."""
        return self._read.columns

    @cached_property
    def comparisons(self) -> Comparisons:
        """What makes bits of a row, chosen by the rows that train."""
        self.setup("fit")
        return self.encoding.fit(self.columns, self.training_rows)

    @property
    def training_rows(self) -> Rows:
        """The rows that train."""
        rows: Rows = self.training_samples()[0].numpy().view(self._read.rows.dtype)[:, 0]
        return rows

    @property
    def num_bits(self) -> int:
        """Bits of a row."""
        return len(self.comparisons)

    @property
    def has_test(self) -> bool:
        """Whether there are test rows."""
        return self.test_path is not None or self.test_fraction > 0

    def _load_train(self) -> RowSet:
        return _row_set(self._read.rows, self._read.labels)

    def _load_test(self) -> RowSet:
        if not self.has_test:
            raise DataError("this table has no test rows: give test_path, or a test_fraction above 0")
        return _row_set(self._read.test_rows, self._read.test_labels)

    def _groups_and_weights(self) -> tuple[NDArray[Any] | None, NDArray[np.float64] | None]:
        """Those of the training rows, where there are some."""
        return self._read.groups, self._read.weights

    def _split_train(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        (groups, weights), used = self._groups_and_weights(), self.rows_but_fold
        if used is not None:
            groups, weights = (part if part is None else part[used.numpy()] for part in (groups, weights))
        kept, held_out = np.arange(len(labels)), np.zeros(0, np.int64)
        if self.val_fraction:
            kept, held_out = self._split(labels.numpy(), self.val_fraction, groups)
        if weights is not None:
            kept = _repeated(kept, weights[kept], self.split_seed)
        return torch.from_numpy(kept), torch.from_numpy(held_out)

    def _fold_of(self, labels: Tensor) -> Tensor:
        names, _ = self._groups_and_weights()
        if names is None:
            return super()._fold_of(labels)
        groups = np.unique(names, return_inverse=True)[1]
        order = np.random.default_rng(self.split_seed).permutation(groups.max() + 1)
        return torch.from_numpy(order[groups] % self.folds)

    def _split(
        self, labels: Targets, fraction: float, groups: NDArray[Any] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        classes = labels if labels.dtype == np.int64 else None
        return split_rows(len(labels), fraction, self.split_seed, classes, groups)

    def _check_samples(self, data: Samples) -> RowSet:
        return RowSet(*super()._check_samples(data))

    def check_columns(self, columns: Sequence[Column]) -> None:
        """Refuses a net that was trained on other columns, types or categories: it would read other values.

        Raises:
            DataError: If so; the message names the first difference.
        """
        for own, of_net in zip_longest(self.columns, columns):
            if own != of_net:
                kinds = [
                    "nothing" if column is None else f"{column.name!r} ({some([column.kind, *column.categories], 4)})"
                    for column in (own, of_net)
                ]
                raise DataError(
                    f"the table has {kinds[0]} where the net was trained on {kinds[1]}: lgn predict takes tables of "
                    "other values; to measure, give the table of the training"
                )

    def every_row(self) -> RowSet | None:
        """All rows that there can be and what is true of them, where a rule says it; of a table that is read, None."""
        return None

    def setup(self, stage: str | None = None) -> None:
        """Reads the table, and shows its columns before a training; see the base."""
        super().setup(stage)
        if stage in ("fit", None):
            self.batch_size = min(self.batch_size, self.training_size)
        if stage == "fit" and self.show and self.trainer is not None and self.trainer.is_global_zero:
            self.show_columns()

    # Parts.

    @cached_property
    def _read(self) -> _Read:
        (frame, source), test_table = self._tables()
        if not self.target:
            raise DataError(f"say what to predict: --data.target <column>; {source} has {some(frame.columns)}")
        frame = self._without_dropped(frame, source)
        check_target(frame[self.target], source)
        target = TargetReader(self._task, source)
        target.add(frame[self.target])
        task, names, labels = target.finish()
        groups = None if self.group is None else frame[self.group].astype(str).to_numpy(str)
        weights = None
        if self.weights is not None:
            weights = self._check_weights(numbers_of(frame[self.weights], self._weights_in(source)), source)
        features = frame.drop(columns=[*self.target, *self._asides])
        if features.empty:
            raise DataError(f"{source} has no column besides the target {', '.join(self.target)}")
        if test_table is None and self.test_fraction > 0:
            train, test = self._split(labels, self.test_fraction, groups)
            test_frame, test_labels = features.iloc[test].reset_index(drop=True), labels[test]
            features, labels = features.iloc[train].reset_index(drop=True), labels[train]
            groups = None if groups is None else groups[train]
            weights = None if weights is None else weights[train]
            test_source = source
        elif test_table is not None:
            test_frame, test_source = test_table
            require_columns(test_frame.columns, self.target, test_source, "the target")
            test_labels = read_target(test_frame[self.target], task, test_source, names)
            test_frame = test_frame.drop(columns=self.target)
        else:
            test_frame, test_labels, test_source = features.iloc[:0], labels[:0], source
        columns = self._find_columns(features, source)
        rows, _ = make_table_rows(columns, features, source)
        gaps = [column.name for column in columns if column.is_missing(rows[column.name]).any()]
        test_rows, notes = make_table_rows(columns, test_frame, test_source, gaps)
        notes.extra = [name for name in notes.extra if name not in (*self.drop, *self._asides, *self.target)]
        for line in notes.lines():
            note(f"test rows: {line}")
        return _Read(task, columns, names, rows, labels, groups, weights, test_rows, test_labels)

    def _find_columns(self, features: pd.DataFrame, source: str) -> tuple[Column, ...]:
        columns = find_columns(features, self.types, source, Options(self.drop))
        for given, what in ((self.encoding.given, "data.given"), (self.encoding.codes, "data.codes")):
            require_columns([column.name for column in columns], list(given), source, what)
        if keys := [column.name for column in columns if counts_rows(features[column.name])]:
            names, drop = ", ".join(map(repr, keys)), option("data.drop", [*self.drop, *keys])
            note(f"{source}: numbers that only count the rows, as keys do, are in {names}; {drop} leaves them out")
        return columns

    def _tables(self) -> tuple[_Named, _Named | None]:
        """The table, and that of the test rows if they are not a share of it; each with its name for messages."""
        path = self.root if self.path is None else self.path
        if self._frame is not None and self.path is None:
            table = self._with_gaps(self._frame), "the frame"
        elif path.is_dir() or (not path.exists() and self.path is None):
            raise DataError(f"say where the table is: --data.path <CSV or Parquet file>; {path} is none")
        else:
            table = self._with_gaps(read_table(path)), str(path)
        if self.test_path is None:
            return table, None
        return table, (self._with_gaps(read_table(self.test_path)), str(self.test_path))

    def _with_gaps(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Takes the user's marks of missing values out."""
        return without_marks(frame, self.missing)

    def _without_dropped(self, frame: pd.DataFrame, source: str) -> pd.DataFrame:
        require_columns(frame.columns, self.target, source, "the target, data.target")
        require_columns(frame.columns, self.drop, source, "data.drop")
        require_columns(frame.columns, self._asides, source, "data.group or data.weights")
        both = [name for name in self.target if name in (*self.drop, *self._asides)]
        if both:
            raise DataError(f"the target {both[0]!r} is among the columns to leave out")
        return frame.drop(columns=self.drop)

    @property
    def _asides(self) -> list[str]:
        """Columns that say something of a row and are no features."""
        return [name for name in (self.group, self.weights) if name is not None]

    def _weights_in(self, source: str) -> str:
        return f"{source}, weights {self.weights!r}"

    def _check_weights(self, weights: NDArray[np.float64], source: str) -> NDArray[np.float64]:
        if not (weights >= 0).all() or not 0 < weights.sum() < np.inf:  # false for NaN
            raise DataError(
                f"{self._weights_in(source)}: weights are 0 or more, not all of them 0, none missing or infinite"
            )
        return weights

    def show_columns(self) -> None:
        """Prints a table of the columns, and what each became."""
        target = f"target {some(self.target)}: {some(self.class_names)}"
        Console().print(summary_of_columns(self.columns, self._read.rows, self.comparisons, target))


def _repeated(rows: NDArray[np.int64], weights: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Rows, each as often as four times its share of the mean weight says: the mean row comes four times."""
    draws = np.random.default_rng(seed).random(len(rows))
    return np.repeat(rows, np.floor(4 * weights / weights.mean() + draws).astype(np.int64))


def _row_set(rows: Rows, labels: Targets) -> RowSet:
    flat = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), rows.dtype.itemsize)
    return RowSet(torch.from_numpy(flat), torch.from_numpy(labels))
