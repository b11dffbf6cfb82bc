"""Makes tables and plots of the lines of benchmarks/methods.py.

    python benchmarks/methods_report.py --write docs/ladder.md     # the tables, between the marks in that page
    python benchmarks/methods_report.py --plot docs/images         # ladder-gates.svg, ladder-luts.svg, ladder-time.svg

A cell without a line is "not measured".
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median, stdev, variance
from typing import Any

import yaml
from methods_ladder import LINES, METHODS, Choice, Ladder, best_tuned, read_lines

from lgn_lightning.base.errors import LgnError, ResultError
from lgn_lightning.base.files import atomic_path, atomic_write_text

BEGIN = "<!-- ladder: written by `python benchmarks/methods_report.py --write` -->"
END = "<!-- end of ladder -->"
#: A plot: its file, the line's value on its x axis, and what that is.
PLOTS = (
    ("ladder-gates", "gates_exported", "gates of two inputs of the circuit, after the passes"),
    ("ladder-luts", "lut6", "lookup tables of six inputs, without the encoder, by our estimate"),
    ("ladder-time", "train_cpu_seconds", "processor time of the training, s"),
)
_Line = dict[str, Any]


def tables(lines: Sequence[_Line], ladder: Ladder) -> str:
    """A table of all accuracies, and one a data set, size and budget, with a row a method; Markdown."""
    runs = current_runs(lines)
    parts = [*_summary(runs, ladder), ""]
    for dataset, size in _sizes(ladder):
        here = [line for line in runs if (line["dataset"], line["size"]) == (dataset, size)]
        if not here:
            continue
        for budget in sorted({line["budget"] for line in here}):
            of_budget = [line for line in here if line["budget"] == budget]
            parts += [*_table(dataset, size, budget, of_budget, ladder), ""]
    missing = [f"{dataset} {size:,}" for dataset, size in _sizes(ladder) if not _measured(runs, dataset, size)]
    if missing:
        parts += [f"Not measured at all, by the same command: {', '.join(missing)} gates.", ""]
    return "\n".join(parts)


def _sizes(ladder: Ladder) -> Iterator[tuple[str, int]]:
    for name, dataset in ladder.content["datasets"].items():
        yield from ((name, size) for size in dataset["depth"])


def _measured(runs: Iterable[_Line], dataset: str, size: int) -> bool:
    return any((line["dataset"], line["size"]) == (dataset, size) for line in runs)


def _table(dataset: str, size: int, budget: str, runs: Sequence[_Line], ladder: Ladder) -> Iterator[str]:
    steps = ladder.content["datasets"][dataset]["steps"][size]
    equal = f"{steps:,} steps" if budget == "steps" else f"{budget} of processor time"
    yield f"### {dataset}, {size:,} gates, {equal}\n"
    heads = ("method", "rate, τ", "seeds", "validation, %", "hard test, %", "soft − hard", "gates after passes", "LUT6")
    yield "| " + " | ".join((*heads, "CPU s")) + " |"
    yield "|---" * 2 + "|--:" * (len(heads) - 1) + "|"
    for method in ladder.content["methods"]:
        own = _of(runs, method)
        if not own:
            yield f"| `{method}` | not measured |" + " |" * (len(heads) - 1)
            continue
        scores = [_spread([line[name] for line in own], 100, 2) for name in ("validation", "accuracy_hard")]
        gap = mean(100 * (line["accuracy_soft"] - line["accuracy_hard"]) for line in own)
        counts = [f"{mean(line[name] for line in own):,.0f}" for name in ("gates_exported", "lut6")]
        setting = f"{own[0]['rate']:g}, {own[0]['tau']:g}" + ("" if own[0]["tuned"] else " (untuned)")
        seconds = mean(_seconds(line) for line in own)
        yield (
            "| "
            + " | ".join((f"`{method}`", setting, str(len(own)), *scores, f"{gap:+.2f}", *counts, f"{seconds:,.0f}"))
            + " |"
        )


def _summary(runs: Sequence[_Line], ladder: Ladder) -> Iterator[str]:
    """Hard accuracies of equal steps; bold what is not below the best of its column by two standard errors."""
    sizes = [size for size in _sizes(ladder) if _measured(runs, *size)]
    names = list(ladder.content["methods"])
    columns, deviations = [], []
    for dataset, size in sizes:
        here = [line for line in runs if (line["dataset"], line["size"], line["budget"]) == (dataset, size, "steps")]
        scores = {name: [100 * line["accuracy_hard"] for line in _of(here, name)] for name in names}
        scores = {name: values for name, values in scores.items() if values}
        deviation = _usual_deviation(scores.values())
        best = max(scores, key=lambda name: mean(scores[name]))
        cells = dict.fromkeys(names, "–")
        for name, values in scores.items():
            error = deviation * (1 / len(values) + 1 / len(scores[best])) ** 0.5
            mark = "**" if mean(values) >= mean(scores[best]) - 2 * error else ""
            cells[name] = f"{mark}{mean(values):.2f}{mark}"
        columns.append(cells)
        deviations.append(f"{deviation:.2f}" if deviation else "–")
    yield "### All cells of equal steps: hard test accuracy, %\n"
    yield "| method | " + " | ".join(f"{dataset} {size:,}" for dataset, size in sizes) + " |"
    yield "|---" + "|--:" * len(sizes) + "|"
    for name in names:
        yield f"| `{name}` | " + " | ".join(cells[name] for cells in columns) + " |"
    yield "| *standard deviation of seeds* | " + " | ".join(deviations) + " |"


def _usual_deviation(scores: Iterable[Sequence[float]]) -> float:
    """The standard deviation of seeds that is usual among methods, 0 if none has several.

    From the median of their variances: a mean would be that of a method whose seeds fall apart. The median of a
    variance of n values lies below its mean, by a factor after Wilson and Hilferty (1931).
    """
    several = [(values, len(values) - 1) for values in scores if len(values) > 1]
    return median(variance(v) / (1 - 2 / (9 * freedom)) ** 3 for v, freedom in several) ** 0.5 if several else 0.0


def current_runs(lines: Iterable[_Line]) -> list[_Line]:
    """Runs; of each cell and budget those of the rate and tau that the tuning chose, else those of the last line."""
    lines = list(lines)
    best = best_tuned(lines)
    found: dict[tuple[Any, ...], dict[Choice, list[_Line]]] = {}
    for line in lines:
        if line["kind"] == "run":
            cell = found.setdefault(_part(line, "dataset", "size", "method", "budget"), {})
            cell.setdefault(Choice(*_part(line, "rate", "tau", "tuned")), []).append(line)
    current = []
    for (dataset, _, method, _), by_choice in found.items():
        chosen = best.get((dataset, method))
        current += by_choice[chosen] if chosen in by_choice else list(by_choice.values())[-1]
    return current


def _part(line: _Line, *names: str) -> tuple[Any, ...]:
    return tuple(line[name] for name in names)


def _of(runs: Iterable[_Line], method: str) -> list[_Line]:
    return [line for line in runs if line["method"] == method]


def _seconds(line: _Line) -> float:
    return float(line["train_cpu_seconds"] or line["train_seconds"])


def _spread(values: Sequence[float], scale: float, digits: int) -> str:
    deviation = f" ± {scale * stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * mean(values):.{digits}f}{deviation}"


def write(page: Path, text: str) -> None:
    """Puts the tables between the marks of a page; a ResultError if it has none."""
    content = page.read_text(encoding="utf-8")
    changed, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{text}{END}", content, flags=re.DOTALL
    )
    if count != 1:
        raise ResultError(f"{page} has no place for the tables: add the lines {BEGIN} and {END}")
    atomic_write_text(page, changed)


def plot(lines: Sequence[_Line], folder: Path, ladder: Ladder) -> list[Path]:
    """Draws hard accuracy over gates, lookup tables and processor time: a panel a data set, a line a method."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "ladder"  # the same lines give the same file
    from matplotlib import pyplot, ticker

    runs = [line for line in current_runs(lines) if line["budget"] == "steps"]
    datasets = [name for name in ladder.content["datasets"] if any(line["dataset"] == name for line in runs)]
    if not datasets:
        raise ResultError("there are no lines to draw; benchmarks/methods.py run makes some")
    colours = pyplot.get_cmap("tab20")
    files = []
    for stem, name, label in PLOTS:
        figure, panels = pyplot.subplots(
            1, len(datasets), figsize=(4.5 * len(datasets), 4.5), squeeze=False, layout="constrained"
        )
        for panel, dataset in zip(panels[0], datasets, strict=True):
            panel.set(title=dataset, xscale="log")
            panel.grid(alpha=0.3)
            panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
            panel.xaxis.set_minor_locator(ticker.NullLocator())
            panel.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
            for number, method in enumerate(ladder.content["methods"]):
                own = [line for line in runs if (line["dataset"], line["method"]) == (dataset, method)]
                sizes = [[line for line in own if line["size"] == size] for size in sorted({r["size"] for r in own})]
                if not sizes:
                    continue
                x = [mean(_seconds(r) if name == "train_cpu_seconds" else r[name] for r in part) for part in sizes]
                scores = [[100 * line["accuracy_hard"] for line in part] for part in sizes]
                errors = [stdev(part) if len(part) > 1 else 0.0 for part in scores]
                marker = "os^Dv"[number % 5]
                panel.errorbar(
                    x, [mean(part) for part in scores], yerr=errors, marker=marker, color=colours(number), label=method
                )
        panels[0][0].set_ylabel("hard test accuracy, %")
        figure.supxlabel(label, fontsize="medium")
        handles = {t: h for panel in panels[0] for h, t in zip(*panel.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), fontsize="small", loc="outside right center")
        files.append(folder / f"{stem}.svg")
        with atomic_path(files[-1]) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return files


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=Path, default=LINES, help=f"folder of the lines (default: {LINES})")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to write the tables into")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="folder of the plots")
    options = parser.parse_args(given)
    ladder = Ladder(yaml.safe_load(METHODS.read_text(encoding="utf-8")))
    try:
        lines = read_lines(options.lines)
        if options.plot is not None:
            print(*plot(lines, options.plot, ladder), sep="\n")
        if options.write is not None:
            write(options.write, tables(lines, ladder))
        if options.plot is None and options.write is None:
            print(tables(lines, ladder))
    except LgnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
