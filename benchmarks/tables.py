"""Real tables: accuracy of the recipe ``table``, and rows a second of its circuits beside trees.

    python benchmarks/tables.py accuracy <folder of tables> --seeds 3
    python benchmarks/tables.py folds <folder of tables> HouseVotes84 Servo --seeds 3
    python benchmarks/tables.py speed <folder of tables> spam Satellite

``accuracy`` trains the recipe in a process of its own for each table and seed, the last net counts, the test rows are
read once; gradient boosting is scikit-learn's with its defaults, on the same split. ``folds`` does so in five folds of
the training rows. ``speed`` measures a trained run (of ``accuracy``) of a table of numbers on one pinned core, from
float32 rows in memory to classes, beside scikit-learn's ``predict`` and, where tl2cgen and lightgbm are installed, the
smallest compiled ensemble that is as good on the test rows.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from lgn_lightning.base.machine import pin_to_one_core, processor_name
from lgn_lightning.circuit import Circuit, Engine, optimize
from lgn_lightning.circuit.check.tools import ToolError, run_abc
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.data import Table
from lgn_lightning.data.splits import split_rows
from lgn_lightning.deploy.source import read_source
from lgn_lightning.deploy.throughput import samples_per_second

TARGETS = {
    "spam": "type",
    "Satellite": "classes",
    "LetterRecognition": "lettr",
    "Shuttle": "Class",
    "income": "INCOME",
    "HouseVotes84": "Class",
    "diamonds": "price",
    "BostonHousing": "medv",
    "Servo": "Class",
}
NUMBERS = ("diamonds", "BostonHousing", "Servo")
RUNS = Path("runs/table")


def coded(folder: Path, table: str) -> tuple[np.ndarray, np.ndarray]:
    """Features as float32, categories as codes, and classes as whole numbers, or the numbers to predict."""
    frame = pd.read_csv(folder / f"{table}.csv.gz")
    labels = frame.pop(TARGETS[table])
    for name in frame.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]]:
        codes = frame[name].astype("category").cat.codes.astype(np.float32)
        frame[name] = codes.where(codes >= 0)
    x = frame.to_numpy(np.float32)
    return x, labels.to_numpy(float) if table in NUMBERS else np.unique(labels.astype(str), return_inverse=True)[1]


def split(folder: Path, table: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features and labels of the training rows, then of the test rows."""
    x, y = coded(folder, table)
    train, test = split_rows(len(y), 0.2, 0, None if table in NUMBERS else y)
    return x[train], y[train], x[test], y[test]


def boosted(table: str, x: np.ndarray, y: np.ndarray) -> Any:
    """Gradient boosting with its defaults."""
    kind = HistGradientBoostingRegressor if table in NUMBERS else HistGradientBoostingClassifier
    return kind(random_state=0).fit(x, y)


def trained(folder: Path, table: str, name: str, seed: int, options: list[str]) -> dict[str, Any]:
    """The result of a run of the recipe, which is trained unless it is there."""
    if not (RUNS / name / "result.json").is_file():
        command = [sys.executable, "-m", "lgn_lightning", "fit", "table", f"--run_name={name}"]
        command += [f"--data.path={folder / table}.csv.gz", f"--data.target={TARGETS[table]}"]
        command += [f"--data.task={'number' if table in NUMBERS else 'class'}", f"--seed_everything={seed}"]
        command += ["--trainer.enable_progress_bar=false", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads((RUNS / name / "result.json").read_text())
    return found


def luts(circuit: Circuit) -> int | None:
    """Lookup tables of up to six inputs that ABC makes of the gates; None without ABC."""
    outputs = np.unique(circuit.outputs[circuit.outputs >= circuit.num_inputs])  # each once, and no inputs
    circuit = replace(circuit, outputs=outputs, num_classes=1, class_names=None)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.blif").write_text(emit_blif(circuit))
        try:
            log = run_abc("read_blif net.blif; strash; dch; if -K 6; print_stats", Path(folder), 600)
        except ToolError:
            return None
    return int(re.findall(r"nd =\s*(\d+)", log)[-1])


def spread(values: list[float], number: bool) -> str:
    """Mean and standard deviation: R², or per cent."""
    scale, digits = (1, 4) if number else (100, 2)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{scale * statistics.mean(values):.{digits}f} ± {scale * deviation:.{digits}f}"


def accuracy(folder: Path, tables: list[str], seeds: int, options: list[str]) -> None:
    """Prints a row a table: % or R²."""
    print("| table | boosting | recipe `table`, hard net | steps | gates | after the passes | LUTs | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for table in tables:
        number = table in NUMBERS
        x, y, x_test, y_test = split(folder, table)
        boosting = spread([boosted(table, x, y).score(x_test, y_test)], number).partition(" ")[0]
        names = [f"{table}-seed-{seed}" for seed in range(seeds)]
        results = [trained(folder, table, name, seed, options) for seed, name in enumerate(names)]
        mapped = [luts(optimize(read_source(RUNS / name).flat, level=2)) for name in names]
        counted = f"{statistics.mean(map(int, mapped)):,.0f}" if None not in mapped else "–"  # type: ignore[arg-type]
        gates = statistics.mean(result["gates_exported"] or 0 for result in results)
        print(
            f"| {table} | {boosting} | {spread([result['metrics']['score_hard'] for result in results], number)} | "
            f"{results[0]['steps']:,} | {results[0]['gates']:,} | "
            f"{gates:,.0f} | {counted} | {statistics.mean(result['train_seconds'] or 0 for result in results):.0f} |",
            flush=True,
        )


def folds(folder: Path, tables: list[str], seeds: int, count: int, options: list[str]) -> None:
    """Prints a row a table: mean of folds and seeds; deviation of the seeds' means."""
    print(f"| table | boosting, {count} folds | recipe `table`, {count} folds × {seeds} seeds |\n|---|---|---|")
    for table in tables:
        x, y, *_ = split(folder, table)
        trees: list[float] = []
        nets: list[list[float]] = [[] for _ in range(seeds)]
        for fold in range(count):
            data = Table(str(folder / f"{table}.csv.gz"), TARGETS[table], folds=count, fold=fold, show=False)
            data.setup("fit")
            assert data.rows_but_fold is not None
            used = np.zeros(len(y), np.bool_)
            used[data.rows_but_fold.numpy()] = True
            trees.append(boosted(table, x[used], y[used]).score(x[~used], y[~used]))
            for seed in range(seeds):
                own = [f"--data.folds={count}", f"--data.fold={fold}", *options]
                result = trained(folder, table, f"{table}-fold-{fold}-seed-{seed}", seed, own)
                nets[seed].append(result["metrics"]["score_hard"])
        number = table in NUMBERS
        print(f"| {table} | {spread([statistics.mean(trees)], number).partition(' ')[0]} | ", end="")
        print(f"{spread([statistics.mean(scores) for scores in nets], number)} |", flush=True)


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
        x, y, x_test, y_test = split(folder, table)
        source = read_source(RUNS / f"{table}-seed-0")
        engine = Engine(source.flat)
        own = float((engine.predict(x_test) == y_test).mean())
        boosting = boosted(table, x, y)
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
    parser.add_argument("what", choices=("accuracy", "folds", "speed"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="*", default=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200_000)
    arguments, options = parser.parse_known_args()
    if arguments.what == "accuracy":
        accuracy(arguments.folder, arguments.tables, arguments.seeds, options)
    elif arguments.what == "folds":
        folds(arguments.folder, arguments.tables, arguments.seeds, arguments.folds, options)
    else:
        speed(arguments.folder, arguments.tables, arguments.rows)


if __name__ == "__main__":
    main()
