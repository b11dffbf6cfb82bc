"""Reads the metrics that a run logged: CSV files and TensorBoard events."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from lgn_lightning.base.errors import RunError
from lgn_lightning.runs.metrics_file import read_metrics


@dataclass
class History:
    """Curves of a run by metric name, steps and values in the order of the steps, and where they were read."""

    source: str = ""
    curves: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)

    def get(self, name: str) -> tuple[list[int], list[float]] | None:
        """Steps and values of a metric; None if the run did not log it."""
        return self.curves.get(name)

    def last(self, name: str) -> float | None:
        """The last value of a metric; None if the run did not log it."""
        curve = self.curves.get(name)
        return None if curve is None else curve[1][-1]

    def layers(self, prefix: str) -> dict[int, tuple[list[int], list[float]]]:
        """The curves ``<prefix>1``, ``<prefix>2``, … by number."""
        pattern = re.compile(re.escape(prefix) + r"(\d+)$")
        found = {int(match[1]): curve for name, curve in self.curves.items() if (match := pattern.match(name))}
        return dict(sorted(found.items()))


def read_history(folder: Path) -> History:
    """Reads ``metrics.csv`` of CSVLogger, else TensorBoard's events; no curves without; a RunError if damaged."""
    file = folder / "metrics.csv"
    if file.is_file():
        return History(file.name, _read_csv(file))
    events = sorted(folder.glob("events.out.tfevents.*"))
    if events:
        curves = _read_events(folder)
        if curves is not None:
            return History("TensorBoard events", curves)
    return History()


def _read_csv(file: Path) -> dict[str, tuple[list[int], list[float]]]:
    points: dict[str, dict[int, float]] = {}
    for row in read_metrics(file):
        step = int(row["step"])
        for name in row.keys() - {"step", "epoch"}:
            value = _number(row[name])
            if value is not None:
                points.setdefault(name, {})[step] = value
    return {name: _sorted(values) for name, values in points.items()}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read_events(folder: Path) -> dict[str, tuple[list[int], list[float]]] | None:
    try:
        # an extra
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
    except ImportError:
        return None
    curves = {}
    try:
        events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
        events.Reload()
        for name in events.Tags()[SCALARS]:
            points = {event.step: event.value for event in events.Scalars(name) if math.isfinite(event.value)}
            if points and name != "epoch":
                curves[name] = _sorted(points)
    except Exception as error:  # what TensorBoard, protobuf or numpy raise of a damaged file
        raise RunError(f"the TensorBoard events in {folder} cannot be read ({error}); move them away") from error
    return curves


def _sorted(points: dict[int, float]) -> tuple[list[int], list[float]]:
    steps = sorted(points)
    return steps, [points[step] for step in steps]
