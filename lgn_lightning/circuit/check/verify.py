"""Comparison of two circuits on inputs: all of them where they are few, else random ones and the user's samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.net.looped import LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, CircuitInputs, Netlist
from lgn_lightning.circuit.simulate import encode, scores

_WithoutState = Netlist | LoopedNetlist

#: Circuits of up to this many inputs are compared on every input.
EXHAUSTIVE_INPUTS: Final = 20
#: Random inputs otherwise.
RANDOM_SAMPLES: Final = 1 << 14
_BLOCK: Final = 4096


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


def different_inputs(left: CircuitInputs, right: CircuitInputs) -> list[str]:
    """What differs in how two circuits of any form read their inputs, where both say it."""
    if left.is_plain or right.is_plain:
        return []
    parts = {"levels": "thresholds", "image_shape": "sizes of images", "comparisons": "columns or their thresholds"}
    parts["preparation"] = "preparations of image files"
    return [text for name, text in parts.items() if not _same(left, right, name)]


def differences_around(left: CircuitInputs, right: CircuitInputs) -> list[str]:
    """What differs around the gates of two circuits of any form: how inputs are read, and what scores say.

    Where gates are equal, equal bits give equal scores, and yet a sample may be decided on in another way. Names count
    where both circuits have some.
    """
    found = different_inputs(left, right)
    found += [text for name, text in {"decoding": "decisions", "tau": "tau"}.items() if not _same(left, right, name)]
    names = getattr(left, "class_names", None), getattr(right, "class_names", None)
    return found + (["names of classes"] if None not in names and names[0] != names[1] else [])


def _same(left: CircuitInputs, right: CircuitInputs, name: str) -> bool:
    ours, theirs = getattr(left, name), getattr(right, name)
    return np.array_equal(ours, theirs) if isinstance(ours, np.ndarray) else bool(ours == theirs)


def verify(left: _WithoutState, right: _WithoutState, samples: ArrayLike | None = None) -> Verification:
    """Compares the scores of two circuits on all inputs or, where these are many, on the same random ones every time.

    The inputs are bits; what makes them of samples is not compared, see `differences_around`. ``samples``, as
    `Circuit.scores` of the first circuit takes them, are tried beside these. If inputs or classes differ in number,
    that is a CircuitError.
    """
    if (left.num_inputs, left.num_classes) != (right.num_inputs, right.num_classes):
        sizes = [f"{circuit.num_inputs} inputs and {circuit.num_classes} classes" for circuit in (left, right)]
        raise CircuitError(f"{sizes[0]} cannot be compared with {sizes[1]}")
    tried, exhaustive = 0, left.num_inputs <= EXHAUSTIVE_INPUTS
    for bits in _inputs(left, samples):
        tried += len(bits)
        differs = np.flatnonzero((scores(left, bits) != scores(right, bits)).any(axis=1))
        if differs.size:
            return Verification(False, exhaustive, tried, bits[differs[0]])
    return Verification(True, exhaustive, tried)


def _inputs(circuit: _WithoutState, samples: ArrayLike | None) -> Iterator[NDArray[np.bool_]]:
    """Input bits to try, in blocks: all where they are few, else random ones; then the samples."""
    inputs = circuit.num_inputs
    generator = np.random.default_rng(0)
    total = 1 << inputs if inputs <= EXHAUSTIVE_INPUTS else RANDOM_SAMPLES
    for start in range(0, total, _BLOCK):
        count = min(_BLOCK, total - start)
        if inputs <= EXHAUSTIVE_INPUTS:
            yield (np.arange(start, start + count)[:, None] >> np.arange(inputs) & 1).astype(np.bool_)
        else:
            yield generator.integers(0, 2, (count, inputs), dtype=np.uint8).view(np.bool_)
    if samples is not None:
        yield encode(circuit, samples)
