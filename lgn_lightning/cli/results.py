"""Reproduced results: ``results/<recipe>.json``, and the tables of them in a terminal and in docs/results.md."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Final

from filelock import FileLock

from lgn_lightning.base.errors import ResultError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.base.plain_values import filled, read_json
from lgn_lightning.runs.recipes import PaperResult

RESULTS: Final = Path("results")
#: The table of a Markdown file stands between these lines.
BEGIN: Final = "<!-- results: written by `lgn results --write docs/results.md` -->"
END: Final = "<!-- end of results -->"


@dataclass(frozen=True)
class SeedResult:
    """One run of a recipe, measured on the test split with the checkpoint that validation chose.

    Args:
        seed: Seed of wiring, weights and order of the images.
        accuracy_hard: Share of correct classes of the discrete net.
        accuracy_soft: Share of correct classes of the relaxed net.
        gates: Gates of the net; None for a baseline without gates.
        gates_exported: Gates that the passes left; None where nothing was exported.
        steps: Optimizer steps taken.
        train_seconds: Wall time of the training, validations included.
        hardware: What it trained on.
        commit: The code that trained it.
        metric: What the accuracies are, if they are none: the metric that fits the target.
        fold: The fold of the training samples that was tested on; None for the test split.
    """

    seed: int
    accuracy_hard: float
    accuracy_soft: float
    gates: int | None
    gates_exported: int | None
    steps: int
    train_seconds: float | None
    hardware: str
    commit: str
    metric: str = "acc"
    fold: int | None = None


@dataclass(frozen=True)
class Result:
    """A recipe, reproduced: a row of the tables, with the paper's figures and one run a seed.

    Args:
        recipe: Its name.
        paper: The figures it aims at.
        date: Day of the last of its runs, ``2025-01-31``.
        settings: Hash of the recipe and of all that was overridden: equal settings have equal hashes.
        runs: One run a seed, by seed.
        budget: Share of the recipe's steps that was trained; below 1 the row is marked.
        overrides: What else differs from the recipe; the row shows it.
        folds: Folds of a cross-validation, all of which are among the runs of each seed; 0 for the test split.
    """

    recipe: str
    paper: PaperResult
    date: str
    settings: str
    runs: list[SeedResult]
    budget: float = 1.0
    overrides: list[str] = field(default_factory=list)
    folds: int = 0

    @property
    def accuracy(self) -> float:
        """Mean hard accuracy, in percent."""
        return 100 * mean(run.accuracy_hard for run in self.runs)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the hard accuracy over the runs (n − 1), in points; None of a single one."""
        return 100 * stdev(run.accuracy_hard for run in self.runs) if len(self.runs) > 1 else None

    @property
    def to_paper(self) -> float | None:
        """Hard accuracy minus the paper's, in points."""
        return None if self.paper.accuracy is None else self.accuracy - self.paper.accuracy

    @property
    def discretization_gap(self) -> float:
        """Soft minus hard accuracy, in points."""
        return 100 * mean(run.accuracy_soft - run.accuracy_hard for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Result:
        """The inverse of `to_json`; a ValueError if the values are none of it."""
        result = filled(cls, values)
        if not result.runs:
            raise ValueError("runs is empty")
        datetime.date.fromisoformat(result.date)
        return result


def read_results(folder: Path = RESULTS) -> list[Result]:
    """Reads all results below a folder, by recipe, oldest first; a ResultError if there are none."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ResultError(f"there are no results in {folder.absolute()}; `lgn reproduce <recipe>` writes some")
    return [result for file in files for result in read_result_file(file)]


def read_result_file(file: Path) -> list[Result]:
    """Reads the results of one recipe, none if the file is not there; a ResultError if it is another file."""
    if not file.is_file():
        return []
    mend = "move it away"
    values = read_json(file, ResultError, mend)
    try:
        if not isinstance(values, list):
            raise ValueError("it holds no list")
        return [Result.from_json(one) for one in values]
    except ValueError as error:
        raise ResultError(f"{file} is not a file of `lgn reproduce` ({error}); {mend}") from error


def append_result(result: Result, folder: Path = RESULTS) -> Path:
    """Adds a result to its recipe's file, which is returned; the same runs, shown again, are no new result."""
    file = folder / f"{result.recipe}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{result.recipe}.lock"):
        kept = [r for r in read_result_file(file) if (r.settings, r.runs) != (result.settings, result.runs)]
        atomic_write_text(file, json.dumps([r.to_json() for r in [*kept, result]], indent=2, ensure_ascii=False) + "\n")
    return file


def by_settings(results: list[Result]) -> list[Result]:
    """One result for each recipe and settings, a recipe's own settings before changed ones.

    It is the last one, with the last run of every seed and fold: seeds may run one by one, on several machines.
    """
    found: dict[tuple[str, str], Result] = {}
    for result in results:
        key = result.recipe, result.settings
        earlier = found[key].runs if key in found else []
        runs = {(run.seed, -1 if run.fold is None else run.fold): run for run in [*earlier, *result.runs]}
        found[key] = dataclasses.replace(result, runs=[runs[which] for which in sorted(runs)])
    return sorted(found.values(), key=lambda r: (r.recipe, -r.budget, r.overrides))


def cells(result: Result) -> dict[str, str]:
    """A row of the tables: text by column."""
    paper, runs = result.paper, result.runs
    changed = [f"{100 * result.budget:g} % of the steps"] if result.budget != 1 else []
    seeds = f"{len(runs) // max(1, result.folds)} seed{'s' if len(runs) > max(1, result.folds) else ''}"
    seeds = f"{result.folds} folds × {seeds}" if result.folds else seeds
    spread = seeds if result.deviation is None else f"± {result.deviation:.2f}, {seeds}"
    exported = [run.gates_exported for run in runs if run.gates_exported is not None]
    seconds = [run.train_seconds for run in runs if run.train_seconds is not None]
    return {
        "recipe": result.recipe + "".join(f" ({note})" for note in [*changed, *result.overrides]),
        "paper, %": "–" if paper.accuracy is None else f"{paper.accuracy:.2f}",
        "ours, %": f"{'' if runs[0].metric == 'acc' else f'100 · {runs[0].metric} '}{result.accuracy:.2f} ({spread})",
        "to paper": "–" if result.to_paper is None else f"{result.to_paper:+.2f}",
        "soft − hard": "–" if runs[0].gates is None else f"{result.discretization_gap:+.2f}",
        "gates": "–" if runs[0].gates is None else f"{runs[0].gates:,}",
        "after passes": f"{round(mean(exported)):,}" if exported else "–",
        "training": _duration(mean(seconds)) if seconds else "–",
        "hardware": _joined([run.hardware for run in runs]),
        "commit": _joined([run.commit for run in runs]),
    }


def markdown_table(results: list[Result]) -> str:
    """The results as a table of Markdown, without a line end."""
    rows = [cells(result) for result in results]
    columns = [name for name in rows[0] if any(row[name] != "–" for row in rows)]
    right = {"paper, %", "ours, %", "to paper", "soft − hard", "gates", "after passes", "training"}
    lines = [columns, ["--:" if name in right else "---" for name in columns]]
    lines += [[" ".join(row[name].split()).replace("|", "\\|") for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_results(results: list[Result]) -> None:
    """Prints the results as one table, wide enough for a file where there is no terminal."""
    from rich.console import Console  # not for --write
    from rich.table import Table

    console = Console(markup=False, emoji=False)  # text of files
    rows = [cells(result) for result in results]
    title = "Hard accuracy on the test split, of the checkpoint that validation chose"
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    if not console.is_terminal:
        console = Console(width=240, markup=False, emoji=False)
    console.print(table)


def write_table(page: Path, results: list[Result]) -> bool:
    """Replaces the table between the markers of a Markdown file, else a ResultError; says whether it changed."""
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ResultError(f"{page} has no place for the table: put the lines {BEGIN} and {END} into it")
    new = f"{head}{BEGIN}\n{markdown_table(by_settings(results))}\n{END}{tail}"
    if new != text:
        atomic_write_text(page, new)
    return new != text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files (default: results)")
    parser.add_argument("--all", action="store_true", help="each result as it was added, older ones as well")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the table between a Markdown file's markers")


def run(arguments: argparse.Namespace) -> int:
    results = read_results(arguments.results)
    if arguments.write is not None:
        changed = write_table(arguments.write, results)
        print(f"{arguments.write} {'written' if changed else 'is current'}")
        return 0
    shown = results if arguments.all else by_settings(results)
    if arguments.json:
        print(json.dumps([result.to_json() for result in shown], indent=2, ensure_ascii=False))
    else:
        print_results(shown)
    return 0


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _joined(texts: list[str]) -> str:
    return "; ".join(dict.fromkeys(texts))
