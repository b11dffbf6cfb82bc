"""How much each input matters: every input bit is flipped in all test samples, and the circuit decides again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit import Circuit, Engine
from lgn_lightning.circuit.simulate import encode, pack_bits
from lgn_lightning.report.circuit_facts import input_reads


@dataclass(frozen=True)
class Importance:
    """What flips of single input bits change, over the samples.

    ``bits`` is, of each input, the share of samples whose decision changes, or the mean change of a number, float64
    ``[num_inputs]``. ``groups`` is the same of each group of inputs, such as those of a column, for the flip of the
    group that changes most in a sample, float64 ``[groups]``.
    """

    bits: NDArray[np.float64]
    groups: NDArray[np.float64]


def importance(engine: Engine, samples: NDArray[np.generic], groups: Sequence[NDArray[np.intp]]) -> Importance:
    """Flips every input bit that a circuit reads, exactly, in every sample as `Circuit.scores` takes them."""
    circuit = engine.circuit
    assert isinstance(circuit, Circuit)
    count, words = len(samples), pack_bits(encode(circuit, samples))
    before = engine.predict_packed(words, count)
    read = input_reads(circuit) > 0
    bits, of_groups = np.zeros(circuit.num_inputs), np.zeros(len(groups))
    for number, group in enumerate(groups):
        most = np.zeros(count)
        for node in group[read[group]].tolist():
            np.invert(words[node], out=words[node])
            after = engine.predict_packed(words, count)
            np.invert(words[node], out=words[node])
            change = np.abs(after - before) if before.dtype.kind == "f" else after != before
            change = change.reshape(count, -1).max(axis=1).astype(np.float64)
            bits[node] = change.mean()
            np.maximum(most, change, out=most)
        of_groups[number] = most.mean()
    return Importance(bits, of_groups)
