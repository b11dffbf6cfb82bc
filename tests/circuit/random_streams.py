"""Random circuits with state, their hypothesis strategy, and what one of them gives, bit by bit."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lgn_lightning.circuit import SequentialCircuit
from tests.circuit.random_circuits import random_circuit, slow_scores


def random_stream(
    seed: int = 0,
    inputs: int = 6,
    state: int = 5,
    gates: int = 60,
    classes: int = 3,
    group: int = 4,
    readout: str = "last",
) -> SequentialCircuit:
    outputs = classes * group + state
    step = random_circuit(seed, inputs + state, gates, outputs, 1)
    initial = np.random.default_rng(seed).integers(0, 2, state).astype(bool)
    return SequentialCircuit(inputs, step, initial, classes, readout)


streams = st.builds(
    random_stream,
    seed=st.integers(0, 2**31),
    inputs=st.integers(1, 9),
    state=st.integers(0, 12),
    gates=st.integers(0, 150),
    classes=st.integers(1, 4),
    group=st.integers(1, 9),
    readout=st.sampled_from(["last", "sum"]),
)


def random_sequences(circuit: SequentialCircuit, count: int, steps: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (count, steps, circuit.num_inputs)).astype(bool)


def slow_sequence(circuit: SequentialCircuit, bits: np.ndarray) -> np.ndarray:
    """Scores of each step of one sequence, bool ``[steps, inputs]``: one gate at a time."""
    state, scores = circuit.initial.astype(int), []
    counted = circuit.counted.outputs.size
    for row in bits:
        out = slow_scores(circuit.step, np.concatenate([row.astype(int), state])[None])[0]  # type: ignore[arg-type]
        scores.append(out[:counted].reshape(circuit.num_classes, -1).sum(1))
        state = out[counted:]
    return np.array(scores, np.int32)
