"""Compares training methods: data sets × sizes × methods × seeds, at equal steps or equal processor time.

    python benchmarks/methods.py tune digits spam --root data
    python benchmarks/methods.py run digits spam --root data
    python benchmarks/methods.py run fashion --root data --gates 8000 --seeds 0 --cpu-seconds 60
    python benchmarks/methods_report.py --write docs/ladder.md

What is compared is in methods.yaml beside this file. A training is one of `lgn reproduce`: validation chooses its
checkpoint, the test split is read once, at the end. Each leaves a JSON line in ``results/methods``; what has one there
is not trained again, and what was interrupted is continued, so that the command can be stopped and repeated. Any number
of processes on any number of machines share the work by ``--shard i/n``, each with a file of its own. `tune` never
reads test samples.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from lgn_lightning.base.errors import LgnError, RecipeError, UsageError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.cli import training_cli  # noqa: F401 - imported once, for all children
from lgn_lightning.cli.main import main as lgn
from lgn_lightning.cli.reproduce import Reproduction
from lgn_lightning.nn import recommended_tau
from lgn_lightning.runs.folder import RUNS, RunFolder

METHODS = Path(__file__).with_suffix(".yaml")
LINES = Path("results", "methods")
#: Validations of a run: enough to choose among, few enough to cost little.
VALIDATIONS = 10
#: What a cell's training may take, as the committed table has it.
MINUTES = 3.0


@dataclass(frozen=True)
class Cell:
    """A method on a data set with a number of gates: all but the seed."""

    dataset: str
    method: str
    gates: int


@dataclass(frozen=True)
class Choice:
    """Rate and tau of a method; tau as a multiple of `recommended_tau`. ``tuned`` unless nothing chose them."""

    rate: float
    tau: float
    tuned: bool = True


class Ladder:
    """The contents of methods.yaml, and the recipes that they make.

    Args:
        content: The contents.
        root: Folder of the data; None where data modules look by themselves.
    """

    def __init__(self, content: Mapping[str, Any], root: Path | None = None) -> None:
        self.content, self.root = content, root

    def cells(
        self, datasets: Sequence[str], methods: Sequence[str] | None, gates: Sequence[int] | None
    ) -> Iterator[Cell]:
        """All cells, small nets first."""
        sizes = sorted({size for name in datasets for size in self.content["datasets"][name]["depth"]})
        for size in gates or sizes:
            for name in datasets:
                if size not in self.content["datasets"][name]["depth"]:
                    continue
                yield from (Cell(name, method, size) for method in methods or self.content["methods"])

    def steps(self, cell: Cell) -> int:
        """Optimizer steps of a cell, where all methods of a size have equally many."""
        return int(self.content["datasets"][cell.dataset]["steps"][cell.gates])

    def grid(self) -> tuple[list[float], list[float]]:
        """Rates and taus that are tried."""
        return self.content["tuning"]["rates"], self.content["tuning"]["taus"]

    def tuning_steps(self, cell: Cell) -> int:
        """Steps of a tuning."""
        return max(VALIDATIONS, round(self.steps(cell) * self.content["tuning"]["share"]))

    def untuned(self) -> Choice:
        """What a cell has that was not tuned."""
        return Choice(**self.content["tuning"]["untuned"], tuned=False)

    def recipe(self, cell: Cell, choice: Choice, steps: int) -> dict[str, Any]:
        """The whole recipe of a cell."""
        dataset = self.content["datasets"][cell.dataset]
        chain = [cell.method]
        while (parent := self._method(chain[-1]).get("like")) is not None:
            if parent in chain:
                raise RecipeError(f"method {cell.method!r} is like itself: {' → '.join([*chain, parent])}")
            chain.append(parent)
        depth, classes = dataset["depth"][cell.gates], dataset["classes"]
        width = -(-cell.gates // (depth * classes)) * classes
        values = {
            "steps": steps,
            "validation": max(1, steps // VALIDATIONS),
            "refresh": max(1, steps // 20),
            "width": width,
            "depth": depth,
            "lr": choice.rate,
            "wire_lr": round(choice.rate * self.content["tuning"]["wires"], 6),
            "tau": round(choice.tau * recommended_tau(width // classes), 3),
        }
        recipe: dict[str, Any] = {}
        parts = [self._method(name) for name in reversed(chain)]
        for settings in (self.content["base"], dataset["settings"], *(part.get("settings") or {} for part in parts)):
            for key, value in settings.items():
                *path, last = key.split(".")
                place = recipe
                for name in path:
                    place = place.setdefault(name, {})
                place[last] = _filled(value, values)
        more = [callback for part in parts for callback in part.get("callbacks") or []]
        recipe["trainer"]["callbacks"] = recipe["trainer"]["callbacks"] + _filled(more, values)
        return recipe

    def place(self, cell: Cell) -> list[str]:
        """The argument of `lgn fit` that says where the data are."""
        inside = self.content["datasets"][cell.dataset].get("place")
        if inside is not None and self.root is None:
            raise UsageError(f"{cell.dataset} is {inside} below --root: give the folder")
        return [] if self.root is None else [f"--data.root={self.root / (inside or '')}"]

    def _method(self, name: str) -> dict[str, Any]:
        methods: dict[str, dict[str, Any]] = self.content["methods"]
        if name not in methods:
            raise RecipeError(f"there is no method {name!r}; {METHODS.name} has {', '.join(methods)}")
        return methods[name] or {}


def _filled(value: Any, numbers: Mapping[str, Any]) -> Any:
    """The value with its ``{names}`` replaced."""
    if isinstance(value, dict):
        return {key: _filled(part, numbers) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, numbers) for part in value]
    names = {f"{{{name}}}": number for name, number in numbers.items()}
    return names.get(value, value) if isinstance(value, str) else value


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """All lines of all files, of equal runs the last one."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                line = json.loads(text)
                found[line["run"]] = line
            except (ValueError, KeyError, TypeError):
                raise RecipeError(f"{file}, line {number} is no line of this benchmark; remove it") from None
    return list(found.values())


def append_line(file: Path, line: dict[str, Any]) -> None:
    """Adds a line; the file is whole at any time."""
    kept = file.read_text(encoding="utf-8") if file.is_file() else ""
    atomic_write_text(file, f"{kept}{json.dumps(line)}\n")


def chosen(lines: Iterable[dict[str, Any]], cell: Cell, ladder: Ladder) -> Choice:
    """Rate and tau of a cell: the best of its data set's and method's tuning in validation, as far as that went."""
    tried = [
        line
        for line in lines
        if line["kind"] == "tuning" and (line["dataset"], line["method"]) == (cell.dataset, cell.method)
    ]
    if not tried:
        return ladder.untuned()
    best = max(tried, key=lambda line: line["validation"])
    return Choice(best["rate"], best["tau"])


def write_recipe(cell: Cell, recipe: Mapping[str, Any]) -> Path:
    """Writes a cell's recipe, which `lgn fit` takes as it is."""
    file = RUNS / "recipes" / f"{cell.dataset}-{cell.gates}-{cell.method}.yaml"
    atomic_write_text(file, yaml.safe_dump(dict(recipe), sort_keys=False))
    return file


def in_child(work: Callable[[], int], log: Path) -> int:
    """Runs work in a copy of this process, whose output goes to a file: apart as a command, without its imports.

    This process has imported torch and computed nothing, so that no thread of it is missing in the copy.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except BaseException:
            os.kill(child, 15)  # Lightning ends after the step, and the resume point stays
            os.waitpid(child, 0)
            raise
    code = 1
    try:
        with log.open("a", encoding="utf-8") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fit(arguments: list[str]) -> int:
    """`lgn fit` in a child, and what the circuit of its run costs."""
    which = next((text for text in arguments if text.startswith("--run_name=")), "--run_name=resumed")
    log = RUNS / "logs" / f"{Path(arguments[1]).stem}-{which.partition('=')[2]}.log"
    code = in_child(lambda: lgn(arguments), log)
    if code:
        print("".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-4:]), end="")
    return code


def cost(folder: RunFolder) -> dict[str, int]:
    """Gates after the passes, and lookup tables of six inputs of all but the encoder, of a run's circuit."""
    file = folder.path / "cost.json"

    def work() -> int:
        from lgn_lightning.circuit import estimate, optimize
        from lgn_lightning.deploy.source import read_source

        circuit = optimize(read_source(folder.path).flat)
        found = estimate(circuit)
        luts = found.total("lut6") - (found.parts["encoder"].lut6 if "encoder" in found.parts else 0)
        atomic_write_text(file, json.dumps({"gates_exported": circuit.num_gates, "lut6": luts}))
        return 0

    if not file.is_file() and in_child(work, RUNS / "logs" / "cost.log"):
        raise LgnError(f"the circuit of {folder.path} has no cost; see {RUNS / 'logs' / 'cost.log'}")
    values: dict[str, int] = json.loads(file.read_text())
    return values


def run_cell(ladder: Ladder, cell: Cell, seed: int, choice: Choice, steps: int, budget: str) -> dict[str, Any]:
    """Trains a cell unless its run is finished; its line."""
    reproduction = _reproduction(ladder, cell, choice, steps)
    with redirect_stdout(StringIO()) as said:
        try:
            reproduction.run([seed], fit)
        except LgnError as error:
            raise LgnError(f"{said.getvalue()}{error}") from None
    folder = reproduction.folder(seed)
    result = folder.result
    assert result is not None
    copied = ("accuracy_hard", "accuracy_soft", "gates", "wires", "constants", "steps", "validation")
    where = ("train_seconds", "train_cpu_seconds", "hardware", "torch", "commit")
    return {
        "kind": "run",
        "run": run_name(cell, reproduction, seed),
        **{"dataset": cell.dataset, "method": cell.method, "size": cell.gates, "seed": seed, "budget": budget},
        **{"rate": choice.rate, "tau": choice.tau, "tuned": choice.tuned},
        **{name: result.get(name) for name in (*copied, *where)},
        **cost(folder),
    }


def _reproduction(ladder: Ladder, cell: Cell, choice: Choice, steps: int) -> Reproduction:
    recipe = write_recipe(cell, ladder.recipe(cell, choice, steps))
    return Reproduction.of(recipe, overrides=ladder.place(cell))


def run_name(cell: Cell, reproduction: Reproduction, seed: int) -> str:
    """Tells runs apart: other settings, other name."""
    return f"{cell.dataset}-{cell.gates}-{cell.method}-{reproduction.settings}-seed-{seed}"


def tuning_name(ladder: Ladder, cell: Cell, rate: float, tau: float) -> str:
    """Tells trials apart."""
    return f"tuning-{cell.dataset}-{cell.gates}-{cell.method}-{ladder.tuning_steps(cell)}-{rate:g}-{tau:g}"


def tune_cell(ladder: Ladder, cell: Cell, rate: float, tau: float) -> dict[str, Any]:
    """Trains with a rate and a tau, without a test; the line has the best validation."""
    steps = ladder.tuning_steps(cell)
    recipe = write_recipe(cell, ladder.recipe(cell, Choice(rate, tau), steps))
    name = f"tuning-{rate:g}-{tau:g}-{os.getpid()}-{time.time_ns()}"
    untested = "--trainer.limit_test_batches=0"
    start = time.perf_counter()
    if fit(["fit", str(recipe), f"--run_name={name}", "--seed_everything=0", untested, *ladder.place(cell)]):
        raise LgnError(f"{cell}, rate {rate:g}, tau {tau:g} failed")
    with (RUNS / recipe.stem / name / "metrics.csv").open() as file:
        values = [float(row["val/acc_hard"]) for row in csv.DictReader(file) if row.get("val/acc_hard")]
    return {
        "kind": "tuning",
        "run": tuning_name(ladder, cell, rate, tau),
        **{"dataset": cell.dataset, "method": cell.method, "size": cell.gates, "seed": 0, "steps": steps},
        **{"rate": rate, "tau": tau, "validation": max(values)},
        "seconds": round(time.perf_counter() - start, 1),
    }


def tune(ladder: Ladder, cells: Iterable[Cell], folder: Path, file: Path) -> list[str]:
    """Tries the rates at the first tau, then the other taus at the best rate; returns what failed."""
    failures = []
    for cell in cells:
        rates, taus = ladder.grid()

        def tried(rate: float, tau: float, cell: Cell = cell) -> float:
            name = tuning_name(ladder, cell, rate, tau)
            line = next((line for line in read_lines(folder) if line["run"] == name), None)
            if line is None:
                line = tune_cell(ladder, cell, rate, tau)
                append_line(file, line)
                print(f"{name}: {100 * line['validation']:.2f} %, {line['seconds']:.0f} s", flush=True)
            return float(line["validation"])

        try:
            at_first = {rate: tried(rate, taus[0]) for rate in rates}
            best = max(at_first, key=lambda rate: at_first[rate])
            for tau in taus[1:]:
                tried(best, tau)
        except LgnError as error:
            failures.append(f"{cell}: {error}")
    return failures


def run(
    ladder: Ladder, cells: Sequence[Cell], seeds: Sequence[int], cpu_seconds: float | None, folder: Path, file: Path
) -> list[str]:
    """Trains what has no line; returns what failed."""
    failures = []
    for cell in cells:
        for seed in seeds:
            lines = read_lines(folder)
            choice, steps, budget = chosen(lines, cell, ladder), ladder.steps(cell), "steps"
            try:
                if cpu_seconds is not None:
                    steps, budget = steps_for(lines, cell, cpu_seconds), f"{cpu_seconds:g} s"
                name = run_name(cell, _reproduction(ladder, cell, choice, steps), seed)
                if any(line["run"] == name for line in lines):
                    continue
                line = run_cell(ladder, cell, seed, choice, steps, budget)
            except LgnError as error:
                failures.append(f"{cell}, seed {seed}: {error}")
                break  # the other seeds of a cell that cannot be trained cannot either
            append_line(file, line)
            seconds = line["train_cpu_seconds"] or line["train_seconds"]
            print(f"{name}: {100 * line['accuracy_hard']:.2f} %, {seconds:.0f} s", flush=True)
            if seconds > 60 * MINUTES:
                print(f"{cell.method} takes more than {MINUTES:g} minutes: its other seeds are left out", flush=True)
                break
    return failures


def steps_for(lines: Iterable[dict[str, Any]], cell: Cell, seconds: float) -> int:
    """Steps that take so much processor time, by the cell's runs of equal steps."""
    known = [
        line
        for line in lines
        if line["kind"] == "run"
        and (line["dataset"], line["method"], line["size"], line["budget"])
        == (cell.dataset, cell.method, cell.gates, "steps")
        and line["train_cpu_seconds"]
    ]
    if not known:
        raise LgnError("its time a step is not known: run it without --cpu-seconds first")
    rate = min(line["train_cpu_seconds"] / line["steps"] for line in known)
    return max(VALIDATIONS, round(seconds / rate / VALIDATIONS) * VALIDATIONS)


def main(given: Sequence[str] | None = None) -> int:
    content = yaml.safe_load(METHODS.read_text(encoding="utf-8"))
    options = parse(content, given)
    ladder = Ladder(content, options.root)
    gates = [content["tuning"]["gates"]] if options.command == "tune" else options.gates
    cells = list(ladder.cells(options.datasets, options.methods, gates))
    part, parts = options.shard
    cells = cells[part - 1 :: parts]
    file = options.lines / ("lines.jsonl" if parts == 1 else f"shard-{part}-of-{parts}.jsonl")
    if options.command == "tune":
        failures = tune(ladder, cells, options.lines, file)
    else:
        failures = run(ladder, cells, options.seeds, options.cpu_seconds, options.lines, file)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def parse(content: Mapping[str, Any], given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("tune", "choose rate and tau of every method"), ("run", "train what has no line")):
        command = commands.add_parser(name, help=text)
        command.add_argument("datasets", nargs="+", choices=list(content["datasets"]), metavar="dataset")
        command.add_argument("--methods", nargs="+", choices=list(content["methods"]), metavar="METHOD")
        command.add_argument("--root", type=Path, help="folder of the data")
        command.add_argument("--lines", type=Path, default=LINES, help=f"folder of the lines (default: {LINES})")
        command.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="the I-th of N equal shares")
    command.add_argument("--gates", nargs="+", type=int, help="sizes (default: those of methods.yaml)")
    command.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="as in 0,1,2 (the default) or 0-9")
    command.add_argument("--cpu-seconds", type=float, help="equal processor time instead of equal steps")
    return parser.parse_args(given)


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not 1 <= int(part) <= int(parts):
        raise ValueError
    return int(part), int(parts)


def _seeds(text: str) -> list[int]:
    bounds = [part.partition("-") for part in text.split(",")]
    return [seed for first, _, last in bounds for seed in range(int(first), int(last or first) + 1)]


if __name__ == "__main__":
    sys.exit(main())
