from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgn_lightning.base.columns import Column, Comparisons, make_rows
from lgn_lightning.data import DataError
from lgn_lightning.data.thresholds import Encoding


def fit(values: Any, kind: str = "float32", categories: tuple[str, ...] = (), **settings: Any) -> Comparisons:
    column = Column("a", kind, categories)
    array = np.array(values, column.dtype)
    other = Column("b", "int32")  # a table has something to learn from
    rows = make_rows((column, other), [array, np.arange(len(array), dtype=np.int32)])
    found = Encoding(**settings).fit((column, other), rows)
    return found.take(np.flatnonzero(found.column == 0))


def constants(found: Comparisons) -> list[float]:
    return [found.value(i) for i in range(len(found))]


@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=60),
    st.integers(1, 20),
    st.sampled_from(["quantile", "even"]),
)
def test_every_threshold_tells_rows_apart(values: list[float], number: int, spacing: str) -> None:
    found = fit(values, thresholds=number, spacing=spacing)
    thresholds = constants(found)
    assert len(thresholds) <= number
    assert thresholds == sorted(set(thresholds))
    array = np.array(values, np.float32)
    if spacing == "quantile":
        counts = [(array > t).sum() for t in thresholds]
        assert all(0 < count < len(array) for count in counts)
        assert len(set(counts)) == len(counts)


def test_quantiles_leave_equally_many_rows_between() -> None:
    found = fit(np.random.default_rng(0).normal(size=1700), thresholds=16)
    array = np.random.default_rng(0).normal(size=1700).astype(np.float32)
    below = [int((array <= t).sum()) for t in constants(found)]
    assert np.diff([0, *below, 1700]).tolist() == pytest.approx([100] * 17, abs=1)


def test_a_value_of_most_rows_takes_one_threshold() -> None:
    found = fit([0.0] * 900 + list(np.linspace(1, 2, 100)), thresholds=10)
    assert len(found) == 10
    assert sum(t < 1 for t in constants(found)) == 1


def test_few_values_get_all_gaps() -> None:
    assert constants(fit([1, 2, 5, 5], "int32")) == [1, 3]
    assert constants(fit([2**62, 2**62 + 1], "int64")) == [2**62]


def test_infinities_are_values() -> None:
    assert len(fit([-np.inf, 0.0, np.inf])) == 2


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_numbers_beyond_whole_ones_are_their_ends_and_not_missing(kind: str) -> None:
    column = Column("a", kind)
    ends = np.iinfo(column.dtype)
    found = column.convert(np.array([-np.inf, -1e30, np.nan, 1e30, np.inf]))
    assert found.tolist() == [ends.min + 1, ends.min + 1, ends.min, ends.max, ends.max]
    assert column.is_missing(found).tolist() == [False, False, True, False, False]


def test_given_thresholds() -> None:
    assert constants(fit([1.0, 2.0], given={"a": [0.5, 1.5]})) == [0.5, 1.5]
    assert len(fit(range(100), "int32", given={"a": 3})) == 3
    assert constants(fit(range(-9, 9), "int32", given={"a": [-1.5, 0.2, 0.7, 3]})) == [-2, 0, 3]
    assert constants(fit(range(-9, 9), "int64", given={"a": [float("-inf"), 1e30]})) == [-(2**63) + 1, 2**63 - 1]
    assert constants(fit(range(-9, 9), "int64", given={"a": [2**62 + 1, 2**62 + 2]})) == [2**62 + 1, 2**62 + 2]
    with pytest.raises(DataError, match="increasing"):
        fit([1.0, 2.0], given={"a": [1.5, 0.5]})


@pytest.mark.parametrize("code", ["binary", "gray"])
def test_codes_of_whole_numbers_tell_all_of_them_apart(code: str) -> None:
    values = np.arange(-9, 20)
    found = fit(values, "int32", codes={"a": code})
    rows = make_rows(found.columns, [values.astype(np.int32), values.astype(np.int32)])
    bits = found.encode(rows)
    assert len(np.unique(bits, axis=0)) == len(values)
    if code == "gray":
        steps = (bits[10:] != bits[9:-1]).sum(1)
        assert set(steps.tolist()) == {1}


def test_categories_unseen_and_missing_have_patterns_of_their_own() -> None:
    found = fit([1, 2, 3, np.iinfo(np.int32).min], "category", ("x", "y", "z"))
    rows = make_rows(found.columns, [np.array([1, 2, 3, 0, np.iinfo(np.int32).min], np.int32)] * 2)
    assert len(np.unique(found.encode(rows), axis=0)) == 5
    assert found.describe(1) == "a = x"
    assert found.describe(0) == "a is missing"


@pytest.mark.parametrize(("kind", "code"), [("float32", "binary"), ("category", "thermometer")])
def test_codes_that_do_not_suit(kind: str, code: str) -> None:
    with pytest.raises(DataError, match=r"column 'a'|columns? .*a"):
        fit([1, 2], kind, ("x", "y") if kind == "category" else (), codes={"a": code})


def test_nothing_to_learn_from() -> None:
    column = Column("a", "float32")
    with pytest.raises(DataError, match="nothing"):
        Encoding().fit((column,), make_rows((column,), [np.ones(3, np.float32)]))
