from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import train_test_split

from lgn_lightning.data import DataError, Table
from lgn_lightning.data.table_target import TargetReader


def frame(count: int = 60) -> pd.DataFrame:
    x = np.arange(count)
    return pd.DataFrame(
        {
            "x": x,
            "price": 0.5 * x,
            "size": x % 7,
            "wet": x % 2 == 0,
            "cold": np.where(x % 3, "yes", "no"),
            "level": x % 4,
        }
    )


def test_numbers_are_split_as_sklearn_splits_them() -> None:
    data = Table.of_frame(frame(), "price", task="number")
    assert (data.num_classes, data.class_names) == (1, ["price"])
    y = data.test_samples()[1]
    assert y.dtype == torch.float32
    _, test = train_test_split(frame()["price"], test_size=0.2, random_state=0)
    assert sorted(y.tolist()) == sorted(test.tolist())


def test_several_numbers_and_labels_are_columns() -> None:
    numbers = Table.of_frame(frame(), ["price", "size"], task="number")
    assert numbers.training_samples()[1].shape[1] == numbers.num_classes == 2
    labels = Table.of_frame(frame(), ["wet", "cold"], task="labels")
    y = labels.test_samples()[1]
    assert set(y.flatten().tolist()) == {0.0, 1.0}
    assert labels.class_names == ["wet", "cold"]
    assert [column.name for column in labels.columns] == ["x", "price", "size", "level"]


@pytest.mark.parametrize(
    ("target", "task", "says"),
    [
        ("cold", "number", "'no'"),
        ("level", "labels", "is 2"),
        (["wet", "cold"], "class", "one column"),
        ("price", "class", "--data.task number"),
    ],
)
def test_targets_that_do_not_fit(target: Any, task: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Table.of_frame(frame(), target, task=task).setup()


def test_a_number_that_is_none() -> None:
    with pytest.raises(DataError, match="infinite"):
        TargetReader("number", "t.csv").add(pd.DataFrame({"y": [1.0, np.inf]}))
    reader = TargetReader("number", "t.csv")
    reader.add(pd.DataFrame({"y": [1.0, 1.0]}))
    with pytest.raises(DataError, match="nothing to learn"):
        reader.finish()
    with pytest.raises(ValueError, match="'class', 'number', 'labels'"):
        Table(task="numbers")
