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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from methods_ladder import LINES, METHODS, Cell, Choice, Ladder, append_line, chosen, read_lines, steps_for

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.base.programs import raised_stop_signals
from lgn_lightning.cli import training_cli  # noqa: F401 - imported once, for all children
from lgn_lightning.cli.main import main as lgn
from lgn_lightning.cli.reproduce import Reproduction
from lgn_lightning.runs.folder import RUNS, RunFolder

#: What a cell's training may take, as the committed table has it.
MINUTES = 3.0


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
            with raised_stop_signals():
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
    """Tries the rates at the first tau, one more at an end, the other taus at the best rate; returns what failed."""
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
            at_first |= {rate: tried(rate, taus[0]) for rate in ladder.beyond(best)}
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
