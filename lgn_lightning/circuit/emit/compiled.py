"""`CompiledCircuit`: the compiled C of a circuit, called from Python."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lgn_lightning.base.columns import STORED, Column
from lgn_lightning.circuit.emit.compiler import CompilerError, compile_source
from lgn_lightning.circuit.net.decoding import KINDS
from lgn_lightning.circuit.net.netlist import CircuitError
from lgn_lightning.circuit.simulate import check_samples

_loaded: set[Path] = set()
_Compiled = TypeVar("_Compiled", bound="CompiledCircuit")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _reopened(path: Path, name: str, digest: str) -> CompiledCircuit:
    """The library of a pickle; a CompilerError if there is none or another one by now."""
    compiled = CompiledCircuit(path, name)
    if compiled._digest != digest:
        raise CompilerError(f"{path} is not the library that was pickled any more; pickle the circuit itself")
    return compiled


def _load(path: Path) -> ctypes.CDLL:
    """Loads a library; through a copy where the linker would answer with an older one, or may not run it there."""
    if path not in _loaded and not _noexec(path):
        library = ctypes.CDLL(str(path))
        _loaded.add(path)
        return library
    with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
        return ctypes.CDLL(shutil.copy(path, folder))


def _noexec(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)


def _next(category: Any, column: int, codes: Iterator[int]) -> bytes | None:
    """The next category of a column, or None after the last."""
    return cast("bytes | None", category(column, next(codes)))


class CompiledCircuit:
    """An exported shared library with a prefix of names, called on numpy arrays or CPU tensors.

    A CompilerError if the file is missing, no library, or not one of `emit_c`.
    """

    image_shape = None  # a library knows how many pixels an image has, and no more

    def __init__(self, path: str | os.PathLike[str], name: str = "lgn_net") -> None:
        self.path = Path(path)
        self.name = name
        if not self.path.is_file():
            raise CompilerError(f"no library at {self.path}; compile or export the circuit first")
        try:
            library = _load(self.path.resolve())
            info = library[f"{name}_info"]
        except (OSError, AttributeError) as error:
            if isinstance(error, OSError) and _noexec(self.path):
                raise CompilerError(
                    f"{self.path} cannot be run: its file system is mounted noexec, and a copy in "
                    f"{tempfile.gettempdir()} fails, too ({error}); set TMPDIR to a folder whose programs may run"
                ) from error
            raise CompilerError(f"{self.path} is not a compiled circuit with the prefix {name!r}: {error}") from error
        info.argtypes, info.restype = [ctypes.c_int], ctypes.c_int64
        self.num_inputs, self.num_classes, self.word_bits, self.num_pixels = (int(info(index)) for index in range(4))
        # Libraries of release 0.1 say nothing of these.
        self.decoding, names = KINDS[max(0, int(info(4)))], int(info(5))
        self.columns = self._read_columns(library) if info(6) > 0 else None
        self._library = library
        self._digest = _digest(self.path)
        class_name = library[f"{name}_class_name"]
        class_name.argtypes, class_name.restype = [ctypes.c_int32], ctypes.c_char_p
        names = self.num_classes if names < 0 else names
        self.class_names = tuple(class_name(index).decode() for index in range(names))

    @classmethod
    def of_source(cls: type[_Compiled], code: str) -> _Compiled:
        """Compiles C and opens it; a CompilerError as of `compile_source`."""
        # A loaded library stays mapped after its file is gone.
        with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
            compile_source(code, library := Path(folder) / "net.so")
            return cls(library)

    def _read_columns(self, library: ctypes.CDLL) -> tuple[Column, ...]:
        name, kind, category = (
            library[f"{self.name}_{part}"] for part in ("name_of_column", "kind_of_column", "category_name")
        )
        name.restype = category.restype = ctypes.c_char_p
        name.argtypes = kind.argtypes = [ctypes.c_int32]
        category.argtypes = [ctypes.c_int32, ctypes.c_int32]
        return tuple(
            Column(
                name(i).decode(),
                list(STORED)[kind(i)],
                tuple(found.decode() for found in iter(partial(_next, category, i, count(1)), None)),
            )
            for i in takewhile(lambda index: name(index) is not None, count())
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path.absolute(), self.name, self._digest)

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledCircuit:
        return self  # nothing in it changes

    def scores(self, x: ArrayLike) -> NDArray[np.int32]:
        """Scores of samples, int32 ``[N, classes]``.

        ``x`` is bool ``[N, inputs]``, or pixels or rows where thresholds are built in, see `simulate.encode`; a
        CircuitError on another width or dtype, a MemoryError if the library finds no memory.
        """
        return self._call("scores", x, (self.num_classes,))

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """What the scores say: classes int32 ``[N]``, or see `Decoding.decide`; of samples as `scores` takes them."""
        if self.decoding in ("argmax", "levels"):
            return self._call("predict", x, ())
        decided = self._call("predict", x, (self.num_classes,), np.float64 if self.decoding == "numbers" else np.int32)
        return decided if self.decoding == "numbers" else decided.astype(bool)

    def packed(self, words: NDArray[Any], count: int) -> NDArray[np.int32]:
        """Scores of ``count`` packed samples, int32 ``[count, classes]``.

        ``words`` are integers of the library's word size, ``[ceil(count/bits), inputs]``, as `PackBitsTensor` holds
        them.
        """
        array = np.ascontiguousarray(words)
        expected = (-(-count // self.word_bits), self.num_inputs)
        if array.shape != expected or array.dtype.kind not in "iu" or array.dtype.itemsize * 8 != self.word_bits:
            raise CircuitError(f"words are {array.dtype} {list(array.shape)}, not int{self.word_bits} {list(expected)}")
        result = np.empty((count, self.num_classes), np.int32)
        self._run("scores_packed", array, result, count)
        return result

    def _call(self, verb: str, x: ArrayLike, row: tuple[int, ...], dtype: DTypeLike = np.int32) -> NDArray[Any]:
        kind, samples = check_samples(self, x)
        result = np.empty((samples.shape[0], *row), dtype)
        self._run(f"{verb}_{'bools' if kind == 'bits' else kind}", samples, result, samples.shape[0])
        return result

    def _run(self, function: str, source: NDArray[Any], result: NDArray[Any], count: int) -> None:
        entry = self._library[f"{self.name}_{function}"]
        entry.argtypes, entry.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t], ctypes.c_int
        if entry(source.ctypes.data, result.ctypes.data, count):
            raise MemoryError(f"{self.path} found no memory for its slots")
