from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.base.columns import Column, Comparisons, Op, make_rows
from lgn_lightning.nn import Columns

COLUMNS = (
    Column("f", "float32"),
    Column("i", "int32"),
    Column("d", "float64"),
    Column("c", "category", ("x", "y")),
    Column("l", "int64"),
    Column("b", "boolean"),
)


def table(values: dict[str, list[Any]]) -> Any:
    return make_rows(COLUMNS, [np.array(values[column.name], column.dtype) for column in COLUMNS])


def compare(*bits: tuple[str, Op, float | int]) -> Comparisons:
    names = [column.name for column in COLUMNS]
    constants = [
        np.float64(value).view(np.int64) if COLUMNS[names.index(name)].is_float else value for name, _, value in bits
    ]
    numbers = [names.index(name) for name, _, _ in bits]
    return Comparisons(COLUMNS, np.array(numbers), np.array([op for _, op, _ in bits]), np.array(constants, np.int64))


def layer(comparisons: Comparisons, **options: Any) -> Columns:
    columns = Columns(len(comparisons), **options)
    columns.fit(comparisons)
    return columns.eval()


def as_tensor(rows: Any) -> torch.Tensor:
    return torch.from_numpy(rows.view(np.uint8).reshape(len(rows), -1))


FLOATS32 = st.floats(width=32) | st.sampled_from(
    [0.0, -0.0, float(np.float32(0.1)), 2.0**-149, np.inf, -np.inf, np.nan]
)
FLOATS64 = st.floats() | st.sampled_from([0.1, 5e-324, np.inf, -np.inf, np.nan])
INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bits_are_those_of_python(data: st.DataObject) -> None:
    """Python compares floats and whole numbers exactly, whatever their size."""
    count = data.draw(st.integers(1, 12))
    kinds = {"f": FLOATS32, "d": FLOATS64, "i": INT32, "l": INT64, "c": st.integers(0, 2), "b": st.integers(0, 1)}
    values = {name: data.draw(st.lists(kind, min_size=count, max_size=count)) for name, kind in kinds.items()}
    rows = table(values)
    bits, wanted = [], []
    for name in kinds:
        is_float, least = name in "fd", -(2**63) if name == "l" else -(2**31)
        stored = rows[name].tolist()
        missing = [value != value or (not is_float and value == least) for value in stored]
        constant = data.draw(st.sampled_from(stored) | kinds[name])
        constant = 0 if constant != constant else constant if is_float else max(constant, least + 1)
        bit = data.draw(st.integers(0, 31))
        for op in Op if not is_float else (Op.GREATER, Op.EQUAL, Op.MISSING):
            bits.append((name, op, bit if op >= Op.BIT else constant))
            wanted.append(
                {
                    Op.GREATER: lambda v, c=constant: v > c,
                    Op.EQUAL: lambda v, c=constant: v == c,
                    Op.BIT: lambda v, b=bit: bool(v >> b & 1),
                    Op.GRAY: lambda v, b=bit: bool((v ^ (v >> 1)) >> b & 1),
                    Op.MISSING: None,
                }[op]
            )
            answer = (
                missing
                if op == Op.MISSING
                else [not gone and wanted[-1](value) for gone, value in zip(missing, stored, strict=True)]
            )
            wanted[-1] = answer
    comparisons = compare(*bits)
    expected = np.array(wanted).T
    assert np.array_equal(comparisons.encode(rows), expected)
    assert np.array_equal(layer(comparisons)(as_tensor(rows)).numpy() != 0, expected)


def some() -> tuple[Any, Comparisons]:
    rows = table({"f": [0.5, 2.0], "i": [3, 7], "d": [0.1, 0.3], "c": [1, 2], "l": [2**62, 2**62 + 1], "b": [0, 1]})
    return rows, compare(("f", Op.GREATER, 1.0), ("d", Op.GREATER, 0.2), ("l", Op.GREATER, 2**62), ("c", Op.EQUAL, 2))


def test_numbers_become_rows() -> None:
    rows, comparisons = some()
    matrix = torch.tensor([[float(rows[c.name][i]) for c in COLUMNS] for i in range(2)], dtype=torch.float64)
    matrix[:, 4] = torch.tensor([2**61, 2**63 - 2048])  # as exact as float64 is
    assert layer(comparisons)(matrix).tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


def test_what_was_fitted_is_in_the_checkpoint() -> None:
    rows, comparisons = some()
    file = io.BytesIO()
    torch.save(layer(comparisons).state_dict(), file)
    file.seek(0)
    fresh = Columns(len(comparisons))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.comparisons() == comparisons
    assert fresh(as_tensor(rows)).tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


def test_without_a_table_it_says_so() -> None:
    with pytest.raises(ValueError, match="fit"):
        Columns(3)(torch.zeros(2, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="3 bits"):
        Columns(3).fit(some()[1])
    with pytest.raises(ValueError, match=r"\[2, 8\]"):
        layer(some()[1])(torch.zeros(2, 8, dtype=torch.uint8))


def test_learned_thresholds_move_and_are_what_is_compared_with() -> None:
    comparisons = compare(("f", Op.GREATER, 1.0), ("f", Op.GREATER, 2.0), ("i", Op.GREATER, 3), ("i", Op.GREATER, 9))
    columns = layer(comparisons, learnable=True)
    assert columns.comparisons() == comparisons
    rows = table({"f": [1.6, 0.0], "i": [5, 5], "d": [0, 0], "c": [1, 1], "l": [0, 0], "b": [0, 0]})
    columns.train()
    bits = columns(as_tensor(rows))
    assert bits.tolist() == [[1, 0, 1, 0], [0, 0, 1, 0]]
    bits[:, 1].sum().backward()
    assert columns.weights.grad is not None
    assert columns.weights.grad[1] < 0  # a lower threshold makes more ones
    assert columns.weights.grad[0] == 0
    with torch.no_grad():
        columns.weights[1] = -1.0
    moved = columns.comparisons()
    assert 1.0 < moved.value(1) < 1.6
    assert columns.eval()(as_tensor(rows))[0].tolist() == [1, 1, 1, 0]
    assert np.array_equal(moved.encode(rows), columns(as_tensor(rows)).numpy() != 0)


@pytest.mark.parametrize("fused", [False, True])
def test_bits_follow_the_thresholds_that_an_optimizer_moves(fused: bool) -> None:
    """A fused step does not raise the version of a parameter."""
    comparisons = compare(("f", Op.GREATER, 1.0), ("f", Op.GREATER, 2.0))
    columns = layer(comparisons, learnable=True).train()
    rows = table({"f": [1.6, 0.0], "i": [5, 5], "d": [0, 0], "c": [1, 1], "l": [0, 0], "b": [0, 0]})
    optimizer = torch.optim.Adam(columns.parameters(), lr=1.0, fused=fused)
    (-columns(as_tensor(rows))[:, 1].sum()).backward()
    optimizer.step()
    assert columns.comparisons().value(1) < 1.6
    for mode in (True, False):
        assert columns.train(mode)(as_tensor(rows))[0].tolist() == [1, 1]


def test_noise_flips_bits_in_training_alone() -> None:
    rows, comparisons = some()
    columns = layer(comparisons, noise=0.25)
    many = as_tensor(rows).repeat(2000, 1)
    still = columns(many)
    columns.train()
    torch.manual_seed(0)
    flipped = columns(many) != still
    assert flipped.float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert set(columns(many).unique().tolist()) == {0.0, 1.0}
    assert torch.equal(columns.eval()(many), still)
    with pytest.raises(ValueError, match=r"\[0, 0\.5\)"):
        Columns(3, noise=0.5)
