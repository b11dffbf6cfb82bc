"""The table at the end of ``lgn fit``: what was trained, what was exported, and that the two agree."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lgn_lightning.base.machine import processor_name
from lgn_lightning.callbacks import GateEntropy
from lgn_lightning.circuit import Decoding, circuit_of_net
from lgn_lightning.circuit.emit.compiled_stream import CompiledStream
from lgn_lightning.circuit.emit.compiler import CompilerError
from lgn_lightning.data.base import SampleDataModule
from lgn_lightning.deploy.folder import ExportedCircuit
from lgn_lightning.deploy.throughput import images_per_second, rate_text
from lgn_lightning.deploy.trial import Trial
from lgn_lightning.nn import logic_layers
from lgn_lightning.training.module import LogicModule
from lgn_lightning.training.targets import StepClasses, Target


@dataclass(frozen=True)
class Summary:
    """Result of a run, measured on the test split with the checkpoint that validation chose.

    Args:
        accuracy_soft: Share of correct classes of the relaxed net; for other targets the metric that fits.
        accuracy_hard: That of the discrete net.
        gates: Gates of the net, those of convolutions at every place of the image where it counts them so (`num_gates`
            of `LogicTreeNet`); None for a net without logic layers.
        gates_exported: Gates that the exported circuit evaluates.
        entropy: Mean entropy of the gate distributions, in bits.
        arity: Inputs of a gate; None where layers differ.
        wires: Share of the gates that are only wires: they settle on a copy or the negation of one input.
        constants: Share of the gates that settle on 0 or 1.
        checkpoint: The checkpoint that was tested.
        c_file: The exported C source.
        accuracy_c: That of the compiled C.
        compared: Test images on which the scores of C and hard net were compared; all were equal.
        images_per_second: Throughput of the compiled C from uint8 pixels to classes, one thread.
        tested: Images of all accuracies: the first ones of the test split if ``limit_test_batches`` leaves some out.
        available: Images of the test split.
        noun: What a sample is called.
        c_unchecked: Why nothing could be measured with the compiled C; None if it was, or there is none.
        c_differs: How the compiled C differs from the net, which no summary is printed of; else None.
        metric: The metric that fits the target: ``acc``, or ``f1``, ``r2``, …
        metrics: All that was measured on the test split.
    """

    accuracy_soft: float
    accuracy_hard: float
    gates: int | None = None
    gates_exported: int | None = None
    entropy: float | None = None
    arity: int | None = None
    wires: float | None = None
    constants: float | None = None
    checkpoint: Path | None = None
    c_file: Path | None = None
    accuracy_c: float | None = None
    compared: int | None = None
    images_per_second: float | None = None
    tested: int | None = None
    available: int | None = None
    c_unchecked: str | None = None
    c_differs: str | None = None
    metric: str = "acc"
    metrics: dict[str, float] | None = None
    noun: str = "images"


def summarize(trainer: pl.Trainer, module: LogicModule, data: SampleDataModule, checkpoint: Path | None) -> Summary:
    """Collects the result after ``trainer.test``.

    Args:
        trainer: The trainer, right after it tested ``checkpoint``.
        module: The module, with the weights of ``checkpoint``.
        data: The data module, set up.
        checkpoint: The checkpoint that was tested; None if the last weights were.
    """
    metrics = trainer.callback_metrics
    main = module.target.main
    soft, hard = (float(metrics[f"test/{main}_{kind}"]) for kind in ("soft", "hard"))
    available = len(data.test_samples()[1])
    # The i-th batches of all ranks together are the i-th batch of the split.
    tested = int(sum(trainer.num_test_batches)) * data.eval_batch_size * trainer.world_size
    tested = min(tested, available)
    summary = Summary(soft, hard, checkpoint=checkpoint, tested=tested, available=available, noun=data.noun)
    values = {name.removeprefix("test/"): float(value) for name, value in metrics.items() if name.startswith("test/")}
    # JSON knows no NaN.
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    summary = replace(summary, metric=main, metrics=values)
    layers = logic_layers(module.net)
    if not layers:
        return summary
    statistics = GateEntropy.summary(module.net)
    arities = {layer.arity for layer in layers.values()}
    return replace(
        summary,
        gates=getattr(module.net, "num_gates", sum(layer.num_neurons for layer in layers.values())),
        entropy=statistics["gate_entropy/mean"],
        arity=arities.pop() if len(arities) == 1 else None,
        wires=statistics["gates/pass_through"],
        constants=statistics["gates/constant"],
    )


def with_compiled(summary: Summary, module: LogicModule, data: SampleDataModule) -> Summary:
    """Runs the exported C on the images that were tested, if there is a library, and adds what it measures.

    Raises:
        ExportError: If the compiled C and the hard net disagree on a test image.
    """
    exported = None if summary.checkpoint is None else ExportedCircuit.of_checkpoint(summary.checkpoint)
    if exported is None or exported.library is None:
        return summary
    try:
        compiled = exported.compiled()
    except CompilerError as error:
        return replace(summary, gates_exported=exported.gates, c_file=exported.source, c_unchecked=str(error))
    images, labels = (part[: summary.tested] for part in data.test_samples())
    net = module.net.eval()
    circuit = circuit_of_net(net, form="loops").with_decoding(Decoding(**module.target.decoding()))
    trial = Trial.of_net(circuit, net, images.numpy(), "test")
    scores = compiled.scores(trial.inputs)
    trial.compare(scores, f"C source {exported.source}", compiled.predict(trial.inputs))
    if isinstance(module.target, StepClasses) and isinstance(compiled, CompiledStream):
        scores = compiled.every_step(trial.inputs).transpose(0, 2, 1)
    return replace(
        summary,
        gates_exported=exported.gates,
        c_file=exported.source,
        accuracy_c=_measure(module.target, torch.from_numpy(scores), labels),
        compared=len(images),
        images_per_second=images_per_second(compiled.predict, trial.inputs),
    )


def _measure(target: Target, counts: Tensor, labels: Tensor) -> float:
    """The metric that fits a target, of counts."""
    target = copy.deepcopy(target).cpu()
    metrics = target.metrics()
    for metric in metrics.values():
        metric.distributed_available_fn = lambda: False  # only the first rank measures
    target.update(metrics, counts.float(), labels.cpu())
    return float(target.compute(metrics)[target.main])


def hardware(trainer: pl.Trainer) -> str:
    """What a run trained on, in a few words: ``2 × NVIDIA H200`` or ``AMD EPYC 9654, 2 threads``."""
    if trainer.strategy.root_device.type == "cuda":
        return f"{trainer.world_size} × {torch.cuda.get_device_name(trainer.strategy.root_device)}"
    processes = f"{trainer.world_size} processes × " if trainer.world_size > 1 else ""
    threads = torch.get_num_threads()
    return f"{processor_name()}, {processes}{threads} thread{'s' if threads > 1 else ''}"


def print_summary(summary: Summary) -> None:
    """Prints the result as one table."""
    table = Table(title="Result on the test split", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    if summary.tested is not None and summary.tested != summary.available:
        table.add_row("tested on", f"the first {summary.tested:,} of {summary.available:,} {summary.noun}")
    accuracy = summary.metric == "acc"
    name, shape = ("accuracy", ".2%") if accuracy else (summary.metric, ".4f")
    gap = summary.accuracy_soft - summary.accuracy_hard
    table.add_row(f"soft {name}", f"{summary.accuracy_soft:{shape}}")
    table.add_row(f"hard {name}", f"{summary.accuracy_hard:{shape}}")
    others = {
        key.removesuffix("_hard"): value
        for key, value in (summary.metrics or {}).items()
        if key.endswith("_hard") and key not in (f"{summary.metric}_hard", "loss_hard", "score_hard")
    }
    if others:
        table.add_row("hard net", ", ".join(f"{key} {value:.4g}" for key, value in others.items()))
    table.add_row("discretization gap", f"{100 * gap:+.2f} points" if accuracy else f"{gap:+.4f}")
    if summary.gates is not None:
        exported = f", {summary.gates_exported:,} in the exported circuit" if summary.gates_exported else ""
        table.add_row("gates", f"{summary.gates:,}{exported}")
    if summary.entropy is not None:
        limit = "" if summary.arity is None else f" of {2**summary.arity}"
        table.add_row("gate entropy", f"{summary.entropy:.2f}{limit} bits")
    if summary.wires is not None and summary.constants is not None:
        share = f"{summary.wires:.1%} wires, {summary.constants:.1%} constants"
        table.add_row("gates that compute nothing", share)
    table.add_row(
        "checkpoint", _short(summary.checkpoint) if summary.checkpoint else "none: the last weights were tested"
    )
    if summary.c_file is not None:
        table.add_row("exported C", _short(summary.c_file))
    if summary.c_unchecked is not None:
        table.add_row("compiled C", f"not checked: {summary.c_unchecked}")
    if summary.accuracy_c is not None:
        table.add_row(f"{name} of the compiled C", f"{summary.accuracy_c:{shape}}")
        table.add_row("C and hard net", f"equal scores on all {summary.compared:,} test {summary.noun}")
        table.add_row(
            "throughput of the C", f"{rate_text(summary.images_per_second or 0)} {summary.noun}/s, one thread"
        )
    Console().print(table)


def _short(path: Path) -> str:
    """The path as seen from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
