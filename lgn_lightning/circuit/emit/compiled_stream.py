"""`CompiledStream`: the compiled C of a sequential circuit, called from Python on whole sequences."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.emit.compiled import CompiledCircuit
from lgn_lightning.circuit.emit.compiler import CompilerError
from lgn_lightning.circuit.net.sequential import SCANS
from lgn_lightning.circuit.run.sequences import held, plain_bits, sequence_frames, sequence_lengths
from lgn_lightning.circuit.simulate import check_samples


class CompiledStream(CompiledCircuit):
    """A shared library of `emit_c_stream` with a prefix of names; a CompilerError as of `CompiledCircuit`.

    Attributes:
        num_state: Bits of state.
        stream_bytes: Bytes of the struct of a stream.
        scan: How images become steps.
    """

    def __init__(self, path: str | os.PathLike[str], name: str = "lgn_net") -> None:
        super().__init__(path, name)
        info = self._library[f"{name}_info"]
        self.num_state, self.stream_bytes, self.num_outputs, scan = (int(info(index)) for index in (7, 8, 9, 10))
        if self.stream_bytes < 0:
            raise CompilerError(f"{self.path} is the library of a circuit without state: open it with CompiledCircuit")
        self.scan = None if scan == 0 else SCANS[scan - 1]
        if not self.num_pixels:
            self.num_pixels = None  # type: ignore[assignment]

    def scores(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.int32]:
        """Scores of sequences, int32 ``[N, classes]``; see `SequenceEngine` for ``x`` and ``lengths``."""
        frames = sequence_frames(self, x)
        ends = sequence_lengths(self, frames, lengths)
        kind, steps = self._steps(frames)
        entry = self._library[f"{self.name}_sequence_{kind}"]
        entry.argtypes, entry.restype = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p], None
        result = np.zeros((len(frames), self.num_classes), np.int32)
        for sequence, end, row in zip(steps, ends.tolist(), result, strict=True):
            entry(sequence.ctypes.data, end, row.ctypes.data)
        return result

    def every_step(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.int32]:
        """What each step gives as scores, int32 ``[N, steps, classes]``: of all steps so far, where they are summed.

        Behind the end of a sequence they are those of its last step. Arguments as of `scores`.
        """
        frames = sequence_frames(self, x)
        ends = sequence_lengths(self, frames, lengths)
        kind, steps = self._steps(frames)
        reset, step = self._library[f"{self.name}_reset"], self._library[f"{self.name}_step_{kind}"]
        reset.argtypes, step.argtypes = [ctypes.c_void_p], [ctypes.c_void_p] * 3
        reset.restype = step.restype = None
        result = np.zeros((*frames.shape[:2], self.num_classes), np.int32)
        stream = np.zeros(-(-self.stream_bytes // 8), np.uint64)  # aligned as its words
        for sequence, end, rows in zip(steps, ends.tolist(), result, strict=True):
            reset(stream.ctypes.data)
            for sample, row in zip(sequence[:end], rows, strict=False):
                step(stream.ctypes.data, sample.ctypes.data, row.ctypes.data)
        return held(result, ends)

    def _steps(self, frames: NDArray[Any]) -> tuple[str, NDArray[Any]]:
        """What a step is, as the names of functions say it, and the bytes of each, ``[N, steps, bytes]``."""
        kind, samples = check_samples(self, plain_bits(self, frames.reshape(-1, *frames.shape[2:])))
        return "bools" if kind == "bits" else kind, samples.reshape(*frames.shape[:2], -1)

    def predict(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """What the scores of sequences say, see `Decoding.decide`."""
        scores = self.scores(x, lengths)
        each = () if self.decoding in ("argmax", "levels") else (self.num_classes,)
        result = np.zeros((len(scores), *each), np.float64 if self.decoding == "numbers" else np.int32)
        entry = self._library[f"{self.name}_decide"]
        entry.argtypes, entry.restype = [ctypes.c_void_p, ctypes.c_void_p], None
        for index in range(len(scores)):
            entry(scores[index].ctypes.data, result[index : index + 1].ctypes.data)
        return result.astype(bool) if self.decoding == "labels" else result

    def packed(self, words: NDArray[Any], count: int) -> NDArray[np.int32]:
        """There is none of whole sequences; ``step_packed`` of the library takes packed steps."""
        raise CompilerError(f"{self.path} takes packed bits step by step: call {self.name}_step_packed from C")


def open_library(path: str | os.PathLike[str], name: str = "lgn_net") -> CompiledCircuit:
    """Opens a library of either kind; a CompilerError as of `CompiledCircuit`."""
    compiled = CompiledCircuit(path, name)
    return CompiledStream(path, name) if int(compiled._library[f"{name}_info"](7)) >= 0 else compiled
