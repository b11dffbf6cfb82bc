"""``lgn predict``: classes of images or rows of a table, by a circuit file, a checkpoint or a run."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning import hub
from lgn_lightning.base.columns import Column
from lgn_lightning.base.errors import LgnError, note, some
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.base.settings_text import arguments_of, read_settings
from lgn_lightning.circuit import (
    ARGMAX,
    CircuitError,
    Decoding,
    SequentialCircuit,
    load_circuit,
)
from lgn_lightning.circuit.api import AnyCircuit
from lgn_lightning.circuit.file import SUFFIX
from lgn_lightning.circuit.run.engine import ENGINES
from lgn_lightning.cli.options import SHIPPED, add_data_root, add_trust
from lgn_lightning.cli.predict_inputs import (
    Samples,
    missing_marks,
    placeless,
    read_inputs,
    read_test_split,
    require_array,
)
from lgn_lightning.deploy.source import circuit_of_checkpoint, find_source
from lgn_lightning.deploy.trial import net_scores
from lgn_lightning.runs.recipes import find_recipe

#: Scores, and what they say.
_Answers = tuple[NDArray[Any], NDArray[Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.description = (
        "Write the classes of images, or of the rows of a table, as CSV. Without any, the test split of the net's own "
        "data set is taken. Where the true classes are known, of a test split, of folders with the names of the "
        "classes, or of a table that has the target of a run, there is a column label, and the accuracy is printed. "
        "Columns of a table go by their names. Images are resized if those of the training were, or with --resize."
    )
    parser.add_argument("source", type=Path, help=f"run folder, checkpoint, circuit file (*{SUFFIX}); {SHIPPED}")
    parser.add_argument("inputs", nargs="*", type=Path, help="images, folders of images, a table, or a .npy array")
    parser.add_argument("--resize", action="store_true", help="bring images to the size that the net takes")
    parser.add_argument("--data", metavar="RECIPE", help="predict the test split of this recipe's data set")
    add_data_root(parser)
    parser.add_argument("--out", type=Path, help="CSV file to write (default: standard output)")
    parser.add_argument("--scores", action="store_true", help="add the score of every class")
    parser.add_argument("--engine", default="auto", choices=("auto", *ENGINES))
    parser.add_argument("--threads", type=int, default=1, help="threads of the engine (default: 1)")
    add_trust(parser)


@dataclass(frozen=True)
class Classifier:
    """What classifies.

    Attributes:
        classify: Scores ``[N, classes]`` of samples, and what they say, see `Decoding.decide`.
        image_shape: (C, H, W) of the images; None if it takes bits.
        preparation: What made the images of its training of files, see `prepare_image`.
        class_names: Names of the classes, if it knows them.
        settings: The settings that it was trained with, as far as they are known.
        columns: Columns of the table's rows that it takes; None for others.
        tau: What the scores are divided by before the softmax that makes probabilities of them.
        gaps: Those of the columns that had missing values in training, as far as that is known.
        sequences: What an array of the sequences that it takes holds; None if it takes none, or images row by row.
    """

    classify: Callable[[NDArray[Any]], _Answers]
    image_shape: tuple[int, int, int] | None
    preparation: str | None
    class_names: Sequence[str] | None
    settings: dict[str, Any]
    decoding: Decoding = ARGMAX
    columns: tuple[Column, ...] | None = None
    tau: float = 1.0
    gaps: frozenset[str] | None = None
    sequences: str | None = None

    @property
    def target(self) -> str | None:
        """The column with the classes of a table, if it is known."""
        named = arguments_of(self.settings.get("data")).get("target") if self.decoding.is_class else None
        [name] = named if isinstance(named, list) and len(named) == 1 else [named]
        return name if isinstance(name, str) else None

    @property
    def says_every_step(self) -> bool:
        """Whether it was trained on a class at every step, as far as that is known."""
        model = self.settings.get("model")
        target = model.get("target") if isinstance(model, dict) else None
        return target == "steps" or (isinstance(target, dict) and str(target["class_path"]).endswith(".StepClasses"))

    @classmethod
    def of_circuit(cls, circuit: AnyCircuit, engine: str, threads: int, settings: dict[str, Any]) -> Classifier:
        """A circuit, run by an engine."""
        classify = circuit.compile(engine, threads=threads).scores_and_classes
        about = circuit.image_shape, circuit.preparation, circuit.class_names
        gaps = None if circuit.comparisons is None else circuit.comparisons.gaps
        sequences = None
        if isinstance(circuit, SequentialCircuit) and circuit.columns is not None:
            names = [column.name for column in circuit.columns]
            sequences = f"numbers [N, steps, {len(names)}], the channels {some(names)}"
        elif isinstance(circuit, SequentialCircuit) and circuit.image_shape is None:
            sequences = f"bits [N, steps, {circuit.num_inputs}]"
        table = circuit.columns, circuit.tau, gaps
        return cls(classify, *about, settings, circuit.decoding, *table, sequences)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.inputs and (arguments.data or arguments.data_root):
        raise LgnError("give what to predict once: images, folders of images or an .npy array, or else --data <recipe>")
    if arguments.threads < 1:
        raise LgnError(f"--threads must be at least 1, got {arguments.threads}")
    classifier = open_classifier(arguments.source, arguments.engine, arguments.threads)
    if arguments.inputs:
        if classifier.sequences is not None:
            require_array(arguments.inputs, classifier.sequences)
        shape, preparation = classifier.image_shape, "resize" if arguments.resize else classifier.preparation
        names, columns, target = classifier.class_names, classifier.columns, classifier.target
        known = names, columns, classifier.gaps, target, missing_marks(classifier.settings)
        samples = read_inputs(arguments.inputs, shape, preparation, *known)
    else:
        settings, source = classifier.settings, arguments.source
        if arguments.data:
            settings, source = read_settings(find_recipe(arguments.data)), None
        elif not settings.get("data"):
            raise placeless(source)
        samples = read_test_split(settings, arguments.data_root, source, classifier.columns)
    if classifier.says_every_step:
        note(
            "this net was trained to say a class at every step, and a class here is that of the last step; in Python "
            "circuit.compile().every_step(x) gives the scores of all steps, and `lgn test` measures them"
        )
    if not classifier.decoding.is_class:
        samples = replace(samples, labels=None)
    scores, decided = classifier.classify(samples.values)
    text = _table(classifier, samples, scores, decided, arguments.scores)
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        atomic_write_text(arguments.out, text)
        print(f"{len(decided)} predictions written to {arguments.out}")
    if samples.labels is not None:
        pairs = zip(decided.tolist(), samples.labels, strict=True)
        hits = [guess == label for guess, label in pairs if label is not None]
        print(f"accuracy: {sum(hits) / len(hits):.2%} of {len(hits):,} samples with a label", file=sys.stderr)
    return 0


def open_classifier(source: Path, engine: str, threads: int) -> Classifier:
    """Opens a circuit file, or the checkpoint that a path stands for; says which one it took."""
    path = find_source(source)
    if path.suffix == SUFFIX:
        shipped = path != source
        settings = read_settings(find_recipe(hub.find(path.stem).manifest.recipe)) if shipped else {}
        return Classifier.of_circuit(load_circuit(path), engine, threads, settings)
    # torch takes seconds to import, which a circuit file does not need
    from lgn_lightning.training.checkpoint import class_names, decoding, open_net, preparation

    loaded = open_net(source)
    if loaded.why:
        print(f"{loaded.checkpoint} ({loaded.why})", file=sys.stderr)
    content, settings = loaded.content, loaded.recipe
    try:
        return Classifier.of_circuit(circuit_of_checkpoint(loaded.net, content), engine, threads, settings)
    except CircuitError:
        if engine != "auto":
            raise
    shape = arguments_of(settings["model"]["net"]).get("in_shape")
    says = decoding(content)
    classify = _of_net(loaded.net, threads, says)
    return Classifier(classify, shape and tuple(shape), preparation(content), class_names(content), settings, says)


def _of_net(net: Any, threads: int, decoding: Decoding) -> Callable[[NDArray[Any]], _Answers]:
    """What a net without gates computes, such as a baseline."""
    import torch  # as above

    def classify(x: NDArray[Any]) -> _Answers:
        torch.set_num_threads(threads)
        scores = net_scores(net, x)
        return scores, decoding.decide(scores)

    return classify


def _table(
    classifier: Classifier, samples: Samples, scores: NDArray[Any], decided: NDArray[Any], with_scores: bool
) -> str:
    decoding, groups = classifier.decoding, scores.shape[1]
    wanted = decoding.num_names(groups)
    names = classifier.class_names or [str(index) for index in range(wanted)]
    if len(names) != wanted:
        raise LgnError(f"there are {len(names)} names of classes, and {groups} scores: they are of another net")
    of_groups = names if len(names) == groups else [str(index) for index in range(groups)]
    of_table = classifier.columns is not None  # rows have numbers and no names
    if decoding.is_class and of_table:
        shares = decoding.probabilities(scores, classifier.tau)
        assert shares is not None
        chosen = np.take_along_axis(shares, decided[:, None].astype(int), 1)[:, 0]
        columns, rows = (
            ["class", "probability"],
            [[names[winner], f"{share:.6g}"] for winner, share in zip(decided.tolist(), chosen.tolist(), strict=True)],
        )
    elif decoding.is_class:
        columns, rows = ["class", "name"], [[winner, names[winner]] for winner in decided.tolist()]
    else:
        columns = ["value"] if decoding.kind == "numbers" and groups == 1 else list(names)
        rows = (decided if decoding.kind == "numbers" else decided.astype(int)).reshape(-1, groups).tolist()
    if samples.labels is not None:
        columns.append("label")
        for row, label in zip(rows, samples.labels, strict=True):
            row.append("" if label is None else names[label] if label < len(names) else str(label))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row" if of_table else "input", *columns, *(f"score_{name}" for name in of_groups if with_scores)])
    for name, row, sums in zip(samples.names, rows, scores.tolist(), strict=True):
        writer.writerow([name, *row, *(sums if with_scores else ())])
    return text.getvalue()
