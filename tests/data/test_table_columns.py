from __future__ import annotations

import shlex
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lgn_lightning.base.columns import UNSEEN
from lgn_lightning.data import DataError
from lgn_lightning.data.table_columns import counts_rows, find_columns, make_table_rows, numbers_of
from lgn_lightning.data.table_remedies import Options


def kind(values: Any, said: str | None = None) -> str:
    frame = pd.DataFrame({"a": values})
    return find_columns(frame, {} if said is None else {"a": said}, "t.csv", Options())[0].kind


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], "int32"),
        ([2**31, 1], "int64"),
        ([-(2**31), 1], "int64"),  # the smallest stands for a missing one
        (pd.array([1, None], "Int64"), "int32"),
        ([0.1, 0.2], "float32"),
        ([1.6e9 + 0.001 * i for i in range(100)], "float64"),  # float32 cannot tell them apart
        (np.array([0.1, 0.2], np.float32), "float32"),
        ([True, False], "boolean"),
        (["a", "b", None], "category"),
        (["1", "2"], "float32"),
        (pd.Categorical([3, 4, 3]), "category"),
    ],
)
def test_types_are_found(values: Any, expected: str) -> None:
    assert kind(values) == expected


def test_types_are_what_the_user_says() -> None:
    assert kind([1, 2, 3], "category") == "category"
    assert kind([1, 2, 3], "float64") == "float64"
    assert kind(["1", "x"], "category") == "category"
    with pytest.raises(DataError, match="numeric, float32"):
        kind([1], "number")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([None, None], "missing"),
        (["1", "2", "3", "?"], r"'\?'"),
        (["2024-01-05", "2024-02-07"], "dates"),
        (pd.to_datetime(["2024-01-05"]), "dates"),
        ([str(i) + "x" for i in range(2000)], "2,000 categories"),
        ([str(i) + "x" for i in range(60)], "60 categories in 60 values"),
        ([[1], [2]], "list"),
    ],
)
def test_columns_of_no_use(values: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        kind(values)


def test_all_columns_of_no_use_are_named_at_once_with_what_leaves_them_out() -> None:
    frame = pd.DataFrame(
        {"day, first": pd.date_range("2026-01-01", periods=60), "x": range(60), "name": [f"n{i}" for i in range(60)]}
    )
    with pytest.raises(DataError) as error:
        find_columns(frame, {}, "t.csv", Options(["id"]))
    drop = str(error.value).partition("--data.drop ")[2].partition("; or say")[0]
    names = yaml.safe_load(shlex.split(drop)[0])
    assert names == ["id", "day, first", "name"]  # those that were left out before stay so
    assert find_columns(frame.drop(columns=names[1:]), {}, "t.csv", Options())[0].name == "x"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (range(100, 160), True),
        (np.delete(np.arange(80), np.arange(3, 80, 4)), True),  # every fourth row is for the test
        (np.arange(60)[::-1], False),
        (np.arange(60) // 2, False),
        (np.arange(60) * 10, False),  # as the miles of a route
        (np.arange(60) / 10, False),
        (range(5), False),
    ],
)
def test_columns_that_count_the_rows(values: Any, told: bool) -> None:
    assert counts_rows(pd.Series(values)) is told


def rows(train: dict[str, Any], later: dict[str, Any]) -> Any:
    columns = find_columns(pd.DataFrame(train), {}, "t.csv", Options())
    return make_table_rows(columns, pd.DataFrame(later), "p.csv")


def test_later_frames_go_by_name() -> None:
    made, notes = rows({"a": [1, 2], "b": ["x", "y"]}, {"c": [0, 0], "b": ["y", "z"], "a": [5, 6]})
    assert made["a"].tolist() == [5, 6]
    assert made["b"].tolist() == [2, UNSEEN]
    assert notes.unseen == {"b": 1}
    assert notes.extra == ["c"]


def test_whole_numbers_are_exact_and_end_at_the_ends_of_their_type() -> None:
    made, _ = rows({"a": [1, 2], "b": [2**62, 1]}, {"a": [2**40, -(2**40)], "b": [2**62 + 1, -(2**63)]})
    assert made["a"].tolist() == [2**31 - 1, -(2**31) + 1]
    assert made["b"].tolist() == [2**62 + 1, -(2**63) + 1]
    made, _ = rows({"a": [1, 2]}, {"a": [3.0, np.inf, None]})
    assert made["a"].tolist() == [3, 2**31 - 1, -(2**31)]


@pytest.mark.parametrize(
    ("later", "says"),
    [
        ({"a": [1]}, "'size'"),
        ({"a": [1], "Size": [2.0]}, "nearest"),
        ({"a": [1.5], "size": [2.0]}, r"row 1 is .*1\.5"),
        ({"a": [1], "size": ["big"]}, "'big'"),
    ],
)
def test_later_frames_that_do_not_fit(later: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        rows({"a": [1, 2], "size": [0.5, 1.5]}, later)


def test_booleans_and_whole_numbers_may_have_gaps() -> None:
    frame = pd.DataFrame({"a": pd.array([True, None, False], "boolean"), "b": pd.array([1, None, 3], "Int64")})
    columns = find_columns(frame, {}, "t", Options())
    rows, _ = make_table_rows(columns, frame, "t")
    assert [column.kind for column in columns] == ["boolean", "int32"]
    assert rows["a"].tolist() == [1, columns[0].missing, 0]
    assert rows["b"].tolist() == [1, columns[1].missing, 3]


def test_booleans_have_words() -> None:
    made, _ = rows({"a": [True, False]}, {"a": ["TRUE", "no", None, "1"]})
    assert made["a"].tolist() == [1, 0, -(2**31), 1]
    with pytest.raises(DataError, match="maybe"):
        rows({"a": [True, False]}, {"a": ["maybe"]})


@pytest.mark.parametrize("dtype", ["M8[ns]", "m8[ns]"])
def test_dates_are_no_numbers(dtype: str) -> None:
    values = pd.Series(np.arange(3).astype(dtype), name="day")
    with pytest.raises(DataError, match="x holds numbers, but row 1 is Time"):
        numbers_of(values, "x")
    assert np.isnan(numbers_of(pd.Series(np.array(["NaT"] * 2, dtype)), "x")).all()
