"""Puts the report together: what was found, drawn and filled into the template, as one file."""

import json
import os
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.base.machine import processor_name
from lgn_lightning.circuit.simulate import encode
from lgn_lightning.deploy.throughput import rate_text
from lgn_lightning.gates import GATE_NAMES
from lgn_lightning.report import figures
from lgn_lightning.report.circuit_facts import CircuitFacts
from lgn_lightning.report.findings import Findings, examine
from lgn_lightning.report.gate_diagram import choose_piece, draw_piece, node_values
from lgn_lightning.report.pictures import animation_uri, grids_uri, image_uri
from lgn_lightning.report.run_facts import settings_text
from lgn_lightning.training.checkpoint import open_net

#: Above this many classes the confusion matrix gives way to a list of its largest entries.
_MATRIX_CLASSES = 20
_CONFUSIONS, _EXAMPLES, _BITS = 10, 4, 12
#: Columns of a row that are shown.
_ROW_COLUMNS = 8


def write_report(
    target: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    data_root: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes the report of a run's folder or checkpoint, HTML that loads nothing from elsewhere; gives its path.

    That is by default ``report.html`` in the run folder, or ``report-<checkpoint>.html``. ``data_root`` replaces the
    recipe's. A CheckpointError if there is no checkpoint or it cannot be used, an ExportError if the net and its
    circuit disagree on a test image, an OSError if the file cannot be written.
    """
    findings = examine(open_net(target), None if data_root is None else Path(data_root))
    name = f"report-{Path(target).stem}.html" if Path(target).is_file() else "report.html"
    path = findings.run.folder / name if out is None else Path(out)
    atomic_write_text(path, render(findings))
    return path


def render(findings: Findings) -> str:
    """Fills in the template; the figures as JSON are in ``<script id="report-data">``."""
    folder = files("lgn_lightning.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["thousands"] = lambda value: f"{value:,}"
    environment.filters["rate"] = rate_text
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        vars(findings),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        most_bits=2 ** max((layer.arity for layer in findings.layers), default=2),
        soft=findings.soft_accuracy,
        charts=_charts(findings),
        automaton={} if findings.grids is None else _automaton(findings.grids),
        activity=figures.activity_charts([layer.on for layer in findings.layers if layer.on is not None]),
        about=findings.about,
        settings=settings_text(findings.run),
        gate_names=GATE_NAMES,
        noun="images" if findings.circuit is None or findings.circuit.small.columns is None else "rows",
        examples=_examples(findings),
        bits=_bits(findings),
        unit="decisions" if findings.confusion is not None else "change",
        show_matrix=findings.confusion is not None and len(findings.confusion.matrix) <= _MATRIX_CLASSES,
        machine=f"{processor_name()}, one thread, torch {torch.__version__}",
        version=version("lgn-lightning"),
        data=json.dumps(findings.as_dict(), indent=1).replace("</", "<\\/"),
    )


def _charts(findings: Findings) -> dict[str, str]:
    charts = figures.accuracy_charts(findings.history)
    if findings.states:
        colours = (figures.HARD, figures.SOFT, figures.INK)
        lines = [(name, curve, colour) for (name, curve), colour in zip(findings.states.items(), colours, strict=False)]
        charts["state"] = figures.line_chart(lines, "state bits", "state over the steps of a sequence", xlabel="step")
    circuit = findings.circuit
    if circuit is None:
        return charts
    names = ["in the net", *(report.name.replace("_", " ") for report in circuit.passes)]
    counts = [circuit.raw.num_gates, *(report.after for report in circuit.passes)]
    charts["passes"] = figures.bar_chart(names, counts, "gates after each pass")
    if circuit.pixel_reads is not None:
        charts["pixels"] = figures.pixel_map(circuit.pixel_reads, "how often the circuit reads each pixel")
    piece = choose_piece(circuit.small)
    if piece is not None:
        label = f"the gates behind output bit {piece.output}"
        charts["piece"] = draw_piece(circuit.small, piece, label)
        if findings.test is not None and circuit.small.comparisons is not None:
            values = node_values(circuit.small, encode(circuit.small, findings.test.images[:1])[0])
            charts["decision"] = draw_piece(circuit.small, piece, f"{label}, for the first test row", values)
    return charts


def _automaton(grids: NDArray[np.bool_]) -> dict[str, Any]:
    return {"picture": grids_uri(grids), "animation": animation_uri(grids), "steps": len(grids) - 1}


def _examples(findings: Findings) -> list[dict[str, Any]]:
    result, test = findings.confusion, findings.test
    if result is None or test is None:
        return []
    has_rows = test.images.ndim == 2 and test.images.dtype == np.uint8
    comparisons = None if findings.circuit is None else findings.circuit.small.comparisons
    examples: list[dict[str, Any]] = []
    for true, guess, count in result.largest(_CONFUSIONS):
        shown = result.examples(test.labels, true, guess, _EXAMPLES)
        images = [(i, image_uri(test.images[i])) for i in shown if comparisons is None]
        rows = [(i, _row_text(findings.circuit, test.images[i])) for i in shown if has_rows]
        names = {"true": test.class_names[true], "guess": test.class_names[guess]}
        examples.append({**names, "count": count, "images": images, "rows": rows})
    return examples


def _bits(findings: Findings) -> list[tuple[str, float]]:
    """The comparisons that matter most, in words."""
    if findings.importance is None or findings.circuit is None or findings.circuit.small.comparisons is None:
        return []
    shares = findings.importance.bits
    most = np.argsort(-shares, kind="stable")[:_BITS].tolist()
    return [(findings.circuit.small.comparisons.describe(bit), float(shares[bit])) for bit in most if shares[bit] > 0]


def _row_text(circuit: CircuitFacts | None, row: NDArray[np.uint8]) -> str:
    """A row in words: the columns that the circuit reads most."""
    assert circuit is not None
    assert circuit.small.comparisons is not None
    comparisons = circuit.small.comparisons
    values = row.view(comparisons.row_dtype)[0]
    shown = [comparisons.columns[number] for number, _, _ in circuit.column_reads[:_ROW_COLUMNS]]
    return ", ".join(
        f"{column.name} {'missing' if column.is_missing(values[column.name]) else column.show(values[column.name])}"
        for column in shown
    )
