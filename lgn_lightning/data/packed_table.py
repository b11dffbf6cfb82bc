"""`PackedTable`: a table larger than memory. Its rows become bits once, on disk, and are mapped into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lgn_lightning.base.columns import Column, Comparisons, columns_of_text
from lgn_lightning.base.errors import DataError
from lgn_lightning.base.files import atomic_folder, atomic_write_text
from lgn_lightning.data.base import Samples
from lgn_lightning.data.splits import split_rows
from lgn_lightning.data.table import RowSet, Table
from lgn_lightning.data.table_columns import find_columns, make_table_rows, require_columns, text_of
from lgn_lightning.data.table_file import is_table_file, read_chunks
from lgn_lightning.data.table_target import class_order

if TYPE_CHECKING:
    import pandas as pd

_FORMAT = 1  # to be raised when the files change
_SPLITS = ("train", "test")


class _Pass(NamedTuple):
    """What the first pass found: classes, the class of every row, and some rows with their numbers."""

    class_names: list[str]
    labels: NDArray[np.int64]
    sample: pd.DataFrame
    numbers: NDArray[np.int64]


class PackedTable(Table):
    """A table of any size: the bits of its rows are computed once, by :meth:`prepare_data`, and kept on disk.

    Two passes over the file, in chunks. The first finds the classes and draws some rows, of which those that train give
    types, categories and thresholds; the second writes the bits of all rows, packed into words of 64, into a folder
    that is named by a hash of file and settings. It appears whole or not at all. Training maps it into memory: a batch
    gathers its rows from there, and a rank reads its own only.

    Batches are words, int64 ``[batch, ceil(bits / 64)]``, which :class:`~lgn_lightning.nn.Columns` unpacks. Thresholds
    cannot be trained, and there are no groups.

    Args:
        *args: Arguments of :class:`Table`.
        cache: Folder of the bits; ``.lgn-cache`` beside the file if ``None``.
        sample_rows: Rows that types, categories and thresholds are found from, at most.
        chunk_rows: Rows that are read at a time.
        **kwargs: More arguments of :class:`Table`.
    """

    not_from_files: ClassVar[dict[str, Any]] = {**Table.not_from_files, "cache": None}

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
        classes = self._task in (None, "class") and len(self.target) < 2
        if self._asides or self.test_path is not None or not classes:
            raise ValueError("a PackedTable has classes, and neither group nor weights nor test_path")
        self.cache, self.sample_rows, self.chunk_rows = cache, sample_rows, chunk_rows

    # What differs from a table in memory.

    @property
    def class_names(self) -> list[str]:
        """The classes."""
        return list(self._about["class_names"])

    @property
    def task(self) -> str:
        """Always classes."""
        return "class"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the net reads."""
        return self.comparisons.columns

    @cached_property
    def comparisons(self) -> Comparisons:
        """What makes bits of a row, chosen by the drawn rows that train."""
        self.prepare_data()
        arrays = np.load(self.folder / "comparisons.npz", allow_pickle=False)
        columns = columns_of_text(self._about["columns"])
        return Comparisons(columns, arrays["column"], arrays["op"], arrays["constant"])

    @cached_property
    def folder(self) -> Path:
        """Where the bits are: a name of their own for every state of the file, and for all settings they depend on."""
        path = self._path()
        status = path.stat()
        settings = [self.target, self.test_fraction, self.val_fraction, self.split_seed, self.drop, self.types]
        settings += [self.missing, asdict(self.encoding), self.sample_rows, self.chunk_rows]
        text = json.dumps([_FORMAT, str(path.absolute()), status.st_size, status.st_mtime_ns, settings])
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        root = path.parent / ".lgn-cache" if self.cache is None else Path(self.cache).expanduser()
        return root / f"{path.name}-{key}"

    def prepare_data(self) -> None:
        """Writes the bits, unless they are there."""
        if not (self.folder / "about.json").is_file():
            self._pack()

    def show_columns(self) -> None:
        """Prints how many rows and bits there are; the values are not in memory."""
        rows = len(self._load_train().labels)
        print(f"{rows:,} rows, {len(self.columns)} columns, {len(self.comparisons)} bits a row, in {self.folder}")

    def _load_train(self) -> RowSet:
        return self._load("train")

    def _load_test(self) -> RowSet:
        return self._load("test")

    def _split_train(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept, held_out = _val_split(labels.numpy(), self.val_fraction, self.split_seed)
        return torch.from_numpy(kept), torch.from_numpy(held_out)

    def _check_samples(self, data: Samples) -> RowSet:
        return RowSet(*data)

    # Parts.

    @cached_property
    def _about(self) -> dict[str, Any]:
        self.prepare_data()
        about: dict[str, Any] = json.loads((self.folder / "about.json").read_text(encoding="utf-8"))
        return about

    def _load(self, split: str) -> RowSet:
        self.prepare_data()
        # Copy on write: torch has no tensors that cannot be written.
        bits, labels = (np.load(self.folder / f"{split}_{part}.npy", mmap_mode="c") for part in ("bits", "labels"))
        return RowSet(torch.from_numpy(bits), torch.from_numpy(labels))

    def _path(self) -> Path:
        path = self.root if self.path is None else self.path
        if not path.is_file() or not is_table_file(path):
            raise DataError(f"say where the table is: --data.path <CSV or Parquet file>; {path} is none")
        return path

    def _chunks(self) -> Iterator[tuple[pd.DataFrame, int]]:
        """The table in pieces, without what is dropped, and the number of the first row of each."""
        first = 0
        for chunk in read_chunks(self._path(), self.chunk_rows):
            yield self._with_gaps(self._without_dropped(chunk, str(self._path()))), first
            first += len(chunk)

    def _pack(self) -> None:
        source = str(self._path())
        if not self.target:
            raise DataError(f"say what to predict: --data.target <column> of {source}")
        names, labels, sample, numbers = self._first_pass()
        is_train = np.ones(len(labels), np.bool_)
        if self.test_fraction:
            is_train[split_rows(len(labels), self.test_fraction, self.split_seed, labels)[1]] = False
        held_out = np.flatnonzero(is_train)[_val_split(labels[is_train], self.val_fraction, self.split_seed)[1]]
        learns = is_train.copy()
        learns[held_out] = False
        seen = sample[learns[numbers]].reset_index(drop=True)
        columns = find_columns(seen, self.types, source)
        for given, what in ((self.encoding.given, "data.given"), (self.encoding.codes, "data.codes")):
            require_columns([column.name for column in columns], list(given), source, what)
        comparisons = self.encoding.fit(columns, make_table_rows(columns, seen, source)[0])
        with atomic_folder(self.folder) as folder:
            self._second_pass(folder, columns, comparisons, labels, is_train)
            arrays = {name: getattr(comparisons, name) for name in ("column", "op", "constant")}
            np.savez(folder / "comparisons.npz", **arrays)
            about = {"class_names": names, "columns": comparisons.columns_text(), "rows": len(labels)}
            atomic_write_text(folder / "about.json", json.dumps(about))

    def _first_pass(self) -> _Pass:
        random, share = np.random.default_rng(self.split_seed), 1.0
        known: dict[str, int] = {}
        labels: list[NDArray[np.int32]] = []
        kept: list[tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.float64]]] = []
        for chunk, first in self._chunks():
            target = chunk[self.target[0]]
            if target.isna().any():
                row = first + int(target.isna().argmax()) + 1
                raise DataError(f"{self._path()}: row {row} has no {self.target[0]!r}; remove such rows")
            texts, inverse = np.unique(target.map(text_of).to_numpy(str), return_inverse=True)
            codes = np.array([known.setdefault(text, len(known)) for text in texts.tolist()], np.int32)
            labels.append(codes[inverse])
            draws = random.random(len(chunk))
            drawn = np.flatnonzero(draws < share)
            kept.append((chunk.drop(columns=self.target).iloc[drawn], first + drawn, draws[drawn]))
            while sum(len(numbers) for _, numbers, _ in kept) > self.sample_rows:
                share /= 2
                kept = [
                    (part[draws < share], numbers[draws < share], draws[draws < share]) for part, numbers, draws in kept
                ]
        if not labels:
            raise DataError(f"{self._path()} has no rows")
        import pandas as pd  # takes half a second, which nothing but tables needs

        found, counted = np.array(list(known)), np.concatenate(labels)
        order = class_order(found, np.bincount(counted), f"{self._path()}, target {self.target[0]!r}")
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        sample = pd.concat([part for part, _, _ in kept], ignore_index=True)
        return _Pass(found[order].tolist(), place[counted], sample, np.concatenate([numbers for _, numbers, _ in kept]))

    def _second_pass(
        self,
        folder: Path,
        columns: tuple[Column, ...],
        comparisons: Comparisons,
        labels: NDArray[np.int64],
        is_train: NDArray[np.bool_],
    ) -> None:
        words, place = -(-len(comparisons) // 64), {"train": 0, "test": 0}
        belongs = {"train": is_train, "test": ~is_train}
        files = {}
        for split in _SPLITS:
            np.save(folder / f"{split}_labels.npy", labels[belongs[split]])
            shape = (int(belongs[split].sum()), words)
            files[split] = np.lib.format.open_memmap(folder / f"{split}_bits.npy", "w+", np.int64, shape)
        for chunk, first in self._chunks():
            rows, _ = make_table_rows(columns, chunk.drop(columns=self.target), str(self._path()))
            packed = pack_rows(comparisons, rows)
            for split in _SPLITS:
                own = packed[belongs[split][first : first + len(chunk)]]
                files[split][place[split] : place[split] + len(own)] = own
                place[split] += len(own)
        for file in files.values():
            file.flush()


def pack_rows(comparisons: Comparisons, rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Bits of rows in words: ``[N]`` → int64 ``[N, ceil(bits / 64)]``, bit *j* of word *i* is comparison 64 i + j."""
    packed = np.zeros((len(rows), -(-len(comparisons) // 64) * 8), np.uint8)
    bits = np.packbits(comparisons.encode(rows), axis=1, bitorder="little")
    packed[:, : bits.shape[1]] = bits
    return packed.view("<i8").astype(np.int64, copy=False)


def _val_split(labels: NDArray[np.int64], fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if fraction == 0:
        return np.arange(len(labels)), np.zeros(0, np.int64)
    return split_rows(len(labels), fraction, seed, labels)
