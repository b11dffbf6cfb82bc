"""Puts the report together: measures, draws, fills in the template, writes one file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from lgn_lightning.base.errors import DataError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.base.machine import processor_name
from lgn_lightning.circuit import CircuitError
from lgn_lightning.deploy.folder import ExportedCircuit
from lgn_lightning.deploy.throughput import images_per_second
from lgn_lightning.deploy.trial import Trial, net_scores
from lgn_lightning.gates import GATE_NAMES
from lgn_lightning.report import figures
from lgn_lightning.report.circuit_facts import CircuitFacts, circuit_facts
from lgn_lightning.report.confusion import Confusion, confusion, image_uri
from lgn_lightning.report.gate_diagram import choose_piece, draw_piece
from lgn_lightning.report.history import History, read_history
from lgn_lightning.report.layers import LayerFacts, layer_facts
from lgn_lightning.report.run import Run, TestSplit, load_test_split, open_run

#: Test images on which the circuit's scores are compared with those of the net itself.
_COMPARED = 256
#: Above this many classes the confusion matrix gives way to a list of its largest entries.
_MATRIX_CLASSES = 20
_CONFUSIONS, _EXAMPLES = 10, 4


@dataclass
class Findings:
    """Everything that the report shows, measured once.

    Attributes:
        run: The run.
        history: Its logged curves.
        layers: Facts by layer of gates.
        activity_images: Test images that the activity was measured on.
        test: The test split, if it is there.
        circuit: The circuit, if the net is one.
        confusion: Results of the discrete net on the test split.
        compared: Test images on which net and circuit gave equal scores.
        throughput: Images per second by what ran them.
        missing: What the report cannot show, and why.
    """

    run: Run
    history: History
    layers: list[LayerFacts]
    activity_images: int = 0
    test: TestSplit | None = None
    circuit: CircuitFacts | None = None
    confusion: Confusion | None = None
    compared: int = 0
    throughput: list[tuple[str, float]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def write_report(
    target: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    data_root: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes the report of a run: one HTML file that loads nothing from elsewhere.

    Args:
        target: A run folder that ``lgn fit`` left, or one of its checkpoints.
        out: File to write; by default ``report.html`` in the run folder, or ``report-<checkpoint>.html``.
        data_root: Data folder that replaces the recipe's.

    Returns:
        The file.

    Raises:
        CheckpointError: If there is no checkpoint or it cannot be used.
        ExportError: If the net and its circuit disagree on a test image.
        OSError: If the file cannot be written.
    """
    findings = examine(open_run(target), None if data_root is None else Path(data_root))
    name = f"report-{Path(target).stem}.html" if Path(target).is_file() else "report.html"
    path = findings.run.folder / name if out is None else Path(out)
    atomic_write_text(path, render(findings))
    return path


def examine(run: Run, data_root: Path | None = None) -> Findings:
    """Measures everything that the report shows; what cannot be measured is noted in ``missing``."""
    history = read_history(run.folder)
    missing = []
    if not history.curves:
        missing.append(
            "Curves over time: the run folder has neither metrics.csv (CSVLogger) nor TensorBoard events that can be "
            "read; set trainer.logger to one of them."
        )
    test, circuit = None, None
    try:
        test = load_test_split(run.recipe, data_root)
    except DataError as error:
        missing.append(f"Whatever needs test images: {error}. `lgn report --data.root` names the data folder.")
    layers, measured = layer_facts(run.net, None if test is None else test.images)
    try:
        circuit = circuit_facts(run.net)
    except CircuitError as error:
        missing.append(f"Circuit, passes, pixel use and throughput: {error}.")
    findings = Findings(run, history, layers, measured, test, circuit, missing=missing)
    if test is not None:
        _run_test_images(findings, test)
    return findings


def _run_test_images(findings: Findings, test: TestSplit) -> None:
    net, circuit = findings.run.net, findings.circuit
    if circuit is None:
        findings.confusion = confusion(net_scores(net, test.images), test.labels)
        return
    scores = circuit.engine(test.images)
    trial = Trial.of_net(circuit.raw, net, test.images[:_COMPARED], "test")
    trial.compare(scores[:_COMPARED], f"circuit of {findings.run.checkpoint}")
    findings.compared = len(trial.inputs)
    findings.confusion = confusion(scores, test.labels)
    runners = {f"engine: {circuit.engine.name}": circuit.engine.predict}
    exported = ExportedCircuit.of_checkpoint(findings.run.checkpoint)
    if exported is not None and exported.library is not None:
        runners["compiled C"] = exported.compiled().predict
    findings.throughput = [(name, images_per_second(run, test.images)) for name, run in runners.items()]


def render(findings: Findings) -> str:
    """Fills in the template."""
    from jinja2 import Environment, StrictUndefined

    folder = files("lgn_lightning.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["thousands"] = lambda value: f"{value:,}"
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    run, test, circuit = findings.run, findings.test, findings.circuit
    return template.render(
        style=(folder / "page.css").read_text(encoding="utf-8"),
        run=run,
        history=findings.history,
        layers=findings.layers,
        most_bits=2 ** max((layer.arity for layer in findings.layers), default=2),
        test=test,
        circuit=circuit,
        confusion=findings.confusion,
        compared=findings.compared,
        throughput=findings.throughput,
        missing=findings.missing,
        activity_images=findings.activity_images,
        soft=_soft_accuracy(findings),
        charts=_charts(findings),
        gate_names=GATE_NAMES,
        examples=_examples(findings),
        show_matrix=findings.confusion is not None and len(findings.confusion.matrix) <= _MATRIX_CLASSES,
        machine=f"{processor_name()}, one thread, torch {torch.__version__}",
        version=version("lgn-lightning"),
        data=json.dumps(as_dict(findings), indent=1).replace("</", "<\\/"),
    )


def as_dict(findings: Findings) -> dict[str, Any]:
    """The figures of the report as plain types; the page holds them as JSON in ``<script id="report-data">``."""
    circuit, result = findings.circuit, findings.confusion
    return {
        "run": findings.run.name,
        "checkpoint": findings.run.checkpoint.name,
        "step": findings.run.step,
        "test": None
        if result is None
        else {
            "images": int(result.matrix.sum()),
            "acc_hard": result.accuracy,
            "acc_soft": _soft_accuracy(findings),
            "confusion": result.matrix.tolist(),
        },
        "layers": [
            {
                "name": layer.name,
                "gates": layer.gates,
                "entropy": layer.entropy,
                "chosen": layer.counts.tolist(),
                "ones": layer.ones,
                "constant_outputs": layer.constant,
            }
            for layer in findings.layers
        ],
        "circuit": None
        if circuit is None
        else {
            "gates": circuit.raw.num_gates,
            "passes": [[report.name, report.before, report.after] for report in circuit.passes],
            "pixel_reads": None if circuit.pixel_reads is None else circuit.pixel_reads.tolist(),
            "depth": circuit.stats.depth,
        },
        "images_per_second": {name: round(value) for name, value in findings.throughput},
    }


def _soft_accuracy(findings: Findings) -> float | None:
    """Soft accuracy on the test split as `lgn fit` logged it, if it logged it of this very checkpoint."""
    hard, soft = findings.history.last("test/acc_hard"), findings.history.last("test/acc_soft")
    if hard is None or soft is None or findings.confusion is None:
        return None
    return soft if abs(hard - findings.confusion.accuracy) < 1e-6 else None


def _charts(findings: Findings) -> dict[str, str]:
    charts = figures.accuracy_charts(findings.history)
    shares = [layer.on for layer in findings.layers if layer.on is not None]
    if shares:
        charts["activity"] = figures.activity_chart(shares, "how often the outputs of each layer are on")
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
        charts["piece"] = draw_piece(circuit.small, piece, f"the gates behind output bit {piece.output}")
    return charts


def _examples(findings: Findings) -> list[dict[str, Any]]:
    result, test = findings.confusion, findings.test
    if result is None or test is None:
        return []
    return [
        {
            "true": test.class_names[true],
            "guess": test.class_names[guess],
            "count": count,
            "images": [
                (index, image_uri(test.images[index])) for index in result.examples(test.labels, true, guess, _EXAMPLES)
            ],
        }
        for true, guess, count in result.largest(_CONFUSIONS)
    ]
