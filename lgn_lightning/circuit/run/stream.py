"""`Stream`: a sequential circuit that takes one step at a call; its state is saved and read back."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.base.arrays import to_array
from lgn_lightning.base.files import atomic_write_bytes
from lgn_lightning.circuit.file import circuit_to_bytes
from lgn_lightning.circuit.net.netlist import CircuitError
from lgn_lightning.circuit.net.sequential import FULL_BIT, SequentialNetlist
from lgn_lightning.circuit.run.sequences import (
    SequenceEngine,
    initial_words,
    padding_of,
    sequence_frames,
    step_words,
)
from lgn_lightning.circuit.simulate import count_ones, pack_bits, unpack_bits

_MAGIC: Final = b"LGNSTAT\n"
#: Magic, version, digest of the circuit, streams, steps so far.
_PREFIX = struct.Struct("<8sI32sQQ")
_VERSION: Final = 1
_DIGEST: Final = hashlib.sha256().digest_size


class Stream:
    """Takes the steps of one or more streams as they come.

    Args:
        circuit: The circuit.
        streams: Streams that are stepped together, each with a state of its own.
        engine: As in `SequenceEngine`.

    Attributes:
        steps: Steps since the last reset.

    Raises:
        CircuitError: If there is no stream.
    """

    def __init__(self, circuit: SequentialNetlist, streams: int = 1, engine: str = "auto") -> None:
        if streams < 1:
            raise CircuitError(f"streams={streams}: there is at least one")
        self.circuit, self.streams = circuit, streams
        self._engine = SequenceEngine(circuit, engine)
        self._digest = hashlib.sha256(circuit_to_bytes(_plain(circuit))).digest()
        self.reset()

    def reset(self) -> None:
        """Goes back to the initial state."""
        self.steps = 0
        self._state = initial_words(self.circuit, self.streams)
        self._sums = np.zeros((self.streams, self.circuit.num_classes), np.int64)

    @property
    def state(self) -> NDArray[np.bool_]:
        """The state, bool ``[streams, state]``."""
        return unpack_bits(self._state, self.streams)

    def step(self, x: ArrayLike) -> NDArray[np.int64]:
        """Takes one step, and returns the scores so far: int64 ``[classes]``, or ``[streams, classes]`` of several.

        Args:
            x: The step, as one sample ``[…]`` of `sequence_frames`, or of several streams one each, ``[streams, …]``.

        Raises:
            CircuitError: If it is none, or padding, of which a stream knows none: its end is where steps end.
        """
        sample = to_array(x)
        rows = sample[None] if self.streams == 1 and sample.ndim == (0 if sample.dtype.names else 1) else sample
        if len(rows) != self.streams:
            raise CircuitError(f"a step of {self.streams} streams is [{self.streams}, …], got {list(sample.shape)}")
        frames = sequence_frames(self.circuit, rows[:, None])
        padding = padding_of(self.circuit, frames)
        if padding is not None and padding.any():
            raise CircuitError(
                f"stream {int(padding.argmax())} got a step that is padding (all bytes 255) at step {self.steps}: "
                "leave out what is behind the end; streams that end apart are stepped apart"
            )
        words = step_words(self.circuit, frames[:, 0])
        outputs, self._state = self._engine.step(words, self._state)
        counts = count_ones(outputs, self.streams, self.circuit.num_classes).astype(np.int64)
        if self.circuit.readout == "sum":
            full = (self._sums >> FULL_BIT).any(axis=1, keepdims=True)
            counts = self._sums + np.where(full, 0, counts)
        self._sums = counts
        self.steps += 1
        return self._sums[0].copy() if self.streams == 1 else self._sums.copy()

    def decide(self) -> NDArray[Any]:
        """What the scores so far say, ``[streams, …]``, see `Decoding.decide`."""
        return self.circuit.decoding.decide(self._sums.astype(np.int32))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state into a file, beside its place and renamed."""
        prefix = _PREFIX.pack(_MAGIC, _VERSION, self._digest, self.streams, self.steps)
        bits = np.packbits(self.state, bitorder="little").tobytes()
        body = prefix + bits + self._sums.astype("<i8").tobytes()
        atomic_write_bytes(path, body + hashlib.sha256(body).digest())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Goes on from a state file; a CircuitError if it is none, damaged, or of another circuit."""
        data = Path(path).read_bytes()
        if len(data) < _PREFIX.size + _DIGEST or not data.startswith(_MAGIC):
            raise CircuitError(f"{os.fspath(path)} is no file of a stream's state")
        body, digest = data[:-_DIGEST], data[-_DIGEST:]
        _, version, circuit, streams, steps = _PREFIX.unpack_from(body)
        if version > _VERSION:
            raise CircuitError(
                f"{os.fspath(path)} has version {version}; this release reads up to {_VERSION}: update it"
            )
        if hashlib.sha256(body).digest() != digest:
            raise CircuitError(f"{os.fspath(path)} is truncated or corrupt: its SHA-256 does not agree")
        if circuit != self._digest:
            raise CircuitError(
                f"{os.fspath(path)} is the state of another circuit; start a stream of that one, or reset"
            )
        if streams != self.streams:
            raise CircuitError(f"{os.fspath(path)} holds {streams} streams and not {self.streams}")
        size = streams * self.circuit.num_state
        bits = np.frombuffer(body, np.uint8, -(-size // 8), _PREFIX.size)
        state = np.unpackbits(bits, count=size, bitorder="little").reshape(streams, self.circuit.num_state)
        sums = np.frombuffer(body, "<i8", streams * self.circuit.num_classes, _PREFIX.size + bits.size)
        self._state = pack_bits(state.astype(np.bool_))
        self._sums, self.steps = sums.astype(np.int64).reshape(streams, -1), steps


def _plain(circuit: SequentialNetlist) -> SequentialNetlist:
    """The circuit without the words for its scores, which the state does not depend on."""
    return circuit.with_class_names(None)
