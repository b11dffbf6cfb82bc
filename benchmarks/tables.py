"""Real tables: accuracy of the recipe ``table``, and rows a second of its circuits beside trees.

    python benchmarks/tables.py accuracy <folder of tables> --seeds 3
    python benchmarks/tables.py speed <folder of tables> spam Satellite

``accuracy`` trains the recipe in a process of its own for each table and seed, validation chooses, the test rows are
read once; gradient boosting is scikit-learn's with its defaults, on the same split. ``speed`` measures a trained run
(of ``accuracy``) of a table of numbers on one pinned core, from float32 rows in memory to classes, beside
scikit-learn's ``predict`` and, where tl2cgen and lightgbm are installed, the smallest compiled ensemble that is as good
on the test rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from lgn_lightning.base.machine import pin_to_one_core, processor_name
from lgn_lightning.circuit import Engine
from lgn_lightning.deploy.source import read_source
from lgn_lightning.deploy.throughput import samples_per_second

TARGETS = {
    "spam": "type",
    "Satellite": "classes",
    "LetterRecognition": "lettr",
    "Shuttle": "Class",
    "income": "INCOME",
    "HouseVotes84": "Class",
}
RUNS = Path("runs/table")


def coded(folder: Path, table: str) -> tuple[np.ndarray, np.ndarray]:
    """Features as float32, categories as codes, and classes as numbers."""
    frame = pd.read_csv(folder / f"{table}.csv.gz")
    classes = frame.pop(TARGETS[table]).astype(str)
    for name in frame.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]]:
        codes = frame[name].astype("category").cat.codes.astype(np.float32)
        frame[name] = codes.where(codes >= 0)
    return frame.to_numpy(np.float32), np.unique(classes, return_inverse=True)[1]


def split(folder: Path, table: str) -> list[np.ndarray]:
    x, y = coded(folder, table)
    return train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)


def accuracy(folder: Path, tables: list[str], seeds: int, options: list[str]) -> None:
    """Prints a row a table."""
    print("| table | boosting | recipe `table`, hard net | validation | gates | after the passes | seconds |")
    print("|---|---|---|---|---|---|---|")
    for table in tables:
        x, x_test, y, y_test = split(folder, table)
        boosting = HistGradientBoostingClassifier(random_state=0).fit(x, y).score(x_test, y_test)
        results = []
        for seed in range(seeds):
            name = f"{table}-seed-{seed}"
            if not (RUNS / name / "result.json").is_file():
                command = [sys.executable, "-m", "lgn_lightning", "fit", "table", f"--run_name={name}"]
                command += [f"--data.path={folder / table}.csv.gz", f"--data.target={TARGETS[table]}"]
                command += [f"--seed_everything={seed}", "--trainer.enable_progress_bar=false", *options]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            results.append(json.loads((RUNS / name / "result.json").read_text()))
        hard = [100 * result["accuracy_hard"] for result in results]
        chosen = statistics.mean(result["validation"] for result in results)
        spread = statistics.stdev(hard) if len(hard) > 1 else 0.0
        gates, left = results[0]["gates"], statistics.mean(result["gates_exported"] or 0 for result in results)
        seconds = statistics.mean(result["train_seconds"] or 0 for result in results)
        print(
            f"| {table} | {100 * boosting:.2f} | {statistics.mean(hard):.2f} ± {spread:.2f} | {chosen:.4f} | "
            f"{gates:,} | {left:,.0f} | {seconds:.0f} |",
            flush=True,
        )


def compiled_trees(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, wanted: float
) -> tuple[str, Callable[[np.ndarray], Any]] | None:
    """The smallest boosted ensemble that is as good, compiled; None without lightgbm or tl2cgen, or if none is."""
    try:
        import lightgbm
        import tl2cgen
        import treelite
    except ImportError:
        return None
    for rounds in (1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 135, 200):
        booster = lightgbm.LGBMClassifier(n_estimators=rounds, verbose=-1, n_jobs=1).fit(x, y)
        if booster.score(x_test, y_test) >= wanted:
            break
    else:
        return None
    folder = tempfile.mkdtemp()
    model = treelite.frontend.from_lightgbm(booster.booster_)
    tl2cgen.export_lib(model, toolchain="gcc", libpath=f"{folder}/trees.so", params={"parallel_comp": 8})
    predictor = tl2cgen.Predictor(f"{folder}/trees.so", nthread=1)
    trees = len(booster.booster_.dump_model()["tree_info"])
    return f"tl2cgen, {trees} trees", lambda rows: predictor.predict(tl2cgen.DMatrix(rows))


def speed(folder: Path, tables: list[str], rows: int) -> None:
    """Prints a row for each way to predict."""
    core = pin_to_one_core()
    print(f"{processor_name()}, core {core}, {rows:,} float32 rows in memory, medians of 5 calls in turn\n")
    print("| table | what | test accuracy | rows/s | ratio |\n|---|---|---|---|---|")
    for table in tables:
        x, x_test, y, y_test = split(folder, table)
        source = read_source(RUNS / f"{table}-seed-0")
        engine = Engine(source.flat)
        own = float((engine.predict(x_test) == y_test).mean())
        boosting = HistGradientBoostingClassifier(random_state=0).fit(x, y)
        ways: list[tuple[str, Callable[[np.ndarray], Any], float]] = [
            (f"circuit, {engine.name}", engine.predict, own),
            ("scikit-learn boosting", boosting.predict, boosting.score(x_test, y_test)),
        ]
        trees = compiled_trees(x, y, x_test, y_test, own)
        if trees is not None:
            ways.append((*trees, own))
        large = np.ascontiguousarray(np.resize(x_test, (rows, x_test.shape[1])))
        rates = samples_per_second([partial(way, large) for _, way, _ in ways], rows, 5)
        for (what, _, reached), rate in zip(ways, rates, strict=True):
            print(f"| {table} | {what} | {100 * reached:.2f} | {rate:,.0f} | {rates[0] / rate:.1f} |", flush=True)
        one = np.ascontiguousarray(x_test[:1])
        start = time.perf_counter()
        for _ in range(2000):
            engine.predict(one)
        print(
            f"| {table} | one row alone, engine called from Python | | {2000 / (time.perf_counter() - start):,.0f} | |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "speed"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="*", default=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200_000)
    arguments, options = parser.parse_known_args()
    if arguments.what == "accuracy":
        accuracy(arguments.folder, arguments.tables, arguments.seeds, options)
    else:
        speed(arguments.folder, arguments.tables, arguments.rows)


if __name__ == "__main__":
    main()
