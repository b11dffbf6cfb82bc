"""Runs sequential circuits over whole sequences, many at a time."""

from __future__ import annotations

import math
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.base.arrays import to_array
from lgn_lightning.base.columns import row_dtype
from lgn_lightning.base.padding import PADDING, known_lengths
from lgn_lightning.circuit.net.netlist import CircuitError
from lgn_lightning.circuit.net.sequential import FULL_BIT, SequentialNetlist
from lgn_lightning.circuit.run.engine import Engine
from lgn_lightning.circuit.simulate import TakesSamples, Words, count_ones, encode, pack_bits

#: Sequences that are packed and run at once.
_BLOCK: Final = 4096


class TakesSteps(TakesSamples, Protocol):
    """Whatever knows the inputs of a step: a sequential netlist, or the library compiled of one."""

    @property
    def scan(self) -> str | None: ...


def sequence_frames(circuit: TakesSteps, x: ArrayLike) -> NDArray[Any]:
    """Sequences, each step of which is a sample as `encode` takes it: ``[N, steps, …]``.

    Args:
        circuit: The circuit.
        x: bool ``[N, steps, num_inputs]``, or uint8 0 and 1, and 255 for padding, if the inputs are plain; uint8
            pixels ``[N, steps, C·H·W]`` or ``[N, steps, C, H, W]``, or, where the
            circuit scans images, ``[N, C, rows, columns]``; or rows of columns, a structured array ``[N, steps]``,
            numbers ``[N, steps, columns]`` or uint8 ``[N, steps, bytes]``.

    Raises:
        CircuitError: If they are none of these, or have no step.
    """
    samples = to_array(x)
    if circuit.scan is not None and samples.ndim == 4 and samples.dtype == np.uint8:
        steps = samples.transpose(0, 2, 1, 3)  # [N, rows, C, columns]
        if circuit.scan == "pixels":
            steps = samples.transpose(0, 2, 3, 1).reshape(len(samples), -1, samples.shape[1])
        if math.prod(steps.shape[2:]) != circuit.num_pixels:
            raise CircuitError(f"images {list(samples.shape)} do not scan into steps of {circuit.num_pixels} pixels")
        samples = steps.reshape(*steps.shape[:2], -1)
    if samples.ndim < (2 if samples.dtype.names else 3):
        raise CircuitError(
            f"sequences are [N, steps, …], got {samples.dtype} {list(samples.shape)}; of one alone add the first axis"
        )
    if samples.shape[1] == 0:
        raise CircuitError("a sequence has no step: give at least one")
    return samples


def sequence_lengths(circuit: TakesSteps, x: NDArray[Any], lengths: ArrayLike | None = None) -> NDArray[np.int64]:
    """Steps of each sequence ``[N, steps, …]`` that count, int64 ``[N]``; a CircuitError if they do not fit.

    Without ``lengths`` all do, but padding at the end: by its bytes, see `padding_of`, or, in numbers for columns,
    steps in which all of them are NaN. Bytes of padding before the end are an error; NaN there are missing values.
    """
    count, steps = x.shape[:2]
    padding = padding_of(circuit, x)
    if lengths is None:
        ends = np.full(count, steps, np.int64) if padding is None else (~padding).sum(axis=1, dtype=np.int64)
        missing = _missing(circuit, x)
        ends = ends if missing is None else np.minimum(ends, known_lengths(missing))
    else:
        found = to_array(lengths)
        if found.shape != (count,) or found.dtype.kind not in "iu":
            raise CircuitError(f"lengths are whole numbers [{count}], got {found.dtype} {list(found.shape)}")
        if count and not 1 <= found.min() <= found.max() <= steps:
            raise CircuitError(f"lengths from {found.min()} to {found.max()} do not fit sequences of {steps} steps")
        ends = np.asarray(found, np.int64)
    if padding is not None:
        wrong = np.flatnonzero((padding & (np.arange(steps) < ends[:, None])).any(axis=1))
        if wrong.size:
            raise CircuitError(f"sequence {wrong[0]} has a step that is padding (all bytes 255) before its end")
    if count and ends.min() < 1:
        hint = "" if circuit.columns is None else "; NaN in all columns at the end is padding, if no lengths are given"
        raise CircuitError(f"sequence {int(ends.argmin())} has no step: give at least one{hint}")
    return ends


def padding_of(circuit: TakesSteps, x: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which steps ``[N, steps, …]`` are padding by their bytes, bool ``[N, steps]``; None where bytes do not say it.

    Of a table's rows as they are stored, and of bits as uint8, it is those all of whose bytes are 255. Whole numbers
    are none: -1 has such bytes, too.
    """
    if not _may_be_padded(circuit, x):
        return None
    width = x.itemsize * math.prod(x.shape[2:])
    raw: NDArray[np.uint8] = np.ascontiguousarray(x).view(np.uint8).reshape(*x.shape[:2], width)
    return np.asarray((raw == PADDING).all(axis=2))


def _may_be_padded(circuit: TakesSteps, x: NDArray[Any]) -> bool:
    """Whether the bytes of sequences are those that are stored: others become such a row by their value alone."""
    if circuit.columns is None:
        return circuit.num_pixels is None and x.dtype == np.uint8
    layout = row_dtype(circuit.columns)
    return x.dtype == layout or (x.dtype == np.uint8 and x.shape[2:] == (layout.itemsize,))


def _missing(circuit: TakesSteps, x: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which steps of numbers are NaN in all columns, bool ``[N, steps]``; None if none can be."""
    if circuit.columns is None:
        return None
    if x.dtype.names is None:
        return np.asarray(np.isnan(x).all(axis=tuple(range(2, x.ndim)))) if x.dtype.kind == "f" else None
    names = [column.name for column in circuit.columns]
    if any(name not in x.dtype.names or x.dtype[name].kind != "f" for name in names):
        return None
    return np.asarray(np.all([np.isnan(x[name]) for name in names], axis=0))


class SequenceEngine:
    """A sequential circuit, ready to run over sequences: 64 of them in a word.

    Args:
        circuit: The circuit, of two-input gates.
        engine: As in `Engine`; ``numpy`` is the simulation that all else is compared with.
        threads: Threads of a call.
        isa: As in `Engine`.
        optimized: Whether the step went through the passes already.

    Attributes:
        name: The engine that runs.
        circuit: The circuit.
        build_seconds: Time to build the engine.
        info: As in `Engine`.

    Raises:
        CircuitError: As in `Engine`.
        EngineError: Likewise.
    """

    def __init__(
        self,
        circuit: SequentialNetlist,
        engine: str = "auto",
        *,
        threads: int = 1,
        isa: str | None = None,
        optimized: bool = False,
    ) -> None:
        self.circuit = circuit
        self._engine = Engine(circuit.step, engine, threads=threads, isa=isa, optimized=optimized)
        self.name, self.info = self._engine.name, self._engine.info
        self.build_seconds, self.threads = self._engine.build_seconds, self._engine.threads

    def __call__(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.int32]:
        """Scores of sequences, int32 ``[N, classes]``: of the last step, or summed, as the circuit says.

        Args:
            x: See `sequence_frames`.
            lengths: Steps of each that count, whole numbers ``[N]``; see `sequence_lengths` for those by default.
        """
        frames = sequence_frames(self.circuit, x)
        ends = sequence_lengths(self.circuit, frames, lengths)
        scores = np.zeros((len(frames), self.circuit.num_classes), np.int32)
        for start in range(0, len(frames), _BLOCK):
            block, end = frames[start : start + _BLOCK], ends[start : start + _BLOCK]
            words = np.stack([self._words(block[:, t]) for t in range(int(end.max()))])
            scores[start : start + _BLOCK] = self._scores(words, end)
        return scores

    def predict(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """What the scores say, see `Decoding.decide`."""
        return self.circuit.decoding.decide(self(x, lengths))

    def scores_and_classes(
        self, x: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Both."""
        scores = self(x, lengths)
        return scores, self.circuit.decoding.decide(scores)

    def every_step(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.int32]:
        """Scores of each step alone, int32 ``[N, steps, classes]``.

        Behind the end of a sequence those of its last step, as its net has them; 0 where the circuit sums them up.
        Arguments as of a call.
        """
        frames = sequence_frames(self.circuit, x)
        ends = sequence_lengths(self.circuit, frames, lengths)
        result = np.zeros((*frames.shape[:2], self.circuit.num_classes), np.int32)
        for start in range(0, len(frames), _BLOCK):
            block = frames[start : start + _BLOCK]
            state = initial_words(self.circuit, len(block))
            for t in range(int(ends[start : start + _BLOCK].max())):
                outputs, state = self.step(self._words(block[:, t]), state)
                result[start : start + _BLOCK, t] = count_ones(outputs, len(block), self.circuit.num_classes)
        if self.circuit.readout == "sum":
            result[np.arange(frames.shape[1]) >= ends[:, None]] = 0
            return result
        return held(result, ends)

    def packed(self, words: NDArray[np.uint64], count: int | None = None) -> NDArray[np.int32]:
        """Scores of packed sequences, uint64 ``[steps, num_inputs, w]`` as `pack_bits` makes them of each step."""
        if words.ndim != 3 or not len(words):
            raise CircuitError(f"packed sequences are [steps, {self.circuit.num_inputs}, w], got {list(words.shape)}")
        count = words.shape[2] * 64 if count is None else count
        wanted = (len(words), self.circuit.num_inputs, -(-count // 64))
        if words.dtype != np.uint64 or words.shape != wanted:
            raise CircuitError(f"packed sequences must be uint64 {list(wanted)}, got {words.dtype} {list(words.shape)}")
        return self._scores(words, np.full(count, len(words), np.int64))

    def step(self, inputs: Words, state: Words) -> tuple[Words, Words]:
        """One step on packed bits: ``[num_inputs, w]`` and ``[state, w]`` to the counted bits and the next state."""
        outputs = self._engine.outputs(np.concatenate([inputs, state]))
        counted = len(outputs) - self.circuit.num_state
        return outputs[:counted], outputs[counted:]

    def _words(self, samples: NDArray[Any]) -> Words:
        return step_words(self.circuit, samples)

    def _scores(self, words: NDArray[np.uint64], ends: NDArray[np.int64]) -> NDArray[np.int32]:
        """Scores of packed sequences of these lengths."""
        circuit, last = self.circuit, self.circuit.readout == "last"
        sizes = circuit.counted.outputs.size, circuit.num_classes, len(ends)
        lengths = None if (ends == len(words)).all() else ends
        found = self._engine.sequences(words, circuit.initial, *sizes, lengths, not last)
        if found is not None:
            return found
        scores = np.zeros((len(ends), circuit.num_classes), np.int32)
        state = initial_words(circuit, len(ends))
        for t, inputs in enumerate(words, 1):
            outputs, state = self.step(inputs, state)
            counts = ends == t if last else ends >= t
            if counts.any():
                scores[counts] += count_ones(outputs, len(ends), circuit.num_classes)[counts]
        return scores

    def __repr__(self) -> str:
        return f"SequenceEngine({self.name}, {self.circuit!r})"


def step_words(circuit: SequentialNetlist, samples: NDArray[Any]) -> Words:
    """The bits of one step of sequences, packed; a CircuitError as `encode` raises it."""
    return pack_bits(encode(circuit, plain_bits(circuit, samples)))


def plain_bits(circuit: TakesSteps, samples: NDArray[Any]) -> NDArray[Any]:
    """Samples as `encode` takes them: bits that are uint8 as booleans; a CircuitError if they are none."""
    if circuit.num_pixels is not None or circuit.columns is not None or samples.dtype != np.uint8:
        return samples
    padding = samples == PADDING
    axes = tuple(range(1, samples.ndim))
    if ((samples > 1) & ~padding).any() or (padding.any(axis=axes) != padding.all(axis=axes)).any():
        raise CircuitError("bits as uint8 are 0 or 1, and 255 in steps that are padding, in all of their bits")
    return np.asarray(samples == 1)


def initial_words(circuit: SequentialNetlist, count: int) -> Words:
    """The initial state of so many sequences, uint64 ``[state, words]``."""
    return np.repeat(np.where(circuit.initial, ~np.uint64(0), np.uint64(0))[:, None], -(-count // 64), axis=1)


def running_sums(each: NDArray[np.int64]) -> NDArray[np.int64]:
    """Scores of steps alone, ``[N, steps, classes]``, summed up to each step as a stream does, see `FULL_BIT`."""
    sums = each.cumsum(axis=1)
    full = np.any(sums >= 1 << FULL_BIT, axis=2)
    last = np.where(full.any(axis=1), full.argmax(axis=1), sums.shape[1] - 1)
    steps = np.minimum(np.arange(sums.shape[1]), last[:, None])
    return np.take_along_axis(sums, steps[:, :, None], axis=1)


def held(scores: NDArray[Any], ends: NDArray[np.int64]) -> NDArray[Any]:
    """Scores of every step, ``[N, steps, classes]``, with those of the last step behind the end of a sequence."""
    places = np.minimum(np.arange(scores.shape[1]), ends[:, None] - 1)
    return np.take_along_axis(scores, places[:, :, None], axis=1)
