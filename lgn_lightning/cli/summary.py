"""The table at the end of ``lgn fit``: what was trained, what was exported, and that the two agree."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import lightning.pytorch as pl
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lgn_lightning.base.errors import LgnError
from lgn_lightning.callbacks import ExportCircuit, GateEntropy
from lgn_lightning.circuit import CompiledCircuit
from lgn_lightning.cli.doctor import cpu_model
from lgn_lightning.data.base import ImageDataModule
from lgn_lightning.nn import GroupSum, logic_layers
from lgn_lightning.training.classifier import LogicClassifier

#: Images of one throughput measurement, repeated from the test split; a multiple of the widest machine word.
_TIMED_IMAGES = 65_536


@dataclass(frozen=True)
class Summary:
    """Result of a run, measured on the test split with the checkpoint that validation chose.

    Args:
        accuracy_soft: Share of correct classes of the relaxed net.
        accuracy_hard: Share of correct classes of the discrete net.
        gates: Gates of the net, those of convolutions at every place of the image where it counts them so (`num_gates`
            of `LogicTreeNet`); None for a net without logic layers.
        gates_exported: Gates that the exported circuit evaluates.
        entropy: Mean entropy of the gate distributions, in bits.
        arity: Inputs of a gate; None where layers differ.
        wires: Share of the gates that are only wires: the gate that they settle on copies or negates one input.
        constants: Share of the gates that settle on 0 or 1.
        checkpoint: The checkpoint that was tested.
        c_file: The exported C source.
        accuracy_c: Share of correct classes of the compiled C.
        compared: Test images on which the scores of C and hard net were compared; all were equal.
        images_per_second: Throughput of the compiled C from uint8 pixels to classes, one thread.
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


def summarize(trainer: pl.Trainer, module: LogicClassifier, data: ImageDataModule, checkpoint: Path | None) -> Summary:
    """Collects the result after ``trainer.test``, and runs the exported C on the test split.

    Args:
        trainer: The trainer, right after it tested ``checkpoint``.
        module: The module, with the weights of ``checkpoint``.
        data: The data module, set up.
        checkpoint: The checkpoint that was tested; None if the last weights were.

    Returns:
        The figures to print.

    Raises:
        LgnError: If the compiled C and the hard net disagree on a test image.
    """
    metrics = trainer.callback_metrics
    soft, hard = float(metrics["test/acc_soft"]), float(metrics["test/acc_hard"])
    layers = logic_layers(module.net)
    if not layers:
        return Summary(soft, hard, checkpoint=checkpoint)
    statistics = GateEntropy.summary(module.net)
    arities = {layer.arity for layer in layers.values()}
    summary = Summary(
        soft,
        hard,
        gates=getattr(module.net, "num_gates", sum(layer.num_neurons for layer in layers.values())),
        entropy=statistics["gate_entropy/mean"],
        arity=arities.pop() if len(arities) == 1 else None,
        wires=statistics["gates/pass_through"],
        constants=statistics["gates/constant"],
        checkpoint=checkpoint,
    )
    exported = None if checkpoint is None else ExportCircuit.exported_for(checkpoint)
    if exported is None or exported.library is None:
        return summary
    compiled = exported.compiled()
    images, labels, scores = _hard_scores(module, data)
    pixels = images.numpy()
    c_scores = compiled.scores(pixels)
    different = np.flatnonzero((c_scores != scores.numpy()).any(axis=1))
    if len(different):
        raise LgnError(
            f"{exported.source} disagrees with the hard net on {len(different)} of {len(pixels)} test images, first on "
            f"image {different[0]}: C {c_scores[different[0]].tolist()}, net {scores[different[0]].tolist()}; please "
            "report this with the checkpoint"
        )
    return Summary(
        **{
            **summary.__dict__,
            "gates_exported": exported.gates,
            "c_file": exported.source,
            "accuracy_c": float((torch.from_numpy(c_scores).argmax(1) == labels).float().mean()),
            "compared": len(pixels),
            "images_per_second": _throughput(compiled, pixels),
        }
    )


def _hard_scores(module: LogicClassifier, data: ImageDataModule) -> tuple[Tensor, Tensor, Tensor]:
    """Test images, labels, and the integer class scores of the hard net: of all ranks, though only one asks."""
    module.eval()
    images, labels = data.test_images()
    scores = [_counts(module.net, x.to(module.device)) for x in torch.split(images, data.eval_batch_size)]
    return images, labels, torch.cat(scores)


@torch.inference_mode()
def _counts(net: nn.Module, x: Tensor) -> Tensor:
    """Scores times tau: how many gates of each class are on."""
    scores = net(x).double().cpu()
    tau = next((module.tau for module in net.modules() if isinstance(module, GroupSum)), 1.0)
    counts: Tensor = (scores * tau).round().int()
    return counts


def _throughput(compiled: CompiledCircuit, pixels: np.ndarray) -> float:
    """Images per second from uint8 pixels to classes: the median of five runs."""
    batch = np.ascontiguousarray(np.resize(pixels, (_TIMED_IMAGES, *pixels.shape[1:])))
    compiled.predict(batch)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        compiled.predict(batch)
        seconds.append(time.perf_counter() - start)
    return len(batch) / median(seconds)


def hardware(trainer: pl.Trainer) -> str:
    """What a run trained on, in a few words: ``2 × NVIDIA H200`` or ``AMD EPYC 9654, 2 threads``."""
    if trainer.strategy.root_device.type == "cuda":
        return f"{trainer.world_size} × {torch.cuda.get_device_name(trainer.strategy.root_device)}"
    processes = f"{trainer.world_size} processes × " if trainer.world_size > 1 else ""
    threads = torch.get_num_threads()
    return f"{cpu_model()}, {processes}{threads} thread{'s' if threads > 1 else ''}"


def print_summary(summary: Summary) -> None:
    """Prints the result as one table."""
    table = Table(title="Result on the test split", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("soft accuracy", f"{summary.accuracy_soft:.2%}")
    table.add_row("hard accuracy", f"{summary.accuracy_hard:.2%}")
    table.add_row("discretization gap", f"{100 * (summary.accuracy_soft - summary.accuracy_hard):+.2f} points")
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
        table.add_row("accuracy of the compiled C", f"{summary.accuracy_c:.2%}")
        table.add_row("C and hard net", f"equal scores on all {summary.compared:,} test images")
        table.add_row("throughput of the C", f"{summary.images_per_second:,.0f} images/s, one thread")
    Console().print(table)


def _short(path: Path) -> str:
    """The path as seen from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
