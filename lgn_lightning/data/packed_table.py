"""`PackedTable`: a table larger than memory. Its rows become bits once, on disk, and are mapped into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from lgn_lightning.base.columns import Column, Comparisons, columns_of_text
from lgn_lightning.base.errors import DataError, note
from lgn_lightning.base.files import atomic_folder, atomic_write_text
from lgn_lightning.data.base import Samples
from lgn_lightning.data.table import RowSet, Table
from lgn_lightning.data.table_columns import RowNotes, make_table_rows, numbers_of, require_columns
from lgn_lightning.data.table_file import is_table_file, read_chunks
from lgn_lightning.data.table_target import TargetReader, Targets, read_target

if TYPE_CHECKING:
    import pandas as pd

_FORMAT = 2  # to be raised when the files change


@dataclass
class _Pass:
    """What the first pass found out: the target of every row, groups and weights, and some rows with their numbers."""

    task: str
    names: list[str]
    labels: Targets
    sample: pd.DataFrame
    numbers: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None
    weights: NDArray[np.float64] | None = None


class PackedTable(Table):
    """A table of any size: the bits of its rows are computed once, by :meth:`prepare_data`, and kept on disk.

    Two passes over the file, in chunks. The first reads the target and draws some rows, of which those that train give
    types, categories and thresholds; the second writes the bits of all rows, packed into words of 64, into a folder
    that is named by a hash of file and settings. It appears whole or not at all. Training maps it into memory: a batch
    gathers its rows from there, and each of several processes reads a part of its own.

    Batches are words, int64 ``[batch, ceil(bits / 64)]``, which :class:`~lgn_lightning.nn.Columns` unpacks. Thresholds
    cannot be trained.

    Args:
        *args: Arguments of :class:`Table`.
        cache: Folder of the bits; ``.lgn-cache`` beside the file if ``None``.
        sample_rows: Rows that types, categories and thresholds are found from, at most.
        chunk_rows: Rows that are read at a time.
        **kwargs: More arguments of :class:`Table`.
    """

    not_from_files: ClassVar[dict[str, Any]] = {**Table.not_from_files, "cache": None}
    fixed_shards: ClassVar = True

    def __init__(
        self,
        *args: Any,
        cache: str | None = None,
        sample_rows: int = 1_000_000,
        chunk_rows: int = 500_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if sample_rows < 1 or chunk_rows < 1:
            raise ValueError(f"sample_rows={sample_rows} and chunk_rows={chunk_rows} must be 1 or more")
        self.cache, self.sample_rows, self.chunk_rows = cache, sample_rows, chunk_rows
        self._of_train: tuple[NDArray[np.int64] | None, NDArray[np.float64] | None] = None, None

    # What differs from a table in memory.

    @property
    def class_names(self) -> list[str]:
        """The classes, or the target columns."""
        return list(self._about["class_names"])

    @property
    def task(self) -> str:
        """What the target holds."""
        return str(self._about["task"])

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the net reads."""
        return self.comparisons.columns

    @cached_property
    def comparisons(self) -> Comparisons:
        """What makes bits of a row, chosen by the drawn rows that train."""
        self.prepare_data()
        columns = columns_of_text(self._about["columns"])
        with np.load(self.folder / "comparisons.npz", allow_pickle=False) as arrays:
            return Comparisons(columns, arrays["column"], arrays["op"], arrays["constant"])

    @cached_property
    def folder(self) -> Path:
        """Where the bits are: a name of their own for every state of the files, and for all settings they depend on."""
        settings: list[Any] = [self.target, self._task, self.test_fraction, self.val_fraction, self.split_seed]
        settings += [self.drop, self.group, self.weights, self.types, self.missing, asdict(self.encoding)]
        settings += [self.folds, self.fold, self.sample_rows, self.chunk_rows, _FORMAT]
        for path in (self._path(), self.test_path):
            if path is not None and path.is_file():
                status = path.stat()
                settings += [str(path.absolute()), status.st_size, status.st_mtime_ns]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24]
        root = self._path().parent / ".lgn-cache" if self.cache is None else Path(self.cache).expanduser()
        return root / f"{self._path().name}-{key}"

    def prepare_data(self) -> None:
        """Writes the bits, unless they are there; of several processes one does, and the others wait."""
        done = self.folder / "about.json"
        if done.is_file():
            return
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder.parent / ".lock"):
                if not done.is_file():
                    self._pack()
        except OSError as error:
            raise DataError(
                f"the bits cannot be kept in {self.folder.parent} ({error}); --data.cache names another"
            ) from error

    def show_columns(self) -> None:
        """Prints how many rows and bits there are; the values are not in memory."""
        rows = len(self._load_train().labels)
        print(f"{rows:,} rows, {len(self.columns)} columns, {len(self.comparisons)} bits a row, in {self.folder}")

    def _load_train(self) -> RowSet:
        return RowSet(self._load("train_bits"), self._load("train_labels"))

    def _load_test(self) -> RowSet:
        if not self.has_test:
            raise DataError("this table has no test rows: give test_path, or a test_fraction above 0")
        return RowSet(self._load("test_bits"), self._load("test_labels"))

    def _split_train(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._load("kept"), self._load("held_out")

    def _fold_of(self, labels: torch.Tensor) -> torch.Tensor:
        return self._load("folds")

    def _groups_and_weights(self) -> tuple[NDArray[Any] | None, NDArray[np.float64] | None]:
        return self._of_train

    def _check_samples(self, data: Samples) -> RowSet:
        return RowSet(*data)

    # Parts.

    @cached_property
    def _about(self) -> dict[str, Any]:
        self.prepare_data()
        about: dict[str, Any] = json.loads((self.folder / "about.json").read_text(encoding="utf-8"))
        return about

    def _load(self, name: str) -> torch.Tensor:
        self.prepare_data()
        # Copy on write: torch has no tensors that cannot be written.
        return torch.from_numpy(np.load(self.folder / f"{name}.npy", mmap_mode="c"))

    def _path(self) -> Path:
        path = self.root if self.path is None else self.path
        if not path.is_file() or not is_table_file(path):
            raise DataError(f"say where the table is: --data.path <CSV or Parquet file>; {path} is none")
        return path

    def _chunks(self, path: Path) -> Iterator[tuple[pd.DataFrame, int]]:
        """The table in pieces, and the number of the first row of each; rows keep their numbers."""
        first = 0
        for chunk in read_chunks(path, self.chunk_rows):
            chunk.index += first
            yield self._with_gaps(chunk), first
            first += len(chunk)

    def _pack(self) -> None:
        source = str(self._path())
        if not self.target:
            raise DataError(f"say what to predict: --data.target <column> of {source}")
        found = self._first_pass(source)
        is_train = np.ones(len(found.labels), np.bool_)
        if self.test_path is None and self.test_fraction:
            is_train[self._split(found.labels, self.test_fraction, found.groups)[1]] = False
        parts = self._parts_of(found, is_train)
        learns = parts["kept"] if self.rows_but_fold is None else self.rows_but_fold.numpy()[parts["kept"]]
        times = np.zeros(len(is_train), np.int64)  # that a row is in the training
        times[is_train] = np.bincount(learns, minlength=int(is_train.sum()))
        times, sample = times[found.numbers], found.sample
        columns = self._find_columns(sample[is_train[found.numbers]], source)
        seen = sample.iloc[np.repeat(np.arange(len(sample)), times)]
        comparisons = self.encoding.fit(columns, make_table_rows(columns, seen, source)[0])
        del found.sample, sample, seen
        with atomic_folder(self.folder) as folder:
            self._second_pass(folder, comparisons, found, is_train)
            for name, part in parts.items():
                np.save(folder / f"{name}.npy", part)
            np.savez(
                folder / "comparisons.npz",
                **{name: getattr(comparisons, name) for name in ("column", "op", "constant")},
            )
            about = {"task": found.task, "class_names": found.names, "columns": comparisons.columns_text()}
            atomic_write_text(folder / "about.json", json.dumps(about | {"rows": len(is_train)}))

    def _first_pass(self, source: str) -> _Pass:
        import pandas as pd  # takes half a second, which nothing but tables needs

        random, share = np.random.default_rng(self.split_seed), 1.0
        target, weights = TargetReader(self._task, source), list[NDArray[np.float64]]()
        codes, groups = dict[str, int](), list[NDArray[np.int64]]()
        kept: list[tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.float64]]] = []
        for whole, first in self._chunks(self._path()):
            chunk = self._without_dropped(whole, source)
            target.add(chunk[self.target])
            if self.weights is not None:
                weights.append(numbers_of(chunk[self.weights], self._weights_in(source)))
            if self.group is not None:
                inverse, names = pd.factorize(chunk[self.group].astype(str))
                groups.append(np.array([codes.setdefault(name, len(codes)) for name in names])[inverse])
            draws = random.random(len(chunk))
            drawn = np.flatnonzero(draws < share)
            features = chunk.drop(columns=[*self.target, *self._asides])
            if features.columns.empty:
                raise DataError(f"{source} has no column besides the target {', '.join(self.target)}")
            kept.append((features.iloc[drawn], first + drawn, draws[drawn]))
            while sum(len(numbers) for _, numbers, _ in kept) > self.sample_rows:
                share /= 2
                kept = [
                    (part[draws < share], numbers[draws < share], draws[draws < share]) for part, numbers, draws in kept
                ]
        found = _Pass(
            *target.finish(),
            pd.concat([part for part, _, _ in kept]),
            np.concatenate([numbers for _, numbers, _ in kept]),
        )
        if weights:
            found.weights = self._check_weights(np.concatenate(weights), source)
        if groups:
            order = np.argsort(np.argsort(np.array(list(codes))))  # as those of a table in memory, which are names
            found.groups = order[np.concatenate(groups)]
        return found

    def _parts_of(self, found: _Pass, is_train: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
        """Numbers among the training rows: ``kept`` and ``held_out`` as `_split_train` gives them, and ``folds``."""
        self._of_train = (
            None if found.groups is None else found.groups[is_train],
            None if found.weights is None else found.weights[is_train],
        )
        labels, parts = torch.from_numpy(found.labels[is_train]), dict[str, NDArray[np.int64]]()
        if self.folds:
            folds = super()._fold_of(labels)
            parts["folds"] = folds.numpy()
            self.rows_but_fold = (folds != self.fold).nonzero()[:, 0]
            labels = labels[self.rows_but_fold]
        kept, held_out = super()._split_train(labels)
        self._of_train = None, None
        return parts | {"kept": kept.numpy(), "held_out": held_out.numpy()}

    def _second_pass(self, folder: Path, comparisons: Comparisons, found: _Pass, is_train: NDArray[np.bool_]) -> None:
        source, notes = self._path(), RowNotes()
        labels = {"train": found.labels[is_train], "test": found.labels[~is_train]}
        if self.test_path is not None:
            labels["test"] = self._labels_of_test(self.test_path, found)
        files, place = {}, {"train": 0, "test": 0}
        for split, of_split in labels.items():
            np.save(folder / f"{split}_labels.npy", of_split)
            shape = (len(of_split), -(-len(comparisons) // 64))
            files[split] = np.lib.format.open_memmap(folder / f"{split}_bits.npy", "w+", np.int64, shape)
        for path in (source, self.test_path):
            for chunk, first in () if path is None else self._chunks(path):
                rows, of_chunk = make_table_rows(comparisons.columns, chunk, str(path), comparisons.gaps)
                notes.add(of_chunk)
                packed = pack_rows(comparisons, rows)
                trains = is_train[first : first + len(chunk)] if path == source else np.zeros(len(chunk), np.bool_)
                for split, own in (("train", packed[trains]), ("test", packed[~trains])):
                    files[split][place[split] : place[split] + len(own)] = own
                    place[split] += len(own)
        notes.extra = []
        for line in notes.lines():
            note(f"{source}: {line}")
        for file in files.values():
            file.flush()

    def _labels_of_test(self, path: Path, found: _Pass) -> Targets:
        labels = []
        for chunk, _ in self._chunks(path):
            require_columns(chunk.columns, self.target, str(path), "the target")
            labels.append(read_target(chunk[self.target], found.task, str(path), found.names))
        return np.concatenate(labels)


def pack_rows(comparisons: Comparisons, rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Bits of rows in words: ``[N]`` → int64 ``[N, ceil(bits / 64)]``, bit *j* of word *i* is comparison 64 i + j."""
    packed = np.zeros((len(rows), -(-len(comparisons) // 64) * 8), np.uint8)
    bits = np.packbits(comparisons.encode(rows), axis=1, bitorder="little")
    packed[:, : bits.shape[1]] = bits
    return packed.view("<i8").astype(np.int64, copy=False)
