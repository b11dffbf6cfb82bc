"""A table larger than memory: memory and steps a second of `PackedTable`, beside a table that fits.

    python benchmarks/large_table.py write big.parquet --rows 20_000_000
    python benchmarks/large_table.py pack big.parquet
    python benchmarks/large_table.py train big.parquet
    python benchmarks/large_table.py train big.parquet --in-memory 200_000

Rows have 16 float32 columns, which become 16 thresholds each, and one of four classes. Each command says its peak of
resident memory, pages of mapped files included. ``train`` fits a net of 3 × 2,000 gates with validations, as
``lgn fit`` does; with ``--in-memory`` on the first rows alone, in a `Table`.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from pyarrow import parquet

from lgn_lightning import LogicClassifier
from lgn_lightning.base.machine import processor_name
from lgn_lightning.data import PackedTable, Table
from lgn_lightning.models import TableMLP

COLUMNS, THRESHOLDS, PIECE = 16, 16, 500_000


def write(path: Path, rows: int) -> None:
    """Normal numbers; the class is that of the signs of two sums."""
    random = np.random.default_rng(0)
    writer = None
    for first in range(0, rows, PIECE):
        x = random.standard_normal((min(PIECE, rows - first), COLUMNS), np.float32)
        kind = (x[:, :4].sum(1) > 0) * 2 + (x[:, 4] * x[:, 5] > 0)
        piece = pa.table({f"x{i}": x[:, i] for i in range(COLUMNS)} | {"kind": kind.astype(np.int32)})
        writer = writer or parquet.ParquetWriter(path, piece.schema, compression="none")
        writer.write_table(piece)
    assert writer is not None
    writer.close()


def packed(path: Path) -> PackedTable:
    return PackedTable(str(path), "kind", thresholds=THRESHOLDS, val_fraction=0.001, show=False, shuffle_seed=0)


class Clock(pl.Callback):
    """Steps a second, without the first ones."""

    def __init__(self, warm: int) -> None:
        self.warm, self.started, self.steps = warm, 0.0, 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == self.warm:
            self.started = time.perf_counter()
        self.steps = trainer.global_step - self.warm
        self.seconds = time.perf_counter() - self.started


def train(data: Table, steps: int) -> str:
    pl.seed_everything(0, verbose=False)
    data.prepare_data()
    net = TableMLP(data.num_bits, data.num_classes, width=2000, depth=3, connections="learned")
    clock = Clock(steps // 10)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(LogicClassifier(net, data.num_classes), data)
    trainer.validate(trainer.lightning_module, data, verbose=False)
    accuracy = trainer.callback_metrics["val/acc_hard"].item()
    return f"{data.training_size:,} rows, {clock.steps / clock.seconds:.0f} steps/s, validation {accuracy:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "pack", "train"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--in-memory", type=int, default=0, metavar="ROWS")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start, said = time.perf_counter(), ""
    if arguments.what == "write":
        write(arguments.path, arguments.rows)
    elif arguments.what == "pack":
        data = packed(arguments.path)
        data.prepare_data()
        size = sum(file.stat().st_size for file in data.folder.iterdir())
        said = f"{data.num_bits} bits a row, {size / 1e9:.2f} GB, "
    elif arguments.in_memory:
        first = next(parquet.ParquetFile(arguments.path).iter_batches(arguments.in_memory))
        frame: pd.DataFrame = first.to_pandas()
        table = Table.of_frame(frame, "kind", thresholds=THRESHOLDS, val_fraction=0.1, show=False, shuffle_seed=0)
        said = train(table, arguments.steps) + ", "
    else:
        said = train(packed(arguments.path), arguments.steps) + ", "
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{arguments.what}: {said}{time.perf_counter() - start:.0f} s, peak {peak:.2f} GB; {processor_name()}")


if __name__ == "__main__":
    main()
