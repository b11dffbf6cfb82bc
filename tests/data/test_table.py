from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from lgn_lightning.data import DataError, Table


def frame(count: int = 200) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=count)
    return pd.DataFrame(
        {
            "size": numbers,
            "color": generator.choice(["red", "green", "blue"], count),
            "id": np.arange(count),
            "group": np.arange(count) // 10,
            "kind": np.where(numbers > 0.5, "a", "b"),
        }
    )


def sizes(data: Table, samples: Any) -> list[float]:
    return samples[0].numpy().view(data.comparisons.row_dtype)[:, 0]["size"].tolist()


def test_splits_are_those_of_sklearn() -> None:
    data = Table.of_frame(frame(), "kind", drop=["id", "group"])
    data.setup()
    train, test = train_test_split(frame(), test_size=0.2, random_state=0, stratify=frame()["kind"])
    assert sizes(data, data.test_samples()) == test.sort_index()["size"].astype(np.float32).tolist()
    kept = sizes(data, data.training_samples())
    assert len(kept) == round(0.85 * len(train))
    assert set(kept) < set(train["size"].astype(np.float32).tolist())


def test_what_is_found_comes_from_the_rows_that_train() -> None:
    data = Table.of_frame(frame(), "kind", drop=["id", "group"], thresholds=3)
    data.setup()
    kept = np.array(sizes(data, data.training_samples()), np.float32)
    thresholds = [data.comparisons.value(i) for i in range(3)]
    below = [float((kept <= t).mean()) for t in thresholds]
    assert below == pytest.approx([0.25, 0.5, 0.75], abs=0.01)


def test_groups_stay_together() -> None:
    data = Table.of_frame(frame(), "kind", drop=["id"], group="group")
    data.setup()
    assert "group" not in [column.name for column in data.columns]
    lookup = dict(zip(frame()["size"].astype(np.float32).tolist(), frame()["group"], strict=True))
    train, val, test = (
        {lookup[value] for value in sizes(data, samples)}
        for samples in (
            data.training_samples(),
            next(iter(data.val_dataloader())),  # type: ignore[arg-type]
            data.test_samples(),
        )
    )
    assert not train & val
    assert not train & test
    assert not val & test


def test_test_rows_of_a_file_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    frame(50).assign(color="pink").to_csv(tmp_path / "b.csv.gz", index=False)
    data = Table(str(tmp_path / "a.csv"), "kind", str(tmp_path / "b.csv.gz"), drop=["id"])
    data.setup()
    assert len(data.test_samples()[0]) == 50
    assert "color: 50 values" in capsys.readouterr().err


def test_classes_are_in_order() -> None:
    x = np.arange(40.0)[:, None]
    assert Table.of_arrays(x, np.tile([10, 9], 20)).class_names == ["9", "10"]
    assert Table.of_arrays(x, np.tile(["b", "a"], 20)).class_names == ["a", "b"]
    data = Table.of_arrays(x, np.tile([10.0, 9.0], 20))
    assert data.class_names == ["9", "10"]
    data.setup()
    labels = data.test_samples()[1].numpy()
    assert labels.tolist() == [1 if value % 2 == 0 else 0 for value in _values(data)]


def _values(data: Table) -> list[float]:
    return data.test_samples()[0].numpy().view(data.comparisons.row_dtype)[:, 0]["x0"].tolist()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target": "kinds"}, "'kind'"),
        ({"target": "kind", "drop": ["colour"]}, "'color'"),
        ({"target": "id", "task": "class"}, "no class"),
        ({"target": "kind", "group": "groups"}, "'group'"),
        ({"target": "kind", "drop": ["kind"]}, "target"),
        ({"target": "kind", "types": {"colr": "category"}}, "'color'"),
        ({"target": "kind", "given": {"colr": 3}}, "'color'"),
        ({"target": None}, "target"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Table.of_frame(frame(), **settings).setup()


@pytest.mark.parametrize(
    ("labels", "says"),
    [(["a"] * 20, "all rows"), (["a"] * 19 + ["b"], "one row"), (["a"] * 10 + [None] + ["b"] * 9, "missing")],
)
def test_targets_of_no_use(labels: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Table.of_frame({"x": np.arange(20), "y": labels}, "y").setup()


def test_a_class_of_two_rows_stays_in_training() -> None:
    labels = ["a"] * 40 + ["b"] * 40 + ["c"] * 2
    data = Table.of_frame({"x": np.arange(82), "y": labels}, "y")
    data.setup()
    assert 2 in data.training_samples()[1].tolist()


def test_marks_of_missing_values() -> None:
    values = ["1", "2", "?", "4"] * 20
    data = Table.of_frame({"x": values, "y": ["a", "b"] * 40}, "y", missing=["?"])
    assert [column.kind for column in data.columns] == ["float32"]
    assert "x is missing" in [data.comparisons.describe(i) for i in range(data.num_bits)]


def test_weights_repeat_rows_in_training_alone() -> None:
    table = {"x": np.arange(400.0), "w": np.tile([0.0, 1.0, 3.0, 4.0], 100), "y": np.repeat(["a", "b"], 200)}
    data = Table.of_frame(table, "y", weights="w", val_fraction=0.2)
    data.setup()
    assert [column.name for column in data.columns] == ["x"]
    rows = data.training_samples()[0].numpy().view(data.comparisons.row_dtype)[:, 0]["x"]
    often = np.bincount(rows.astype(int), minlength=400).reshape(100, 4).sum(0)
    assert often[0] == 0
    assert often[2] / often[1] == pytest.approx(3, abs=0.7)
    assert often[3] / often[1] == pytest.approx(4, abs=0.8)
    assert len(data.test_samples()[0]) == 80
    assert sum(len(y) for _, y in data.val_dataloader()) == 64  # type: ignore[misc, union-attr]
    with pytest.raises(DataError, match="weights are 0 or more"):
        Table.of_frame({**table, "w": np.full(400, -1.0)}, "y", weights="w").setup()


def test_a_column_that_counts_the_rows_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    frame = {"id": range(100, 160), "name": ["a"] * 60, "x": np.arange(60) % 7, "y": np.arange(60) % 2}
    Table.of_frame(frame, "y", drop=["name"]).setup("fit")
    said = capsys.readouterr().err
    assert "only count the rows, as keys do, are in 'id'; --data.drop '[name, id]'" in said
    Table.of_frame(frame, "y", drop=["name", "id"]).setup("fit")
    assert "count the rows" not in capsys.readouterr().err
