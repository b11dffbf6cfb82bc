"""What benchmarks/methods.py compares: methods.yaml, the recipes that it makes, and the lines that were measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lgn_lightning.base.errors import LgnError, RecipeError, UsageError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.nn import recommended_tau

METHODS = Path(__file__).with_name("methods.yaml")
LINES = Path("results", "methods")
#: Validations of a run: enough to choose among, few enough to cost little.
VALIDATIONS = 10


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

    def beyond(self, rate: float) -> list[float]:
        """The rate that is tried, too, where this one was the best."""
        rates, (lower, higher) = self.content["tuning"]["rates"], self.content["tuning"]["beyond"]
        return [lower] if rate == min(rates) else [higher] if rate == max(rates) else []

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
    return best_tuned(lines).get((cell.dataset, cell.method), ladder.untuned())


def best_tuned(lines: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Choice]:
    """Rate and tau that were best in validation, by data set and method."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        if line["kind"] == "tuning":
            key = line["dataset"], line["method"]
            best[key] = max(best.get(key, line), line, key=lambda tried: tried["validation"])
    return {key: Choice(line["rate"], line["tau"]) for key, line in best.items()}


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
