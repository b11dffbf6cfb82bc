from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lgn_lightning.cli.main import main
from lgn_lightning.data import DataError, PackedTable, Table
from lgn_lightning.data.packed_table import pack_rows
from lgn_lightning.nn import Columns
from tests.synthetic import write_table


@pytest.fixture(params=["csv", "parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = write_table(tmp_path / "t.csv", 300)
    if request.param == "csv":
        return path
    pytest.importorskip("pyarrow")
    pd.read_csv(path, dtype_backend="numpy_nullable").to_parquet(tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def bits(data: Table, samples: Any) -> torch.Tensor:
    layer = Columns(data.num_bits)
    layer.fit(data.comparisons)
    return layer(samples)


def test_a_sample_of_all_rows_gives_the_table_in_memory(path: Path) -> None:
    """Types, thresholds, splits and bits are the same, however the file is cut into pieces."""
    usual, packed = Table(str(path), "kind"), PackedTable(str(path), "kind", chunk_rows=37)
    for data in (usual, packed):
        data.prepare_data()
        data.setup()
    assert packed.class_names == usual.class_names
    assert packed.comparisons == usual.comparisons
    for split in ("training_samples", "test_samples"):
        (x, y), (words, labels) = (getattr(data, split)() for data in (usual, packed))
        assert words.dtype == torch.int64
        assert torch.equal(y, labels)
        assert torch.equal(bits(usual, x), bits(packed, words))
    batch = next(iter(packed.train_dataloader()))
    assert batch[0].shape[1] == -(-packed.num_bits // 64)


def test_a_smaller_sample_still_packs_every_row(path: Path) -> None:
    data = PackedTable(str(path), "kind", sample_rows=60, chunk_rows=50, val_fraction=0)
    usual = Table(str(path), "kind", val_fraction=0)
    rows = usual.training_samples()[0].numpy().view(usual.comparisons.row_dtype)[:, 0]
    made = data.training_samples()[0]
    assert len(made) == 240
    assert [c.name for c in data.columns] == [c.name for c in usual.columns]
    if data.columns == usual.columns:
        assert np.array_equal(pack_rows(data.comparisons, rows), made.numpy())


def test_bits_are_written_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PackedTable(str(path), "kind").prepare_data()
    again = PackedTable(str(path), "kind")
    with monkeypatch.context() as patch:
        patch.setattr(PackedTable, "_pack", lambda self: pytest.fail("packed again"))
        again.setup()
    folders = set((path.parent / ".lgn-cache").iterdir())
    os.utime(path, ns=(1, 1))
    PackedTable(str(path), "kind").prepare_data()
    PackedTable(str(path), "kind", thresholds=3).prepare_data()
    assert len(set((path.parent / ".lgn-cache").iterdir()) - folders) == 2


def test_a_kill_leaves_nothing_that_is_taken_for_the_bits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*args: Any) -> Any:
        raise Killed

    data = PackedTable(str(path), "kind", chunk_rows=100)
    with monkeypatch.context() as patch:
        patch.setattr("lgn_lightning.data.packed_table.pack_rows", killed)
        with pytest.raises(Killed):
            data.prepare_data()
    assert not data.folder.exists()
    data.prepare_data()
    assert len(data.training_samples()[0]) == 204


def test_fit_trains_on_bits_and_predicts_from_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "t.csv", 300)
    arguments = ["--data=lgn_lightning.data.PackedTable", "--data.path=t.csv", "--data.target=kind"]
    arguments += ["--model.net.width=60", "--trainer.max_steps=4", "--trainer.val_check_interval=2"]
    assert main(["fit", "table", *arguments]) == 0
    assert main(["predict", "runs/table", "t.csv", "--out", "p.csv"]) == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 301
    assert main(["report", "runs/table", "--data-root", "t.csv"]) == 0


@pytest.mark.parametrize(
    ("settings", "says"), [({"target": "kin"}, "'kind'"), ({"target": None}, "target"), ({"target": "colour"}, "none")]
)
def test_errors(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    write_table(tmp_path / "t.csv")
    with pytest.raises(DataError, match=says):
        PackedTable(str(tmp_path / "t.csv"), **settings).prepare_data()
