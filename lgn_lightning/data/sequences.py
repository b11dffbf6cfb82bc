"""`Sequences`: a data module of series of numbers, one class each, or one a step."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.columns import Column, Comparisons, Rows, make_rows, row_dtype
from lgn_lightning.base.errors import DataError
from lgn_lightning.base.padding import IGNORED, PADDING
from lgn_lightning.data.base import SampleDataModule, Samples
from lgn_lightning.data.sequence_file import TASKS, SequenceSet, read_sequences, windows_of
from lgn_lightning.data.splits import split_rows
from lgn_lightning.data.table_columns import require_columns
from lgn_lightning.data.table_file import is_table_file, read_table
from lgn_lightning.data.table_target import class_order
from lgn_lightning.data.thresholds import Encoding


class Sequences(SampleDataModule):
    """Series of numbers, with missing values and of different lengths, and the class of each or of each step.

    A step is a row of a table whose columns are the channels: thresholds of each channel are found out of the training
    sequences, and become part of the net (:class:`~lgn_lightning.nn.Columns`) and of every file that is made of it. A
    channel with missing values has a bit that says so. Samples are uint8 ``[N, steps, bytes]``; behind the end of a
    sequence all bytes are 255. Labels are int64 ``[N]``; with ``task: steps`` ``[N, steps]``, where -100 is of steps
    without a class, which do not count. Sequences of no such step at all are left out.

    Args:
        path: ``.npz`` (``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``; numbers
            ``[N, steps, channels]``; perhaps ``lengths``, without which steps at the end that are NaN in all channels
            do not count), aeon's ``.ts``, or a CSV or Parquet table in long form, a row a step; looked for in ``root``,
            too. ``None`` takes ``root`` for it.
        target: Of a table: the column of the class.
        task: ``"class"`` of a sequence, or ``"steps"``: a class at every step, in every row of a table, or in an array
            ``y`` ``[N, steps]``. An empty one, NaN and -100 are none.
        id: Of a table: the column that tells the sequences apart. None with ``window``.
        time: Of a table: the column that puts their rows in order: numbers, dates and times, or text of either.
        window: Of a table that is one long stream: steps of a sequence, which has the class of its last row. Windows
            overlap: test, validation and each fold take windows in a row, and those that share rows with them are left
            out of the training.
        stride: Rows between two windows.
        test_path: A file of test sequences; ``None`` takes those that the file names so, else ``test_fraction`` of all.
        test_fraction: Share of the sequences to test on, of every class alike, by ``split_seed``; of windows the last,
            as ``val_fraction`` takes them of the others.
        thresholds: Most thresholds a channel.
        spacing: As in :class:`Table`.
        given: By channel: other numbers of thresholds, or the thresholds themselves.
        delta: Add for every channel its change since the step before, as a channel of its own (0 at the first step);
            who runs the circuit gives it likewise.
        every: Take every so many-th step alone, counted from the last.
        **kwargs: Arguments of :class:`SampleDataModule`.

    Raises:
        ValueError: If an argument is none of the choices, or of no use with the others.
    """

    not_from_files: ClassVar[dict[str, Any]] = {**SampleDataModule.not_from_files, "path": None, "test_path": None}
    noun = "sequences"

    def __init__(
        self,
        path: str | None = None,
        target: str | None = None,
        task: str = "class",
        id: str | None = None,
        time: str | None = None,
        window: int | None = None,
        stride: int = 1,
        test_path: str | None = None,
        test_fraction: float = 0.25,
        thresholds: int = 16,
        spacing: str = "quantile",
        given: dict[str, int | list[float]] | None = None,
        delta: bool = False,
        every: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if min(stride, every, 1 if window is None else window) < 1:
            raise ValueError(f"window={window}, stride={stride} and every={every} must be 1 or more")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction}")
        check_choice("task", task, TASKS)
        if window is not None and id is not None:
            raise ValueError(f"id={id!r} tells sequences apart, and window={window} makes them of one: leave one out")
        if window is None and stride != 1:
            raise ValueError(f"stride={stride} is of windows: give window, or leave it out")
        self.task = task
        self.path = None if path is None else Path(path).expanduser()
        self.test_path = None if test_path is None else Path(test_path).expanduser()
        self.target, self.identity, self.time, self.window, self.stride = target, id, time, window, stride
        self.test_fraction, self.delta, self.every = test_fraction, delta, every
        self.encoding = Encoding(thresholds, spacing, given or {})

    # What the base asks for.

    @property
    def class_names(self) -> list[str]:
        return self._read[2]

    @property
    def num_bits(self) -> int:
        """Bits of a step."""
        return len(self.comparisons)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The channels."""
        return tuple(Column(name, "float32") for name in self._read[0].channels)

    @cached_property
    def comparisons(self) -> Comparisons:
        """What makes bits of a step, chosen by the sequences that train."""
        self.setup("fit")
        samples = self.training_samples()[0].numpy()
        steps = samples[(samples != PADDING).any(2)]
        return self.encoding.fit(self.columns, steps.view(row_dtype(self.columns))[:, 0])

    def check_columns(self, columns: Any) -> None:
        """Refuses channels other than those that a net was trained on."""
        own, others = [c.name for c in self.columns], [c.name for c in columns]
        if own != others:
            raise DataError(f"the net was trained on the channels {', '.join(others)}, and these are {', '.join(own)}")

    def _load_train(self) -> Samples:
        return self._samples(self._read[0])

    def _load_test(self) -> Samples:
        return self._samples(self._read[1])

    def _split_train(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.val_fraction == 0:
            return super()._split_train(labels)
        if self.window is not None:
            kept, held_out = self._split_windows(len(labels), "val_fraction")
            return torch.from_numpy(kept), torch.from_numpy(held_out)
        classes = labels.numpy() if labels.ndim == 1 else None
        kept, held_out = split_rows(len(labels), self.val_fraction, self.split_seed, classes)
        return torch.from_numpy(kept), torch.from_numpy(held_out)

    def _fold_of(self, labels: torch.Tensor) -> torch.Tensor:
        if self.window is None:
            return super()._fold_of(labels)
        folds = torch.arange(len(labels)) * self.folds // len(labels)
        start, end = (-(-len(labels) * number // self.folds) for number in (self.fold, self.fold + 1))
        folds[max(0, start - self._apart) : start] = -1
        folds[end : end + self._apart] = -1
        return folds

    # Parts.

    @cached_property
    def _read(self) -> tuple[SequenceSet, SequenceSet, list[str]]:
        """Training and test sequences, and the classes."""
        path = self.root if self.path is None else self._found(self.path)
        if path.is_dir():
            how = "--data.path <.npz, .ts, CSV or Parquet>, or of a run --data.root <that file>"
            raise DataError(f"say where the sequences are: {how}; {path} is a folder")
        test_path = None if self.test_path is None else self._found(self.test_path)
        self._refuse_roles(path, test_path)
        parts = self._parts(path)
        if test_path is not None:
            other = self._parts(test_path)
            parts = {"train": parts.get("train", parts.get("all")), "test": other.get("test", other.get("all"))}
        if "all" in parts:
            parts = self._split_all(parts["all"])
        train, test = (self._prepared(parts[name]) for name in ("train", "test"))
        if train.channels != test.channels:
            names = ", ".join(test.channels), ", ".join(train.channels)
            raise DataError(f"{test.source} has the channels {names[0]}, and the training {names[1]}")
        require_columns(train.channels, list(self.encoding.given), train.source, "data.given")
        found, counts = np.unique(train.labels[train.labels != ""], return_counts=True)
        names_of_classes = found[class_order(found, counts, f"{train.source}, the class")].tolist()
        foreign = sorted(set(test.labels.ravel().tolist()) - {*names_of_classes, ""})
        if foreign:
            raise DataError(f"{test.source} has the class {foreign[0]!r}, of which there are no training sequences")
        return train, test, names_of_classes

    def _refuse_roles(self, *paths: Path | None) -> None:
        """Options of tables say nothing of other files."""
        named = {"target": self.target, "id": self.identity, "time": self.time, "window": self.window}
        given = [f"data.{name}" for name, value in named.items() if value is not None]
        if given and not any(path is not None and is_table_file(path) for path in paths):
            raise DataError(f"{', '.join(given)}: of tables alone, and {paths[0]} is none; leave that out")

    def _found(self, path: Path) -> Path:
        """The file as it is named, or in the folder of the data sets."""
        inside = self.root / path
        return inside if not path.exists() and inside.is_file() else path

    def _parts(self, path: Path) -> dict[str, Any]:
        if self.window is None:
            return dict(read_sequences(path, self.target, self.identity, self.time, self.task))
        if self.target is None:
            raise DataError(f"{path}: say which column is the class, data.target")
        columns = self.target, self.time
        return {"all": windows_of(read_table(path), str(path), *columns, self.window, self.stride, self.task)}

    def _split_all(self, everything: SequenceSet) -> dict[str, SequenceSet]:
        count = len(everything.labels)
        if self.window is not None:
            train, test = self._split_windows(count, "test_fraction")
        else:
            labels = None
            if everything.labels.ndim == 1:
                labels = np.unique(everything.labels, return_inverse=True)[1].astype(np.int64)
            train, test = split_rows(count, self.test_fraction, self.split_seed, labels)
        return {"train": everything.take(train), "test": everything.take(test)}

    @property
    def _apart(self) -> int:
        """Windows between two that share no row."""
        assert self.window is not None
        return -(-self.window // self.stride) - 1

    def _split_windows(self, count: int, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Windows overlap: the share of this name is what comes last, and the other part shares no row with it."""
        last = max(1, round(count * getattr(self, name)))
        kept = count - last - self._apart
        if kept < 1:
            path = self.path or self.root
            raise DataError(f"{path}: {count} windows leave none to train on; use a smaller {name} or window")
        return np.arange(kept), np.arange(count - last, count)

    def _prepared(self, sequences: SequenceSet) -> SequenceSet:
        """The sequences with fewer steps, and with changes as channels."""
        if self.every > 1:
            ends = -(-sequences.lengths // self.every)
            places = sequences.lengths[:, None] - 1 - (ends[:, None] - 1 - np.arange(int(ends.max()))) * self.every
            places = np.clip(places, 0, sequences.lengths[:, None] - 1)  # behind a shorter one's end: padding anyway
            values = np.take_along_axis(sequences.values, places[:, :, None], 1)
            labels = sequences.labels if self.task == "class" else np.take_along_axis(sequences.labels, places, 1)
            sequences = replace(sequences, values=values, lengths=ends, labels=labels)
        if self.task == "steps":
            ended = np.arange(sequences.values.shape[1]) >= sequences.lengths[:, None]
            sequences = replace(sequences, labels=np.where(ended, "", sequences.labels))
            counts = (sequences.labels != "").any(1)
            if not counts.any():
                raise DataError(f"{sequences.source}: no step of any sequence has a class")
            sequences = sequences.take(np.flatnonzero(counts))
        if not self.delta:
            return sequences
        change = np.diff(sequences.values, axis=1, prepend=sequences.values[:, :1])
        names = (*sequences.channels, *(f"{name}_delta" for name in sequences.channels))
        return replace(sequences, values=np.concatenate([sequences.values, change], 2), channels=names)

    def _rows(self, steps: NDArray[np.float32]) -> Rows:
        """Steps ``[N, channels]`` as rows."""
        return make_rows(self.columns, [steps[:, channel] for channel in range(steps.shape[1])])

    def _numbers(self, sequences: SequenceSet) -> NDArray[np.int64]:
        number = {name: index for index, name in enumerate(self.class_names)} | {"": IGNORED}
        found, places = np.unique(sequences.labels, return_inverse=True)
        numbers = np.array([number[name] for name in found.tolist()], np.int64)
        return numbers[places].reshape(sequences.labels.shape)

    def _samples(self, sequences: SequenceSet) -> Samples:
        count, steps, channels = sequences.values.shape
        # A NaN of its own: that of padding has all bits set.
        values = np.where(np.isnan(sequences.values), np.float32(np.nan), sequences.values)
        rows = self._rows(values.reshape(-1, channels))
        raw = np.ascontiguousarray(rows).view(np.uint8).reshape(count, steps, rows.dtype.itemsize).copy()
        raw[np.arange(steps) >= sequences.lengths[:, None]] = PADDING
        return torch.from_numpy(raw), torch.from_numpy(self._numbers(sequences))
