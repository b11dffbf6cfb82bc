"""Random circuits and their hypothesis strategy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from lgn_lightning.circuit import Circuit


def random_circuit(
    seed: int = 0,
    inputs: int = 12,
    gates: int = 200,
    classes: int = 4,
    group: int = 9,
    arity: int = 2,
    levels: list[int] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    class_names: tuple[str, ...] | None = None,
) -> Circuit:
    rng = np.random.default_rng(seed)
    node = np.arange(inputs, inputs + gates)
    # Half of the operands lie near, so that the circuit is deep as well as wide.
    operands = []
    for _ in range(arity):
        near = node - 1 - rng.integers(0, 8, gates)
        far = rng.integers(0, node)
        operands.append(np.clip(np.where(rng.random(gates) < 0.5, near, far), 0, None).astype(np.int32))
    return Circuit(
        num_inputs=inputs,
        gates=rng.integers(0, 16 if arity == 2 else 256, gates).astype(np.uint8),
        a=operands[0],
        b=operands[1],
        c=operands[2] if arity == 3 else None,
        outputs=rng.integers(0, inputs + gates, classes * group).astype(np.int32),
        num_classes=classes,
        levels=None if levels is None else np.array(levels, np.uint8),
        image_shape=image_shape,
        class_names=class_names,
    )


def circuits_of(arities: list[int]) -> st.SearchStrategy[Circuit]:
    return st.builds(
        random_circuit,
        seed=st.integers(0, 2**31),
        inputs=st.integers(1, 20),
        gates=st.integers(0, 300),
        classes=st.integers(1, 5),
        group=st.integers(1, 40),
        arity=st.sampled_from(arities),
    )


circuits = circuits_of([2, 3])


circuits2 = circuits_of([2])


def random_bits(circuit: Circuit, count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (count, circuit.num_inputs)).astype(bool)


def slow_scores(circuit: Circuit, bits: np.ndarray) -> np.ndarray:
    """One sample and one gate at a time: independent of everything that is packed or vectorised."""
    result = []
    for row in bits:
        values = [int(value) for value in row]
        operands = zip(*(column.tolist() for column in circuit.operands), strict=True)
        for gate, nodes in zip(circuit.gates.tolist(), operands, strict=True):
            index = 0
            for node in nodes:
                index = index * 2 + values[node]
            values.append(gate >> (2**circuit.arity - 1 - index) & 1)
        outputs = [values[node] for node in circuit.outputs]
        group = len(outputs) // circuit.num_classes
        result.append([sum(outputs[k * group : (k + 1) * group]) for k in range(circuit.num_classes)])
    return np.array(result, np.int32).reshape(len(bits), circuit.num_classes)


def image_circuit() -> Circuit:
    names = ("cat", 'a "b" ??/\\', "größe")
    return random_circuit(3, inputs=30, levels=[63, 200], image_shape=(1, 3, 5), classes=3, class_names=names)


def changed(circuit: Circuit) -> Circuit:
    """The circuit with one gate negated that an output reads."""
    gates = circuit.gates.copy()
    gates[int(circuit.outputs.max()) - circuit.num_inputs] ^= 15
    return replace(circuit, gates=gates)


def gates_of(pairs: list[tuple[int, int, int]], outputs: list[int], inputs: int = 3) -> Circuit:
    gates, a, b = (np.array(column) for column in zip(*pairs, strict=True))
    return Circuit(
        num_inputs=inputs,
        gates=gates.astype(np.uint8),
        a=a.astype(np.int32),
        b=b.astype(np.int32),
        outputs=np.array(outputs, np.int32),
        num_classes=len(outputs),
    )
