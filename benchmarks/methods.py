"""Compares training methods: methods × sizes × seeds on a data set, each by `lgn fit`.

    python benchmarks/methods.py mnist --root data
    python benchmarks/methods.py digits --methods original straight-through --widths 500 --steps 1000 --seeds 0-2

The methods are in methods.yaml beside this file. Every run is one of `lgn reproduce`: validation chooses its
checkpoint, the test split is read once, at the end. The runs lie in ``runs/``; one that is finished is not repeated,
and one that was interrupted is continued, so the command can be stopped and repeated. Results are one JSON line a run
in ``<out>/<data set>.jsonl``, and at the end a table and the plot ``<out>/<data set>.png`` of accuracy over gates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lgn_lightning.base.errors import LgnError, RecipeError
from lgn_lightning.base.files import atomic_path, atomic_write_text
from lgn_lightning.cli.reproduce import Reproduction
from lgn_lightning.runs.folder import RunFolder
from lgn_lightning.runs.recipes import find_recipe

METHODS = Path(__file__).with_suffix(".yaml")
#: Validations of a run: enough to choose among, few enough to cost nothing.
VALIDATIONS = 20


@dataclass(frozen=True)
class Job:
    """One training."""

    method: str
    width: int
    seed: int
    steps: int
    reproduction: Reproduction

    @property
    def folder(self) -> RunFolder:
        """Where it lies; other settings, other folder."""
        return self.reproduction.folder(self.seed)

    def line(self, dataset: str) -> dict[str, Any]:
        """The JSON line of a finished run."""
        result = self.folder.result
        assert result is not None
        copied = ("gates", "gates_exported", "wires", "constants", "steps", "monitor", "validation")
        accuracies = ("accuracy_hard", "accuracy_soft")
        where = ("train_seconds", "hardware", "torch", "commit")
        return {
            "dataset": dataset,
            "method": self.method,
            "recipe": self.reproduction.recipe.stem,
            "overrides": self.reproduction.changes,
            "width": self.width,
            "seed": self.seed,
            **{name: result.get(name) for name in (*copied, *accuracies)},
            "gap": result["accuracy_soft"] - result["accuracy_hard"],
            **{name: result.get(name) for name in where},
            "run": self.folder.path.name,
        }


def arguments(content: Mapping[str, Any], method: str, dataset: Mapping[str, Any], width: int, steps: int) -> list[str]:
    """The arguments of `lgn fit` that make a method of a recipe."""
    settings: dict[str, Any] = {}
    callbacks: list[Any] = []
    chain = [method]
    while (parent := _method(content, chain[-1]).get("like")) is not None:
        if parent in chain:
            raise RecipeError(f"method {method!r} is like itself: {' → '.join([*chain, parent])}")
        chain.append(parent)
    for name in reversed(chain):
        settings |= _method(content, name).get("settings") or {}
        callbacks += _method(content, name).get("callbacks") or []
    values = {**content.get("common", {}), **dataset.get("settings", {}), dataset["width"]: width, **settings}
    filled = [("trainer.callbacks+", callback) for callback in callbacks]
    numbers = {"steps": steps, "validation": max(1, steps // VALIDATIONS)}
    return [f"--{key}={_text(_filled(value, numbers))}" for key, value in (*values.items(), *filled)]


def _method(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    methods: dict[str, dict[str, Any]] = content["methods"]
    if name not in methods:
        raise RecipeError(f"there is no method {name!r}; {METHODS.name} has {', '.join(methods)}")
    return methods[name] or {}


def _filled(value: Any, numbers: Mapping[str, int]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part, numbers) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, numbers) for part in value]
    names = {f"{{{name}}}": number for name, number in numbers.items()}
    return names.get(value, value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def fit(job: Job, arguments: list[str], progress: Progress, bar: Any) -> int:
    """Runs `lgn`, whose output goes to a file below the folder of runs, and moves the bar as the metrics grow."""
    log = job.folder.path.parent / f"{job.folder.path.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lgn_lightning", *arguments]
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                progress.update(bar, completed=_step(job.folder.path / "metrics.csv"))
        except BaseException:
            process.terminate()  # Lightning ends it after the step, and the resume point stays
            process.wait()
            raise
    if process.returncode:
        sys.stdout.write("".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-8:]))
    return process.returncode


def _step(metrics: Path) -> int:
    """The last step that a run has logged."""
    if not metrics.is_file():
        return 0
    head, *rows = metrics.read_text(encoding="utf-8").splitlines() or [""]
    names = head.split(",")
    last = rows[-1].split(",") if rows else []
    if "step" not in names or len(last) != len(names):
        return 0
    return int(last[names.index("step")] or 0) + 1


def run_all(
    jobs: Sequence[Job], dataset: str, file: Path, progress: Progress
) -> tuple[list[dict[str, Any]], list[str]]:
    """Runs what has no result yet; one JSON line each is in the file as soon as it has ended.

    Returns:
        The lines of these runs, and what went wrong with the others.
    """
    lines, failures = [], []
    whole = progress.add_task(dataset, total=len(jobs))
    for job in jobs:
        name = f"{job.method}, width {job.width}, seed {job.seed}"
        bar = progress.add_task(name, total=job.steps)
        try:
            said = StringIO()
            with redirect_stdout(said):
                job.reproduction.run([job.seed], lambda given, job=job, bar=bar: fit(job, given, progress, bar))
            lines.append(job.line(dataset))
            append_line(file, lines[-1])
        except LgnError as error:
            failures.append(f"{name}: {said.getvalue()}{error}")
        progress.remove_task(bar)
        progress.advance(whole)
    return lines, failures


def append_line(file: Path, line: dict[str, Any]) -> None:
    """Writes a run's line; a second one of the same run takes the place of the first."""
    kept = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    lines = [text for text in kept if json.loads(text)["run"] != line["run"]]
    atomic_write_text(file, "".join(f"{text}\n" for text in (*lines, json.dumps(line))))


def groups(lines: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int, list[dict[str, Any]]]]:
    """Method, gates and runs of each row of the table."""
    keys = dict.fromkeys((line["method"], line["width"]) for line in lines)
    for method, width in keys:
        runs = [line for line in lines if (line["method"], line["width"]) == (method, width)]
        yield method, runs[0]["gates"] or 0, runs


def table(lines: Sequence[dict[str, Any]], dataset: str) -> Table:
    """Means over seeds, and their sample standard deviations; wires are gates that copy, negate or are constant."""
    steps = ", ".join(f"{steps:,}" for steps in sorted({line["steps"] for line in lines}))
    rows = Table(title=f"{dataset}, {steps} steps; validation chose, test read once", title_justify="left")
    for name in (
        "method",
        "gates",
        "seeds",
        "validation",
        "hard test, %",
        "soft test, %",
        "gap, points",
        "wires, %",
        "seconds",
    ):
        rows.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for method, gates, runs in groups(lines):
        values = [
            _spread([run[name] for run in runs], scale)
            for name, scale in (("validation", 1), ("accuracy_hard", 100), ("accuracy_soft", 100), ("gap", 100))
        ]
        shares = [None if r.get("wires") is None else r["wires"] + r["constants"] for r in runs]
        seconds = mean(run["train_seconds"] or 0 for run in runs)
        rows.add_row(method, f"{gates:,}", str(len(runs)), *values, _spread(shares, 100), f"{seconds:,.0f}")
    return rows


def _spread(values: Sequence[float | None], scale: float) -> str:
    known = [scale * value for value in values if value is not None]
    digits = 2 if scale == 100 else 4
    if not known:
        return "–"
    return f"{mean(known):.{digits}f}" + (f" ± {stdev(known):.{digits}f}" if len(known) > 1 else "")


def plot(lines: Sequence[dict[str, Any]], dataset: str, file: Path) -> None:
    """Draws hard accuracy over gates, a line a method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", xlabel="gates", ylabel="hard test accuracy, %", title=dataset)
    for method in dict.fromkeys(line["method"] for line in lines):
        points = sorted(
            (gates, [100 * run["accuracy_hard"] for run in runs]) for m, gates, runs in groups(lines) if m == method
        )
        deviations = [stdev(values) if len(values) > 1 else 0.0 for _, values in points]
        axes.errorbar(
            [gates for gates, _ in points],
            [mean(values) for _, values in points],
            yerr=deviations,
            marker="o",
            capsize=3,
            label=method,
        )
    sizes = [gates for _, gates, _ in groups(lines)]
    axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    with atomic_path(file) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def main(given: Sequence[str] | None = None) -> int:
    content = yaml.safe_load(METHODS.read_text(encoding="utf-8"))
    options = parse(content, given)
    dataset = content["datasets"][options.dataset]
    steps = options.steps or dataset["steps"]
    place = [f"--data.root={options.root}"] if options.root else []
    recipe = find_recipe(dataset["recipe"])
    jobs = [
        Job(method, width, seed, steps, reproduction)
        for method in options.methods
        for width in options.widths or dataset["widths"]
        for reproduction in [
            Reproduction.of(recipe, overrides=[*arguments(content, method, dataset, width, steps), *place])
        ]
        for seed in options.seeds
    ]
    file = options.out / f"{options.dataset}.jsonl"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        lines, failures = run_all(jobs, options.dataset, file, progress)
    if lines:
        plot(lines, options.dataset, file.with_suffix(".png"))
        Console(width=None if sys.stdout.isatty() else 140).print(table(lines, options.dataset))
        print(f"{file}\n{file.with_suffix('.png')}")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def parse(content: Mapping[str, Any], given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares training methods on a data set; see methods.yaml.")
    methods = list(content["methods"])
    parser.add_argument("dataset", choices=list(content["datasets"]))
    parser.add_argument("--methods", nargs="+", default=methods, choices=methods, metavar="METHOD")
    parser.add_argument("--widths", nargs="+", type=int, help="gates a layer (default: as in methods.yaml)")
    parser.add_argument("--steps", type=int, help="optimizer steps of a run (default: as in methods.yaml)")
    parser.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="as in 0,1,2 (the default) or 0-9")
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument("--out", type=Path, default=Path("results-scratch", "methods"), help="folder of the results")
    return parser.parse_args(given)


def _seeds(text: str) -> list[int]:
    bounds = [part.partition("-") for part in text.split(",")]
    return [seed for first, _, last in bounds for seed in range(int(first), int(last or first) + 1)]


if __name__ == "__main__":
    sys.exit(main())
