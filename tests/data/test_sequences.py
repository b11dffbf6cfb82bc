"""Sequences from arrays, long tables and .ts files: lengths, missing values, encoders, splits, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lgn_lightning.base.columns import Op
from lgn_lightning.data import DataError, Sequences
from lgn_lightning.data.sequence_file import read_sequences, windows_of


def arrays(count: int = 40, steps: int = 6, channels: int = 2) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, steps, channels)).astype(np.float32)
    y = np.array(["low", "high"])[(x[:, :, 0].sum(1) > 0).astype(int)]
    return {"x": x, "y": y}


def saved(path: Path, **changes: Any) -> str:
    np.savez(path, **{**arrays(), **changes})
    return str(path)


def long_table(path: Path, count: int = 12) -> str:
    generator = np.random.default_rng(0)
    rows = []
    for key in range(count):
        for step in range(2 + key % 3):
            value = float(generator.normal()) if step else np.nan
            rows.append({"name": f"s{key}", "when": step, "value": value, "kind": "ab"[key % 2]})
    frame = pd.DataFrame(rows).sample(frac=1, random_state=0)
    frame.to_csv(path, index=False)
    return str(path)


def test_arrays_become_rows_of_channels(tmp_path: Path) -> None:
    data = Sequences(saved(tmp_path / "a.npz", channels=np.array(["u", "v"])), thresholds=4, val_fraction=0.25)
    assert [column.name for column in data.columns] == ["u", "v"]
    assert data.class_names == ["high", "low"]
    x, y = data._load_train()
    tested, _ = data.test_samples()
    assert (x.dtype, x.shape, len(y), len(tested)) == (torch.uint8, (30, 6, 8), 30, 10)
    given = arrays()["x"]
    values = x.numpy().view(np.float32)
    assert all((given == row).all((1, 2)).any() for row in values)
    assert data.num_bits == 8
    assert not (data.comparisons.op == Op.MISSING).any()


def test_thresholds_are_of_the_sequences_that_train(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz")
    data = Sequences(path, thresholds=3, val_fraction=0.25)
    x, y = data._load_train()
    kept, held = data._split_train(y)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(30))
    steps = x[kept].numpy().view(np.float32)[:, :, 0]
    constants = [data.comparisons.value(bit) for bit in range(3)]
    shares = [(steps > constant).mean() for constant in constants]
    assert np.allclose(shares, [0.75, 0.5, 0.25], atol=0.02)


def test_thresholds_are_not_of_the_fold_that_is_tested(tmp_path: Path) -> None:
    x = arrays()["x"]
    lengths = np.arange(40) % 6 + 1
    data = Sequences(saved(tmp_path / "a.npz", x=x, lengths=lengths), thresholds=1000, val_fraction=0, folds=3)
    trained = data.training_samples()[0].numpy()
    kept = trained[(trained != 255).any(2)].view(np.float32)
    assert data.num_bits == sum(np.unique(channel).size - 1 for channel in kept.T)


def test_lengths_and_missing_values(tmp_path: Path) -> None:
    x = arrays()["x"]
    lengths = np.arange(40) % 6 + 1
    x[0, 0, 1] = np.nan
    data = Sequences(saved(tmp_path / "a.npz", x=x, lengths=lengths), val_fraction=0)
    found = np.concatenate(
        [(part[0].numpy() != 255).any(2).sum(1) for part in (data._load_train(), data.test_samples())]
    )
    assert sorted(found) == sorted(lengths)
    assert (data.comparisons.op == Op.MISSING).sum() in (0, 1)  # of the training alone
    x[:, 3:] = np.nan  # without lengths a sequence ends with its last number
    short = Sequences(saved(tmp_path / "b.npz", x=x))
    assert set((short._load_train()[0].numpy() != 255).any(2).sum(1)) == {3}


def test_changes_and_fewer_steps(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", channels=np.array(["u", "v"]))
    data = Sequences(path, delta=True, every=2)
    assert [column.name for column in data.columns] == ["u", "v", "u_delta", "v_delta"]
    x, _ = data._load_train()
    values = x.numpy().view(np.float32)
    assert values.shape == (30, 3, 4)
    assert np.allclose(values[:, 1:, 2:], np.diff(values[:, :, :2], axis=1))
    assert (values[:, 0, 2:] == 0).all()
    last = arrays()["x"][:, [1, 3, 5]]
    assert all((last == row[:, :2]).all((1, 2)).any() for row in values)


@pytest.mark.parametrize("task", ["class", "steps"])
def test_fewer_steps_of_sequences_of_different_lengths(task: str, tmp_path: Path) -> None:
    lengths = np.where(np.arange(40) % 2, 9, 8)
    lengths[:3] = 1
    x = np.broadcast_to(np.arange(9.0)[:, None], (40, 9, 2)).astype(np.float32)
    y = arrays()["y"] if task == "class" else x[:, :, 0] % 3
    path = saved(tmp_path / "a.npz", x=x, y=y, lengths=lengths)
    data = Sequences(path, task=task, every=4, val_fraction=0)
    seen = set()
    for values, labels in (data._load_train(), data.test_samples()):
        there = (values.numpy() != 255).any(2)
        numbers = values.numpy().view(np.float32)[:, :, 0]
        seen |= {tuple(row[kept].tolist()) for row, kept in zip(numbers, there, strict=True)}
        if task == "steps":
            assert np.array_equal(labels, np.where(there, numbers % 3, -100))
    assert seen == {(0.0,), (3.0, 7.0), (0.0, 4.0, 8.0)}


def test_a_long_table_in_any_order(tmp_path: Path) -> None:
    path = long_table(tmp_path / "a.csv")
    data = Sequences(path, target="kind", id="name", time="when", val_fraction=0, test_fraction=0.5)
    x, y = data._load_train()
    assert data.class_names == ["a", "b"]
    values = x.numpy().view(np.float32)[:, :, 0]
    assert np.isnan(values[:, 0]).all()
    assert set((x.numpy() != 255).any(2).sum(1)) <= {2, 3, 4}
    assert (data.comparisons.op == Op.MISSING).sum() == 1
    assert len(y) == 6


def test_ts_files(tmp_path: Path) -> None:
    text = "# c\n@problemName p\n@classLabel true a b\n@data\n" + "1,2,?:4,5,6:a\n1,2:4,5:b\n" * 6
    (tmp_path / "a.ts").write_text(text)
    found = read_sequences(tmp_path / "a.ts", None, None, None)["all"]
    assert found.values.shape == (12, 3, 2)
    assert found.lengths.tolist() == [3, 2] * 6
    assert found.labels.tolist() == ["a", "b"] * 6
    assert np.isnan(found.values[0, 2, 0])
    assert found.values[0, 1].tolist() == [2, 5]
    data = Sequences(str(tmp_path / "a.ts"), test_path=str(tmp_path / "a.ts"), val_fraction=0)
    assert len(data._load_train()[1]) == len(data.test_samples()[1]) == 12


def test_windows_over_a_stream_share_no_row_with_the_test(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"t": np.arange(100), "value": np.arange(100.0), "kind": np.array(["a", "b"])[np.arange(100) // 5 % 2]}
    )
    frame.iloc[::-1].to_csv(tmp_path / "a.csv", index=False)
    data = Sequences(str(tmp_path / "a.csv"), target="kind", time="t", window=10, stride=3, val_fraction=0)
    (x, y), (tested, _) = data._load_train(), data.test_samples()
    train, test = (part.numpy().view(np.float32)[:, :, 0] for part in (x, tested))
    assert (np.diff(train, axis=1) == 1).all()
    assert (np.diff(train[:, 0]) == 3).all()
    assert train.max() < test.min()
    assert y.tolist() == [int(row[-1]) // 5 % 2 for row in train]


def rows_of(samples: torch.Tensor) -> set[float]:
    return set(samples.numpy().view(np.float32).ravel().tolist())


@pytest.mark.parametrize("task", ["class", "steps"])
@pytest.mark.parametrize("folds", [0, 3])
@pytest.mark.parametrize(("window", "stride"), [(10, 3), (20, 1), (4, 9)])
def test_windows_share_no_row_with_validation_or_fold(
    window: int, stride: int, folds: int, task: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"value": np.arange(300.0), "kind": np.arange(300) // 5 % 2})
    frame.to_csv(tmp_path / "a.csv", index=False)
    options: dict[str, Any] = {"task": task, "window": window, "stride": stride, "val_fraction": 0.2}
    tested = set[float]()
    for fold in range(max(1, folds)):
        data = Sequences(str(tmp_path / "a.csv"), target="kind", **options, folds=folds, fold=fold)
        parts = [data.training_samples()[0], next(iter(data.val_dataloader()))[0], data.test_samples()[0]]
        rows = [rows_of(part) for part in parts]
        assert not rows[0] & (rows[1] | rows[2])
        assert not rows[1] & rows[2]
        assert min(rows[1]) > min(rows[0])
        assert len(parts[1]) == max(1, round(0.2 * len(data._load_train()[1]))) or folds
        tested |= rows[2]
    assert not folds or tested == rows_of(data._load_train()[0])


@pytest.mark.parametrize(
    "times",
    [
        [8, 9, 10, 11],
        [8.5, 9, 10.25, 10.5],
        ["8", "9", "10", "1e2"],
        ["8:00", "9:00", "10:00", "10:00:30"],
        ["2024-01-31", "2024-02-01T08:00", "2024-02-01 10:00", "2024-02-01 10:00-01:00"],
        list(pd.date_range("2024-01-30", periods=4)),
        list(pd.date_range("2024-01-30", periods=4).date),
        list(pd.to_timedelta([8, 9, 10, 100], "h")),
    ],
)
@pytest.mark.parametrize("window", [None, 4])
def test_rows_are_in_the_order_of_their_times(times: list[Any], window: int | None, tmp_path: Path) -> None:
    count = 1 if window else 8
    rows = [
        {"name": key, "when": time, "value": float(step), "kind": "ab"[key % 2]}
        for key in range(count)
        for step, time in enumerate(times)
    ]
    frame = pd.DataFrame(rows).iloc[::-1].reset_index(drop=True)
    if window:
        found = windows_of(frame.drop(columns="name"), "t", "kind", "when", window, 1)
        assert found.values[:, :, 0].tolist() == [[0, 1, 2, 3]]
        return
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.csv", "a.parquet")[isinstance(times[0], pd.Timedelta) :]:  # whose text is no time
        found = read_sequences(tmp_path / name, "kind", "name", "when")["all"]
        assert found.values[:, :, 0].tolist() == [[0, 1, 2, 3]] * 8


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["30.01.", "31.01.", "01.02.", "02.02."], r"such as 2024-01-31 08:00:00, but row 1 is '30.01.'"),
        (["8", "9", "10", "x"], "but row 1 is '8'"),
        (["8:00", "9:00", "soon", "11:00"], "but row 1 is '8:00'"),
        ([1.0, 2.0, np.nan, 4.0], "1 rows have no 'when'"),
        (["8:00", None, None, "9:00"], "2 rows have no 'when'"),
    ],
)
def test_what_is_no_time_is_refused(times: list[Any], message: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"when": times, "value": 1.0, "kind": list("abab"), "name": list("uuvv")})
    frame.to_csv(tmp_path / "a.csv", index=False)
    options = {"target": "kind", "time": "when"}
    for more in ({"id": "name"}, {"window": 2}):
        with pytest.raises(DataError, match=message):
            Sequences(str(tmp_path / "a.csv"), **options, **more).setup("fit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((40, 6))}, r"numbers \[N, steps, channels\]"),
        ({"x": np.zeros((40, 0, 2))}, r"numbers \[N, steps, channels\]"),
        ({"x": np.full((40, 6, 2), np.inf)}, "channel_0' is infinite"),
        ({"x": np.full((40, 6, 2), np.nan)}, "at least one"),
        ({"y": np.zeros(3)}, "40 sequences and 3 labels"),
        ({"y": np.zeros((40, 6))}, "data.task steps"),
        ({"y": np.where(np.arange(40) < 5, np.nan, 1.0)}, "sequence 0 has no class"),
        ({"y": np.zeros(40)}, "the class is '0' in all rows: there is nothing to learn"),
        ({"lengths": np.zeros(40, int)}, "lengths from 0"),
        ({"lengths": np.full(40, 7)}, "lengths from 7"),
        ({"lengths": np.ones(3, int)}, r"whole numbers \[40\], got int64 \[3\]"),
        ({"lengths": np.zeros(0, int)}, r"whole numbers \[40\], got int64 \[0\]"),
        ({"lengths": np.full(40, 3.7)}, r"whole numbers \[40\], got float64 \[40\]"),
        ({"lengths": np.array(["3"] * 40)}, r"whole numbers \[40\], got <U1 \[40\]"),
        ({"lengths": np.full(40, 2**64 - 1, np.uint64)}, "lengths from 18446744073709551615"),
        ({"channels": np.array(["a"])}, "1 names of channels for 2"),
        ({"channels": np.array(["a", "a"])}, "a channel is called 'a'"),
        ({"channels": np.array(["a", ""])}, "a channel is called ''"),
        ({"y": np.array([b"\xff", b"b"] * 20)}, "or bytes in UTF-8"),
        ({"x_test": np.zeros((40, 6, 2))}, "an array x_test that does not belong to x;"),
        (
            {f"{name}_{part}": arrays()[name] for name in "xy" for part in ("train", "test")},
            "an array x that does not belong to x_train",
        ),
        ({"x_train": np.zeros((40, 6, 2))}, "has no array y_train"),
    ],
)
def test_bad_arrays_are_one_error(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        Sequences(saved(tmp_path / "a.npz", **changes)).setup("fit")


def test_bad_files_and_arguments_are_one_error(tmp_path: Path) -> None:
    table = long_table(tmp_path / "a.csv")
    (tmp_path / "b.ts").write_text("@data\n1,2:a\n1,2:3,4:b\n")
    (tmp_path / "c.ts").write_text("@timeStamps true\n@data\n")
    (tmp_path / "d.npz").write_bytes(b"x")
    np.save(tmp_path / "f.npy", np.zeros((4, 3, 2)))
    (tmp_path / "f.npy").rename(tmp_path / "f.npz")
    for arguments, message in (
        ({"path": table}, "data.id"),
        ({"path": table, "id": "name", "target": "sort"}, "sort"),
        ({"path": table, "id": "kind", "target": "name"}, "has 6 classes.*--data.task steps"),
        ({"path": table, "target": "kind", "window": 99}, "fewer than a window"),
        ({"path": table, "window": 2}, "data.target"),
        ({"path": table, "target": "kind", "time": "wen", "window": 2}, "no column 'wen'.*data.time.*'when'"),
        ({"path": table, "target": "kind", "time": "kind", "window": 2}, "are different columns"),
        ({"path": table, "target": "kind", "time": "name", "id": "name"}, "are different columns"),
        ({"path": str(tmp_path / "b.ts")}, "channels differ"),
        ({"path": str(tmp_path / "c.ts")}, "time stamps"),
        ({"path": str(tmp_path / "d.npz")}, "cannot be read as arrays"),
        ({"path": str(tmp_path / "e.npz")}, "there is no file"),
        ({"path": str(tmp_path / "f.npz")}, "is one array without a name"),
        ({"path": saved(tmp_path / "g.npz"), "given": {"channel_2": 3}}, "no column 'channel_2'.*data.given"),
        ({"path": saved(tmp_path / "g.npz"), "target": "y"}, "data.target: of tables alone, and .*g.npz is none"),
        ({"path": str(tmp_path / "b.ts"), "id": "a", "time": "b"}, "data.id, data.time: of tables"),
        ({"path": str(tmp_path)}, "is a folder"),
    ):
        with pytest.raises(DataError, match=message):
            Sequences(**arguments).setup("fit")
    for wrong in ({"stride": 0}, {"window": 0}, {"every": 0}, {"test_fraction": 1.0}):
        with pytest.raises(ValueError, match="must be"):
            Sequences(table, **wrong)
    for wrong, message in (({"id": "name", "window": 3}, "id='name'.*window=3"), ({"stride": 3}, "stride=3 is of")):
        with pytest.raises(ValueError, match=message):
            Sequences(table, target="kind", **wrong)


def test_bytes_are_the_text_that_they_stand_for(tmp_path: Path) -> None:
    channels = np.array(["ü", "v"])
    texts = {"y": np.char.encode(arrays()["y"]), "channels": np.char.encode(channels)}
    data = Sequences(saved(tmp_path / "a.npz", **texts), given={"ü": 2})
    assert data.class_names == ["high", "low"]
    assert [column.name for column in data.columns] == ["ü", "v"]
    assert np.bincount(data.comparisons.column).tolist() == [2, 16]


def test_a_class_at_every_step_of_a_long_table(tmp_path: Path) -> None:
    rows = [
        {"name": f"s{key}", "when": step, "value": float(key + step), "kind": ["a", "b", None][(key + step) % 3]}
        for key in range(12)
        for step in range(2 + key % 3)
    ]
    rows += [{"name": "none", "when": step, "value": 0.5, "kind": None} for step in range(3)]  # is left out
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_csv(tmp_path / "a.csv", index=False)
    options = {"target": "kind", "id": "name", "time": "when", "val_fraction": 0, "test_fraction": 0.5}
    data = Sequences(str(tmp_path / "a.csv"), task="steps", **options)
    assert (data.class_names, data.task) == (["a", "b"], "steps")
    found = 0
    for x, y in (data._load_train(), data.test_samples()):
        assert y.shape == x.shape[:2]
        values = x.numpy().view(np.float32)[:, :, 0]
        for value, label, there in zip(values, y, (x.numpy() != 255).any(2), strict=True):
            wanted = [[0, 1, -100][int(v) % 3] for v in value[there]]
            assert label.tolist() == wanted + [-100] * int((~there).sum())
            found += 1
    assert found == 12


def test_a_class_at_every_step_of_arrays_and_windows(tmp_path: Path) -> None:
    x = arrays()["x"]
    y = np.where(np.abs(x[:, :, 0]) < 0.1, np.nan, x[:, :, 0] > 0)
    data = Sequences(saved(tmp_path / "a.npz", y=y), task="steps", every=2, val_fraction=0)
    (values, labels), _ = data._load_train(), data.test_samples()
    numbers = values.numpy().view(np.float32)[:, :, 0]
    assert np.array_equal(labels, np.where(np.abs(numbers) < 0.1, -100, numbers > 0))
    stream = pd.DataFrame({"value": np.arange(60.0), "kind": np.arange(60) // 4 % 2})
    stream.to_csv(tmp_path / "b.csv", index=False)
    windows = Sequences(str(tmp_path / "b.csv"), target="kind", task="steps", window=6, stride=2, val_fraction=0)
    values, labels = windows._load_train()
    assert np.array_equal(labels, values.numpy().view(np.float32)[:, :, 0] // 4 % 2)
