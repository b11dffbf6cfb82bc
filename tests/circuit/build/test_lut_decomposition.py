from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.circuit import CircuitBuilder


def expected_bits(tables: np.ndarray, wires: np.ndarray, bits: np.ndarray) -> np.ndarray:
    index = np.zeros((len(bits), len(wires)), np.int64)
    for column in wires.T:
        index = index * 2 + bits[:, column]
    return tables[np.arange(len(wires)), index].astype(bool)


def check(tables: np.ndarray, wires: np.ndarray, inputs: int) -> int:
    builder = CircuitBuilder()
    builder.inputs(inputs)
    circuit = builder.finish(builder.luts(tables, wires))
    bits = np.random.default_rng(0).integers(0, 2, (200, inputs)).astype(bool)
    assert np.array_equal(circuit.scores(bits).astype(bool), expected_bits(tables, wires, bits))
    return circuit.num_gates


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), k=st.integers(1, 6), n=st.integers(1, 40), sparse=st.booleans())
def test_luts_compute_their_tables(seed: int, k: int, n: int, sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    tables = (rng.random((n, 1 << k)) < (0.05 if sparse else 0.5)).astype(np.uint8)
    check(tables, rng.integers(0, 7, (n, k)), inputs=7)  # repeated wires among them


def test_every_table_of_three_inputs() -> None:
    tables = (np.arange(256)[:, None] >> np.arange(7, -1, -1) & 1).astype(np.uint8)
    wires = np.tile([0, 1, 2], (256, 1))
    gates = check(tables, wires, inputs=3)
    # 16 cofactors of two inputs are shared by all of them.
    assert gates <= 16 + 3 * 256


def test_cofactors_are_shared() -> None:
    parity = np.array([bin(row).count("1") & 1 for row in range(64)], np.uint8)[None]
    assert check(parity, np.arange(6)[None], inputs=6) == 5
    assert check(1 - parity, np.arange(6)[None], inputs=6) == 5


def test_wrong_arguments() -> None:
    builder = CircuitBuilder()
    builder.inputs(8)
    with pytest.raises(ValueError, match="k in 1…6"):
        builder.luts(np.zeros((1, 128)), np.zeros((1, 7), int))
    with pytest.raises(ValueError, match=r"tables must be \[2, 8\]"):
        builder.luts(np.zeros((2, 4)), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="0 or 1"):
        builder.luts(np.full((1, 8), 2), np.zeros((1, 3), int))
    with pytest.raises(ValueError, match="only nodes 0…7 exist"):
        builder.luts(np.eye(8)[:1], np.array([[0, 1, 8]]))
    assert builder.luts(np.zeros((0, 8)), np.zeros((0, 3), int)).size == 0
