"""Charts of the report: drawn by matplotlib, coloured by the page's style sheet in light and dark mode."""

import io
import itertools
import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lgn_lightning.report.history import History

Curve = tuple[list[int], list[float]]

# Stand-ins that matplotlib writes into the SVG, and the style sheet's colours that replace them there.
_NAMES = ("ink", "muted", "line", "soft", "hard", "fill", "surface")
INK, MUTED, LINE, SOFT, HARD, FILL, SURFACE = _COLOURS = [f"#0{number}0{number}0{number}" for number in range(1, 8)]
_LAYER_PREFIX = "#0900"
_WIDTH = 4.2  # inches: 403 CSS pixels, so that the text of a chart stays legible on a phone

_numbers = itertools.count()


def layer_colour(index: int, count: int) -> str:
    """Colour of layer ``index`` of ``count``: from the first to the last along one scale."""
    return f"{_LAYER_PREFIX}{round(100 * index / max(count - 1, 1)):02x}"


def new_figure(height: float, width: float = _WIDTH) -> tuple[Figure, Axes]:
    """A figure in the report's style, ``width`` and ``height`` in inches."""
    matplotlib.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    axes.xaxis.label.set(color=MUTED, size=8)
    axes.yaxis.label.set(color=MUTED, size=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def to_svg(figure: Figure, label: str) -> str:
    """Writes a figure as a bare SVG element in the page's colours; ``label`` is what a screen reader says."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "lgn"}):
        figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    view_box = re.search(r'viewBox="([^"]+)"', text)
    assert view_box is not None
    number = next(_numbers)
    text = re.sub(r'\bid="', f'id="f{number}-', text)
    text = text.replace("url(#", f"url(#f{number}-").replace('xlink:href="#', f'href="#f{number}-')
    text = text.replace("xlink:href=", "href=")
    # Text takes the page's font; matplotlib's choice is used for the layout only.
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    for colour, name in zip(_COLOURS, _NAMES, strict=True):
        text = text.replace(colour, f"var(--{name})")
    mix = "color-mix(in oklab, var(--last) {}%, var(--first))"
    text = re.sub(_LAYER_PREFIX + r"([0-9a-f]{2})", lambda match: mix.format(int(match[1], 16)), text)
    head = f'<svg class="chart" role="img" aria-label="{label}" viewBox="{view_box[1]}">'
    return re.sub(r"<svg[^>]*>", lambda _: head, text, count=1).strip()


def line_chart(
    lines: Sequence[tuple[str, Curve | None, str]],
    ylabel: str,
    label: str,
    percent: bool = False,
    zero: bool = False,
    xlabel: str = "optimizer steps",
) -> str:
    """Curves, by default over the optimizer steps: name, curve (None is left out) and colour of each.

    ``label`` is what a screen reader says.
    """
    figure, axes = new_figure(2.3)
    factor = 100 if percent else 1
    drawn = [(name, curve, colour) for name, curve, colour in lines if curve is not None]
    for name, (steps, values), colour in drawn:
        marker = "o" if len(steps) == 1 else None  # a single point has no line
        scaled = [factor * value for value in values]
        axes.plot(steps, scaled, color=colour, linewidth=1.6, label=name, marker=marker, markersize=4)
    if zero:
        axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_formatter(_thousands)
    if len(drawn) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=min(len(drawn), 4), loc="best")
    return to_svg(figure, label)


def layer_chart(curves: dict[int, Curve], ylabel: str, label: str, percent: bool = False) -> str:
    """One curve a layer, over the optimizer steps."""
    lines = [(str(name), curve, layer_colour(index, len(curves))) for index, (name, curve) in enumerate(curves.items())]
    return line_chart(lines, ylabel, label, percent)


def activity_charts(shares: Sequence[NDArray[np.float64]]) -> list[str]:
    """A histogram a layer: how many outputs are on for which share of the images; all of one height."""
    bins = np.linspace(0, 100, 21)
    heights = [100 * np.histogram(100 * on, bins)[0] / len(on) for on in shares]
    charts = []
    for number, height in enumerate(heights, 1):
        figure, axes = new_figure(1.5, width=2.1)
        axes.bar(bins[:-1], height, width=5, align="edge", color=FILL)
        axes.set_ylim(0, 1.05 * max(1.0, *map(np.max, heights)))
        axes.set_title(f"layer {number}", color=INK, size=8)
        axes.set_xticks([0, 50, 100])
        axes.set_xlabel("on for, % of samples")
        axes.set_ylabel("outputs, %")
        charts.append(to_svg(figure, f"how often the outputs of layer {number} are on"))
    return charts


def bar_chart(names: Sequence[str], values: Sequence[int], label: str) -> str:
    figure, axes = new_figure(0.3 + 0.28 * len(names))
    places = np.arange(len(names))[::-1]
    axes.barh(places, values, color=FILL, height=0.7)
    axes.set_yticks(places, names)
    for place, value in zip(places, values, strict=True):
        axes.annotate(f"{value:,}", (value, place), (4, 0), textcoords="offset points", va="center", size=8, color=INK)
    axes.set_xlim(0, 1.22 * max(*values, 1))
    axes.set_xticks([])
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", labelcolor=INK)
    return to_svg(figure, label)


def pixel_map(reads: NDArray[np.int64], label: str) -> str:
    """Reads of each pixel; pixels that nothing reads are left blank."""
    figure, axes = new_figure(3.1)
    image = axes.imshow(np.ma.masked_equal(reads, 0), cmap="viridis", interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.ax.tick_params(colors=MUTED, labelsize=8, length=0)
    bar.outline.set_visible(False)
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
    return to_svg(figure, label)


def accuracy_charts(history: History) -> dict[str, str]:
    """The curves of a training, by name; those that the run did not log are left out."""
    charts = {}
    main = next((name.removeprefix("val/gap_") for name in history.curves if name.startswith("val/gap_")), "acc")
    percent, metric = main == "acc", "accuracy" if main == "acc" else main
    soft, hard = history.get(f"val/{main}_soft"), history.get(f"val/{main}_hard")
    if soft or hard:
        both, axis = [("soft", soft, SOFT), ("hard", hard, HARD)], "accuracy, %" if percent else metric
        charts["accuracy"] = line_chart(both, axis, f"validation {metric} of the soft and the hard net", percent)
    if gap := history.get(f"val/gap_{main}"):
        label, axis = "discretization gap in validation", "soft − hard, points" if percent else "soft − hard"
        charts["gap"] = line_chart([("gap", gap, INK)], axis, label, percent, zero=True)
    losses = [
        ("training", history.get("train/loss"), MUTED),
        ("soft", history.get("val/loss_soft"), SOFT),
        ("hard", history.get("val/loss_hard"), HARD),
    ]
    if rate := history.get("train/lr"):
        charts["rate"] = line_chart([("rate", rate, INK)], "learning rate", "learning rate")
    if any(curve for _, curve, _ in losses):
        charts["loss"] = line_chart(losses, "loss", "training loss, and validation loss of the soft and the hard net")
    if entropies := history.layers("gate_entropy/layer_"):
        charts["entropy"] = layer_chart(entropies, "entropy, bits", "gate entropy of each layer")
    if gaps := history.layers("gap/layer_"):
        charts["layer_gap"] = layer_chart(gaps, "soft ≠ hard, %", "share of neurons that differ", percent=True)
    return charts


def _thousands(value: float, _position: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"
