from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch

from lgn_lightning import LogicClassifier
from lgn_lightning.cli.main import main
from lgn_lightning.data import DataError, PackedTable, Table
from lgn_lightning.data.packed_table import pack_rows
from lgn_lightning.models import TableMLP
from lgn_lightning.nn import Columns
from lgn_lightning.training.ddp import LogicDDPStrategy
from tests.synthetic import write_table


def more(path: Path) -> None:
    """Adds numbers to predict, and weights."""
    frame = pd.read_csv(path, dtype_backend="numpy_nullable")
    frame["price"] = np.arange(len(frame)) / 7
    frame["weight"] = np.arange(len(frame)) % 5
    frame.to_csv(path, index=False)


@pytest.fixture(params=["csv", "parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = write_table(tmp_path / "t.csv", 300)
    more(path)
    if request.param == "csv":
        return path
    pytest.importorskip("pyarrow")
    pd.read_csv(path, dtype_backend="numpy_nullable").to_parquet(tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def bits(data: Table, samples: Any) -> torch.Tensor:
    layer = Columns(data.num_bits)
    layer.fit(data.comparisons)
    return layer(samples)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target": "price"},
        {"target": ["price", "weight"], "task": "number", "missing": ["-"]},
        {"target": ["is big"], "task": "labels"},
        {"target": "key", "drop": ["colour"]},
        {"group": "key"},
        {"weights": "weight", "split_seed": 3},
        {"group": "key", "weights": "weight", "folds": 3, "fold": 1},
        {"folds": 3, "fold": 2},
        {"test_path": "more.csv"},
        {"target": "price", "test_path": "more.csv"},
    ],
)
def test_a_sample_of_all_rows_gives_the_table_in_memory(path: Path, settings: dict[str, Any]) -> None:
    """Tasks, types, thresholds, splits and bits are the same, however the file is cut into pieces."""
    if "test_path" in settings:
        more(write_table(path.parent / "more.csv", 90))
        settings = settings | {"test_path": str(path.parent / "more.csv")}
    settings = {"target": "kind"} | settings
    usual, packed = Table(str(path), **settings), PackedTable(str(path), chunk_rows=37, **settings)
    for data in (usual, packed):
        data.prepare_data()
        data.setup()
    assert (packed.task, packed.class_names) == (usual.task, usual.class_names)
    assert packed.comparisons == usual.comparisons
    for split in ("training_samples", "test_samples"):
        (x, y), (words, labels) = (getattr(data, split)() for data in (usual, packed))
        assert words.dtype == torch.int64
        assert torch.equal(y, labels)
        assert torch.equal(bits(usual, x), bits(packed, words))
    batch = next(iter(packed.train_dataloader()))
    assert batch[0].shape[1] == -(-packed.num_bits // 64)
    held_out = [torch.cat([y for _, y in data.val_dataloader()]) for data in (usual, packed)]
    assert torch.equal(*held_out)


def test_a_target_is_taken_for_the_same_in_pieces(tmp_path: Path) -> None:
    """Few whole numbers, then fractions, more than 30, or texts."""
    for values in ([1.0] * 20 + [2.0] * 20 + [0.5], [*range(29)] * 2 + [40, 41, 42], [1, 2] * 20 + ["other"] * 2):
        rows = pd.DataFrame({"x": np.arange(len(values)), "y": values})
        rows.to_csv(tmp_path / "t.csv", index=False)
        settings: dict[str, Any] = {"val_fraction": 0, "test_fraction": 0}
        usual = Table(str(tmp_path / "t.csv"), "y", **settings)
        packed = PackedTable(str(tmp_path / "t.csv"), "y", chunk_rows=7, **settings)
        assert (packed.task, packed.class_names) == (usual.task, usual.class_names)
        assert torch.equal(packed._load_train().labels, usual._load_train().labels)


class Reader(pl.Callback):
    """Leaves the training rows that each process gets in each epoch, and the net that it ends with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.epochs = folder, list[torch.Tensor]()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loader: Any = trainer.train_dataloader
        self.epochs.append(torch.cat([loader.indices[batch] for batch in copy.deepcopy(loader.batch_sampler)]))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = {"rows": torch.stack(self.epochs), "net": pl_module.net.state_dict(), "step": trainer.global_step}  # type: ignore[operator, union-attr]
        torch.save(found, self.folder / f"{trainer.global_rank}.pt")


def test_each_of_two_processes_reads_rows_of_its_own(path: Path) -> None:
    """The same ones in all epochs in another order, as many as the other process, and none of its."""
    data = PackedTable(str(path), "kind", batch_size=8, show=False)
    torch.manual_seed(0)
    net = TableMLP(data.num_bits, 3, width=300, depth=2)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=LogicDDPStrategy(start_method="fork"),
        max_epochs=2,
        callbacks=[Reader(path.parent)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=path.parent,
    )
    trainer.fit(LogicClassifier(net, 3), data)
    ranks = [torch.load(path.parent / f"{rank}.pt", weights_only=True) for rank in range(2)]
    own = [set(rank["rows"].flatten().tolist()) for rank in ranks]
    assert not own[0] & own[1]
    data.setup("fit")
    assert own[0] | own[1] <= set(data._split_train(data._load_train().labels)[0].tolist())
    for rank in ranks:
        assert rank["rows"].shape == (2, 96)  # 204 rows train: 102 a process, 12 batches of 8
        assert not torch.equal(*rank["rows"])
        assert rank["step"] == 24
    for name, value in ranks[0]["net"].items():
        assert torch.equal(value, ranks[1]["net"][name]), name


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
