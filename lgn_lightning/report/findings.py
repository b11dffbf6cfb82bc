"""What a report shows: everything is measured here, once, and drawn elsewhere."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.errors import DataError
from lgn_lightning.circuit import CircuitError, CompiledCircuit, Decoding
from lgn_lightning.circuit.emit.compiler import CompilerError
from lgn_lightning.data.from_settings import data_module
from lgn_lightning.deploy.folder import ExportedCircuit
from lgn_lightning.deploy.throughput import images_per_second
from lgn_lightning.deploy.trial import Trial, as_inputs, net_outputs, net_scores
from lgn_lightning.report.circuit_facts import CircuitFacts, circuit_facts
from lgn_lightning.report.confusion import Confusion, confusion
from lgn_lightning.report.history import History, read_history
from lgn_lightning.report.importance import Importance, importance
from lgn_lightning.report.layers import LayerFacts, layer_facts
from lgn_lightning.report.run_facts import run_facts
from lgn_lightning.report.states import automaton_grids, state_curves
from lgn_lightning.training.checkpoint import LoadedNet, decoding
from lgn_lightning.training.fit_columns import fit_columns

#: Test images on which the circuit's scores are compared with those of the net itself.
_COMPARED = 256
#: Test rows in which every bit is flipped.
_FLIPPED = 2000


@dataclass(frozen=True)
class TestSplit:
    """The test images of a run, uint8 ``[N, C, H, W]``, their labels, int64 ``[N]``, and the names of the classes."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: list[str]


@dataclass
class Findings:
    """Everything that the report shows, measured once: what is not there is None, and ``missing`` says why.

    ``activity_images`` test images gave the layers' activity, and on ``compared`` of them net and circuit had equal
    scores; ``throughput`` is in images per second by what ran them. ``values`` are metrics of targets that are no
    classes; ``states`` are curves of a recurrent net's state over the steps, ``grids`` those of an automaton;
    ``importance`` is of a table's bits and columns, over ``flipped`` rows.
    """

    run: LoadedNet
    history: History
    layers: list[LayerFacts]
    activity_images: int = 0
    test: TestSplit | None = None
    circuit: CircuitFacts | None = None
    confusion: Confusion | None = None
    compared: int = 0
    values: list[tuple[str, float]] = field(default_factory=list)
    importance: Importance | None = None
    flipped: int = 0
    throughput: list[tuple[str, float]] = field(default_factory=list)
    states: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    grids: NDArray[np.bool_] | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def about(self) -> list[tuple[str, str]]:
        """What the run was, see `run_facts`."""
        return run_facts(self.run, self.history)

    @property
    def soft_accuracy(self) -> float | None:
        """Soft accuracy on the test split as `lgn fit` logged it, if it logged it of this very checkpoint."""
        hard, soft = self.history.last("test/acc_hard"), self.history.last("test/acc_soft")
        if hard is None or soft is None or self.confusion is None:
            return None
        return soft if abs(hard - self.confusion.accuracy) < 1e-6 else None

    def as_dict(self) -> dict[str, Any]:
        circuit, result = self.circuit, self.confusion
        test = result and {
            "images": int(result.matrix.sum()),
            "acc_hard": result.accuracy,
            "acc_soft": self.soft_accuracy,
            "confusion": result.matrix.tolist(),
        }
        if self.values:
            test = {"images": 0 if self.test is None else len(self.test.labels), **dict(self.values)}
        layers = [
            {"name": layer.name, "gates": layer.gates, "entropy": layer.entropy}
            | {"chosen": layer.counts.tolist(), "ones": layer.ones, "constant_outputs": layer.constant}
            for layer in self.layers
        ]
        gates = circuit and {
            "gates": circuit.raw.num_gates,
            "passes": [[report.name, report.before, report.after] for report in circuit.passes],
            "pixel_reads": None if circuit.pixel_reads is None else circuit.pixel_reads.tolist(),
            "depth": circuit.stats.depth,
            "fpga": circuit.fpga and circuit.fpga.as_dict(),
        }
        flips = self.importance and {
            "rows": self.flipped,
            "columns": self.importance.groups.tolist(),
            "bits": self.importance.bits.tolist(),
        }
        return {
            "run": self.run.name,
            "about": dict(self.about),
            "checkpoint": self.run.checkpoint.name,
            "step": self.run.step,
            "test": test,
            "layers": layers,
            "circuit": gates,
            "flips": flips,
            "images_per_second": {name: round(value) for name, value in self.throughput},
        }


def examine(run: LoadedNet, data_root: Path | None = None) -> Findings:
    """Measures everything that the report shows; what cannot be measured is noted in ``missing``."""
    history = read_history(run.folder)
    missing = []
    if not history.curves:
        missing.append(
            "Curves over time: the run folder has neither metrics.csv nor TensorBoard events that can be read; set "
            "trainer.logger to CSVLogger or TensorBoardLogger."
        )
    test, circuit = None, None
    try:
        data = data_module(run.recipe, data_root, run.checkpoint)
        images, labels = data.test_samples()
        fit_columns(run.net, data, fits=False)
        test = TestSplit(images.numpy(), labels.numpy(), list(data.class_names))
    except (DataError, OSError) as error:
        missing.append(f"Everything that needs test images: {error}. `lgn report --data.root` names the data folder.")
    layers, measured = layer_facts(run.net, None if test is None else test.images)
    try:
        circuit = circuit_facts(run.net, decoding(run.content))
        test = test and replace(test, images=as_inputs(circuit.raw, test.images))
    except CircuitError as error:
        missing.append(f"Circuit, passes, pixel use and throughput: {error}.")
    findings = Findings(run, history, layers, measured, test, circuit, missing=missing)
    if test is not None:
        findings.states = state_curves(run.net, test.images)
        findings.grids = automaton_grids(run.net, test.images)
        _run_test_images(findings, test)
    return findings


def _run_test_images(findings: Findings, test: TestSplit) -> None:
    net, circuit = findings.run.net, findings.circuit
    says = decoding(findings.run.content)
    if test.labels.ndim == 2 and says.is_class:  # a class at every step; what does not count is below 0
        right = net_outputs(net, test.images).argmax(1) == test.labels
        findings.values = [("accuracy of a step", float(right[test.labels >= 0].mean()))]
        return
    if circuit is None:
        _measure(findings, test, net_scores(net, test.images), says)
        return
    scores = circuit.engine(test.images)
    trial = Trial.of_net(circuit.raw, net, test.images[:_COMPARED], "test")
    trial.compare(scores[:_COMPARED], f"circuit of {findings.run.checkpoint}")
    findings.compared = len(trial.inputs)
    _measure(findings, test, scores, says)
    if (comparisons := circuit.small.comparisons) is not None:
        groups = [np.flatnonzero(comparisons.column == number) for number in range(len(comparisons.columns))]
        rows = test.images[:_FLIPPED]
        findings.importance, findings.flipped = importance(circuit.engine, rows, groups), len(rows)
    runners = {f"engine: {circuit.engine.name}": circuit.engine.predict}
    exported = ExportedCircuit.of_checkpoint(findings.run.checkpoint)
    if exported is not None and exported.library is not None:
        # Compiled anew: the library of a run is a program of whoever made the run.
        try:
            runners["compiled C"] = CompiledCircuit.of_source(circuit.small.to_c()).predict
        except CompilerError as error:
            findings.missing.append(f"Throughput of the compiled C: {error}.")
    findings.throughput = [(name, images_per_second(run, test.images)) for name, run in runners.items()]


def _measure(findings: Findings, test: TestSplit, scores: NDArray[Any], says: Decoding) -> None:
    """The results of the discrete net: classes are counted, labels and numbers measured."""
    if says.is_class:
        findings.confusion = confusion(scores, test.labels, says)
        return
    from sklearn import metrics  # takes a second, which reports of classes need not

    decided, labels = says.decide(scores), test.labels.reshape(len(test.labels), -1)
    if says.kind == "labels":
        flat = labels.ravel().astype(bool), decided.ravel()
        findings.values = [("F1", metrics.f1_score(*flat)), ("accuracy", metrics.accuracy_score(*flat))]
        return
    error = decided - labels
    findings.values = [
        ("R²", float(metrics.r2_score(labels, decided))),
        ("root mean squared error", float(np.sqrt((error**2).mean()))),
        ("mean absolute error", float(np.abs(error).mean())),
    ]
