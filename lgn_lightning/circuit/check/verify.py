"""Comparison of two circuits on inputs: all of them where they are few, else random ones and the user's samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.net.looped import LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.simulate import encode, scores

AnyCircuit = Netlist | LoopedNetlist

#: Circuits of up to this many inputs are compared on every input.
EXHAUSTIVE_INPUTS = 20
#: Random inputs otherwise.
RANDOM_SAMPLES = 1 << 14
_BLOCK_WORDS = 64


@dataclass(frozen=True)
class Verification:
    """Outcome of `verify`.

    Attributes:
        equal: Whether all scores agree.
        exhaustive: Whether every input was tried, so that ``equal`` is a proof.
        samples: Inputs that were tried.
        counterexample: Input bits of the first disagreement, bool ``[inputs]``, or None.
    """

    equal: bool
    exhaustive: bool
    samples: int
    counterexample: NDArray[np.bool_] | None = None

    def __bool__(self) -> bool:
        return self.equal


def verify(left: AnyCircuit, right: AnyCircuit, samples: ArrayLike | None = None, seed: int = 0) -> Verification:
    """Compares the scores of two circuits.

    Args:
        left: A circuit.
        right: A circuit with the same inputs and classes.
        samples: Samples to try beside the random ones, as `Circuit.scores` takes them.
        seed: Of the random inputs.

    Raises:
        CircuitError: If inputs or classes differ in number.
    """
    if (left.num_inputs, left.num_classes) != (right.num_inputs, right.num_classes):
        raise CircuitError(
            f"{left.num_inputs} inputs and {left.num_classes} classes cannot be compared with "
            f"{right.num_inputs} inputs and {right.num_classes} classes"
        )
    tried = 0
    exhaustive = left.num_inputs <= EXHAUSTIVE_INPUTS
    generator = np.random.default_rng(seed)
    total = 1 << left.num_inputs if exhaustive else RANDOM_SAMPLES
    for start in range(0, total, _BLOCK_WORDS * 64):
        count = min(_BLOCK_WORDS * 64, total - start)
        if exhaustive:
            numbers = np.arange(start, start + count)
            bits = (numbers[:, None] >> np.arange(left.num_inputs) & 1).astype(np.bool_)
        else:
            bits = generator.integers(0, 2, (count, left.num_inputs), dtype=np.uint8).view(np.bool_)
        tried += count
        if (wrong := _first_difference(left, right, bits)) is not None:
            return Verification(False, exhaustive, tried, wrong)
    if samples is not None:
        bits = encode(left, samples)
        tried += bits.shape[0]
        if (wrong := _first_difference(left, right, bits)) is not None:
            return Verification(False, exhaustive, tried, wrong)
    return Verification(True, exhaustive, tried)


def _first_difference(left: AnyCircuit, right: AnyCircuit, bits: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    differs = np.flatnonzero((scores(left, bits) != scores(right, bits)).any(axis=1))
    return bits[differs[0]] if differs.size else None
