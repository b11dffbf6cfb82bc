"""Reads sequences: ``.npz`` arrays, aeon's ``.ts`` files, and tables in long form, a row a step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.arrays import load_arrays
from lgn_lightning.base.errors import DataError, some
from lgn_lightning.base.padding import IGNORED, known_lengths
from lgn_lightning.data.table_columns import numbers_of, require_columns, text_of
from lgn_lightning.data.table_file import is_table_file, read_table

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES: Final = (".npz", ".ts")
#: What labels are of: whole sequences, or their steps.
TASKS: Final = ("class", "steps")
#: Texts of labels that are no strings and say that there is none.
_MISSING: Final = ("nan", "<NA>", "None", str(IGNORED))


@dataclass(frozen=True)
class SequenceSet:
    """Sequences of numbers, and the class of each, or of each of their steps.

    Attributes:
        values: float32 ``[N, steps, channels]``; NaN is missing.
        lengths: Steps of each sequence, whole numbers ``[N]``, kept as int64; what stands behind the end is not read.
        labels: Names of the classes, ``[N]``, or ``[N, steps]``, where the empty one is of steps that do not count.
        channels: Names of the channels.
        source: Where they are from, for messages.
    """

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    labels: NDArray[np.str_]
    channels: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or not self.values.size:
            raise DataError(f"{self.source}: sequences are [N, steps, channels], got {list(self.values.shape)}")
        if self.labels.shape not in (self.values.shape[:1], self.values.shape[:2]):
            counts = " × ".join(map(str, self.labels.shape))
            raise DataError(f"{self.source}: {len(self.values)} sequences and {counts} labels")
        if self.labels.ndim == 1 and (self.labels == "").any():
            raise DataError(f"{self.source}: sequence {(self.labels == '').argmax()} has no class; leave it out")
        names = Counter(self.channels)
        unfit = [name for name, count in names.items() if count > 1 or not name or not name.isprintable()]
        if unfit:
            raise DataError(f"{self.source}: a channel is called {unfit[0]!r}; give each a printable name of its own")
        if self.lengths.shape != self.values.shape[:1] or self.lengths.dtype.kind not in "iu":
            found = f"{self.lengths.dtype} {list(self.lengths.shape)}"
            raise DataError(f"{self.source}: lengths are whole numbers [{len(self.values)}], got {found}")
        ends = self.lengths.min(), self.lengths.max()
        if not 1 <= ends[0] <= ends[1] <= self.values.shape[1]:
            raise DataError(
                f"{self.source}: lengths from {ends[0]} to {ends[1]} do not fit sequences of up to "
                f"{self.values.shape[1]} steps; a sequence has at least one"
            )
        object.__setattr__(self, "lengths", self.lengths.astype(np.int64))
        infinite = np.isinf(self.values)
        if infinite.any():
            sequence, step, channel = np.argwhere(infinite)[0]
            where = f"sequence {sequence}, step {step}, channel {self.channels[channel]!r}"
            raise DataError(f"{self.source}: {where} is infinite; give numbers, or NaN for a missing one")

    def take(self, indices: NDArray[Any]) -> SequenceSet:
        """Some of the sequences."""
        return SequenceSet(
            self.values[indices], self.lengths[indices], self.labels[indices], self.channels, self.source
        )


def read_sequences(
    path: Path, target: str | None, identity: str | None, time: str | None, task: str = "class"
) -> dict[str, SequenceSet]:
    """Reads a file: sequences by part, ``train`` and ``test``, or ``all`` where it does not say.

    Args:
        path: ``.npz`` with ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test`` and ``y_test``, and perhaps
            ``lengths…`` and ``channels``; ``.ts``; or a table in long form.
        target: Of a table: column of the class; of whole sequences equal in all rows of each.
        identity: Of a table: column that tells the sequences apart.
        time: Of a table: column of numbers, or of dates and times, that puts the rows of a sequence in order; None
            takes the order of the file.
        task: What has a class, a sequence (``"class"``) or each of its steps (``"steps"``).

    Raises:
        DataError: If it cannot be read, or does not hold sequences.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; give sequences as .npz, .ts, or a table in long form")
    if path.suffix.lower() == ".npz":
        return _read_npz(path, task)
    if path.suffix.lower() == ".ts":
        if task == "steps":
            raise DataError(f"{path} has a class a sequence and none a step, as all .ts files: leave data.task out")
        return {"all": _read_ts(path)}
    if not is_table_file(path):
        raise DataError(f"{path} holds no sequences by its name: {', '.join(SUFFIXES)}, or a CSV or Parquet table")
    if identity is None or target is None:
        raise DataError(
            f"{path}: say which column tells the sequences apart, data.id, and which is the class, data.target"
        )
    return {"all": _read_long(read_table(path), str(path), target, identity, time, task)}


def _read_npz(path: Path, task: str) -> dict[str, SequenceSet]:
    arrays = load_arrays(path)
    if not isinstance(arrays, dict):
        raise DataError(f"{path} is one array without a name; write x and y into it, with numpy.savez")
    parts = ("_train", "_test") if "x_train" in arrays else ("",)
    have, how = some(arrays) or "none", "give x, y and perhaps lengths, or each with _train and _test"
    lacking = [name + part for part in parts for name in ("x", "y") if name + part not in arrays]
    if lacking:
        raise DataError(f"{path} has no array {lacking[0]}; {how} ({have})")
    others = {"", "_train", "_test"} - {*parts}
    stray = [name for name in arrays if any(name in (f"x{part}", f"y{part}", f"lengths{part}") for part in others)]
    if stray:
        raise DataError(f"{path} has an array {stray[0]} that does not belong to x{parts[0]}; {how} ({have})")
    found = {}
    for part in parts:
        values, labels = arrays[f"x{part}"], _decoded(arrays[f"y{part}"], f"{path}, y{part}")
        if values.ndim != 3 or not values.size or values.dtype.kind not in "fiub":
            raise DataError(
                f"{path}: x{part} must be numbers [N, steps, channels], got {values.dtype} {list(values.shape)}"
            )
        names = arrays.get("channels", np.array([f"channel_{i}" for i in range(values.shape[2])]))
        names = _decoded(names, f"{path}, channels")
        if names.shape != (values.shape[2],):
            raise DataError(f"{path}: {names.size} names of channels for {values.shape[2]}")
        lengths = arrays.get(f"lengths{part}")
        values = values.astype(np.float32)
        ends = known_lengths(np.isnan(values).all(axis=2)) if lengths is None else lengths
        if labels.ndim != (2 if task == "steps" else 1):
            kinds = "[N], a class a sequence", "[N, steps], a class a step, for data.task steps"
            raise DataError(f"{path}: y{part} is {kinds[0]}, or {kinds[1]}; got {list(labels.shape)}")
        texts = np.array([label_text(label) for label in labels.ravel().tolist()], str).reshape(labels.shape)
        found[part.strip("_") or "all"] = SequenceSet(values, ends, texts, tuple(map(str, names)), f"{path}, x{part}")
    return found


def _decoded(texts: NDArray[Any], where: str) -> NDArray[Any]:
    """Bytes as the text that they stand for, anything else as it is."""
    if texts.dtype.kind != "S":
        return texts
    try:
        return np.char.decode(texts, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: {error}; give text, or bytes in UTF-8") from error


def label_text(label: Any) -> str:
    """The name of a class; empty of a missing label, NaN or -100."""
    text = text_of(label)
    return "" if not isinstance(label, str) and text in _MISSING else text


def _read_ts(path: Path) -> SequenceSet:
    sequences: list[list[list[float]]] = []
    labels: list[str] = []
    inside = False
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith(("#", "%")):
            continue
        if not inside:
            words = text.lower().split()
            inside = words[0] == "@data"
            if words[0] == "@timestamps" and words[1:] == ["true"]:
                raise DataError(f"{path}: series with time stamps are not read; write their values alone")
            if words[0] == "@classlabel" and words[1:2] == ["false"]:
                raise DataError(f"{path} has no class labels")
            continue
        *channels, label = text.split(":")
        try:
            found = [[np.nan if value.strip() == "?" else float(value) for value in c.split(",")] for c in channels]
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if (
            not found
            or len({len(channel) for channel in found}) != 1
            or (sequences and len(found) != len(sequences[0]))
        ):
            raise DataError(f"{path}, line {number}: channels differ in number or length")
        sequences.append(found)
        labels.append(label.strip())
    if not sequences:
        raise DataError(f"{path} has no sequences behind @data")
    return _padded(
        [np.array(sequence, np.float32).T for sequence in sequences],
        labels,
        tuple(f"channel_{i}" for i in range(len(sequences[0]))),
        str(path),
    )


def _read_long(
    frame: pd.DataFrame, source: str, target: str, identity: str, time: str | None, task: str
) -> SequenceSet:
    named = [target, identity, *([] if time is None else [time])]
    _require_apart(frame, named, source, "data.target, data.id and data.time")
    for name in named[1:] if task == "steps" else named:
        _refuse_gaps(frame[name], source)
    if time is not None:
        frame = _in_time(frame, time, source)
    channels, values = _channels_of(frame, named, source)
    sequences: list[NDArray[np.float32]] = []
    labels: list[Any] = []
    for key, rows in frame.groupby(identity, sort=True).indices.items():
        sequences.append(values[rows])
        if task == "steps":
            labels.append([label_text(label) for label in frame[target].iloc[rows]])
            continue
        found = frame[target].iloc[rows].unique()
        if len(found) != 1:
            raise DataError(
                f"{source}: the sequence {identity} = {key} has {len(found)} classes; it has one, or each of its "
                "steps has with --data.task steps"
            )
        labels.append(text_of(found[0]))
    return _padded(sequences, labels, channels, source)


def _require_apart(frame: pd.DataFrame, named: list[str], source: str, what: str) -> None:
    require_columns(frame.columns, named, source, what)
    if len(set(named)) < len(named):
        raise DataError(f"{source}: {what} are different columns, got {', '.join(named)}")


def _refuse_gaps(values: pd.Series[Any], source: str) -> None:
    if values.isna().any():
        raise DataError(f"{source}: {int(values.isna().sum())} rows have no {values.name!r}; remove them")


def _in_time(frame: pd.DataFrame, time: str, source: str) -> pd.DataFrame:
    """The rows in the order of a column, those of the same time as they stand; a DataError if it is no time."""
    _refuse_gaps(frame[time], source)
    return frame.sort_values(time, kind="stable", key=lambda values: _moments(values, f"{source}, data.time {time!r}"))


def _moments(values: pd.Series[Any], where: str) -> pd.Series[Any]:
    """Numbers or moments that have the order of times; text in the order of the alphabet would have another."""
    import pandas as pd  # takes half a second, which arrays do not need

    types, kind = pd.api.types, values.dtype
    if types.is_numeric_dtype(kind) or types.is_datetime64_any_dtype(kind) or types.is_timedelta64_dtype(kind):
        return values
    texts = values.astype(str)
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.notna().all():
        return numbers
    day = "1970-01-01T" if texts.str.match(r"\d\d?:").all() else ""  # times of day alone
    moments = pd.to_datetime(day + texts, format="ISO8601", errors="coerce", utc=True)
    odd = texts[moments.isna()]
    if len(odd):
        raise DataError(
            f"{where} is a number or a date and time such as 2024-01-31 08:00:00, but row {odd.index[0] + 1} is "
            f"{odd.iloc[0]!r}; write all of them so, or leave it out where the rows are in order"
        )
    return moments


def _channels_of(frame: pd.DataFrame, others: list[str], source: str) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The columns that are no others, and their values ``[rows, channels]``; a DataError if there are none."""
    channels = tuple(str(name) for name in frame.columns if name not in others)
    if not channels:
        raise DataError(f"{source} has no column besides {', '.join(others)}")
    values = np.stack([numbers_of(frame[name], f"{source}, channel {name!r}") for name in channels], 1)
    return channels, values.astype(np.float32)


def _padded(
    sequences: list[NDArray[np.float32]], labels: list[Any], channels: tuple[str, ...], source: str
) -> SequenceSet:
    """Of different lengths; labels are a text a sequence, or a list of texts, one a step."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    values = np.full((len(sequences), int(lengths.max()), len(channels)), np.nan, np.float32)
    for row, sequence in zip(values, sequences, strict=True):
        row[: len(sequence)] = sequence
    steps = values.shape[1]
    texts = [label if isinstance(label, str) else label + [""] * (steps - len(label)) for label in labels]
    return SequenceSet(values, lengths, np.array(texts, str), channels, source)


def windows_of(
    frame: pd.DataFrame, source: str, target: str, time: str | None, window: int, stride: int, task: str = "class"
) -> SequenceSet:
    """Windows over one long stream, a row a step: ``window`` rows each, ``stride`` apart.

    They have the class of their last row, or with ``task="steps"`` that of each. ``target`` and ``time`` are as of
    `read_sequences`.

    Raises:
        DataError: If the stream is shorter than a window, or has no such columns.
    """
    _require_apart(frame, [target, *([] if time is None else [time])], source, "data.target and data.time")
    if time is not None:
        frame = _in_time(frame, time, source).drop(columns=time)
    if len(frame) < window:
        raise DataError(f"{source} has {len(frame)} rows, fewer than a window of {window}")
    channels, values = _channels_of(frame, [target], source)
    starts = np.arange(0, len(frame) - window + 1, stride)
    places = starts[:, None] + np.arange(window)
    texts = np.array([label_text(label) for label in frame[target]], str)
    labels = texts[places] if task == "steps" else texts[places[:, -1]]
    if task == "class" and (labels == "").any():
        raise DataError(f"{source}: {(labels == '').sum()} windows end in a row without {target!r}; remove such rows")
    lengths = np.full(len(starts), window, np.int64)
    return SequenceSet(values[places], lengths, labels, channels, source)
