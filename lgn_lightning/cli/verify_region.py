"""``lgn verify --robust`` and ``--independent-of``: that a net decides alike on all of a region of inputs."""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.files import atomic_write_bytes
from lgn_lightning.circuit import Circuit, CircuitError
from lgn_lightning.circuit.check.region import Region, pixel_region, row_of, row_region
from lgn_lightning.circuit.check.robust import Answer, decides_alike, ignores_column
from lgn_lightning.circuit.simulate import encode
from lgn_lightning.cli.predict_inputs import missing_marks, read_inputs
from lgn_lightning.deploy.random_rows import random_rows
from lgn_lightning.deploy.source import read_source

#: Exit status where time was up before there was an answer.
UNDECIDED: Final = 3
#: Random rows that are searched for a pair.
_ROWS: Final = 4096
_WORDS: Final = {True: "proven", False: "REFUTED", None: "undecided"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "prove that the decision on these images, or rows of a table, stays in a region around them"
    parser.add_argument("--robust", type=Path, nargs="+", metavar="SAMPLE", help=text)
    text = "grey levels by which each pixel may change, for --robust (default: 1)"
    parser.add_argument("--radius", type=int, default=1, help=text)
    text = "a column that may change, for --robust: between two values, by at most a value, or to all that it can be"
    parser.add_argument("--range", action="append", default=[], metavar="COLUMN=LOW:HIGH|±STEP|any", help=text)
    text = "prove that the decision on a row of a table does not depend on a column"
    parser.add_argument("--independent-of", metavar="COLUMN", help=text)
    text = "where an image with another decision is written (default: counterexample.png)"
    parser.add_argument("--counterexample", type=Path, default=Path("counterexample.png"), help=text)


def run(arguments: argparse.Namespace) -> int:
    """Runs the proofs: 0 if all hold, 1 if one is refuted, else 3 if one is undecided."""
    source = read_source(arguments.first, form="code")
    circuit, marks = source.flat, missing_marks(source.settings)
    print(f"{source.title}: {circuit}")
    try:
        answers = _independent(circuit, arguments) if arguments.independent_of else _robust(circuit, arguments, marks)
    except CircuitError as error:
        raise LgnError(str(error)) from error
    return 1 if False in answers else UNDECIDED if None in answers else 0


def _robust(circuit: Circuit, arguments: argparse.Namespace, marks: list[str]) -> list[bool | None]:
    shape, comparisons = circuit.image_shape, circuit.comparisons
    gaps = None if comparisons is None else comparisons.gaps
    about = (shape, circuit.preparation, circuit.class_names, circuit.columns, gaps)
    samples = read_inputs(arguments.robust, *about, marks=marks)
    if arguments.range and comparisons is None:
        raise LgnError("--range is for the columns of a table, and this net takes none")
    if comparisons is not None and not arguments.range:
        raise LgnError("say which columns may change: --range COLUMN=LOW:HIGH, COLUMN=±STEP or COLUMN=any")
    if comparisons is None and shape is None:
        raise LgnError("this net takes neither images nor rows of a table")
    answers = []
    for name, value in zip(samples.names, samples.values, strict=True):
        if comparisons is not None:
            row = np.asarray(value).reshape(1)
            region = row_region(comparisons, row, dict(_range(text, row) for text in arguments.range))
            what = f"row {name}"
        else:
            region = pixel_region(circuit, value, arguments.radius)
            what = f"{name}, each pixel ±{arguments.radius}"
        answer = decides_alike(circuit, region, arguments.timeout)
        changes = f"{len(region.choices)} {'columns' if comparisons is not None else 'pixels'} matter"
        said = f"{_decision(circuit, region.bits)} ({changes}; {answer.how})"
        print(f"{_WORDS[answer.holds]:<10} {what}: {said}", flush=True)
        if answer.found:
            _show(circuit, answer, region, arguments.counterexample)
        answers.append(answer.holds)
    return answers


def _independent(circuit: Circuit, arguments: argparse.Namespace) -> list[bool | None]:
    comparisons, column = circuit.comparisons, arguments.independent_of
    if comparisons is None:
        raise LgnError("--independent-of is for the columns of a table, and this net takes none")
    names = [own.name for own in comparisons.columns]
    if column not in names:
        raise LgnError(f"there is no column {column!r}; there are {', '.join(names)}")
    rows = random_rows(comparisons, _ROWS, np.random.default_rng(0)).view(comparisons.row_dtype)[:, 0]
    region = row_region(comparisons, rows[:1])
    bits = comparisons.encode(rows)
    answer = ignores_column(circuit, region, names.index(column), arguments.timeout, bits)
    print(f"{_WORDS[answer.holds]:<10} the decision does not depend on {column!r} ({answer.how})")
    if answer.found:
        _show(circuit, answer, region, arguments.counterexample)
    return [answer.holds]


def _range(text: str, row: NDArray[Any]) -> tuple[str, tuple[float, float] | None]:
    column, _, said = text.rpartition("=")
    if column not in (row.dtype.names or ()):
        raise LgnError(f"--range {text}: there is no column {column!r}; there are {', '.join(row.dtype.names or ())}")
    if said == "any":
        return column, None
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    if found := re.fullmatch(rf"(?:±|\+-)({number})", said):
        middle, step = float(row[column][0]), float(found[1])
        return column, (middle - step, middle + step)
    if found := re.fullmatch(rf"({number}):({number})", said):
        return column, (float(found[1]), float(found[2]))
    raise LgnError(f"--range {text}: give LOW:HIGH, ±STEP or any, as in age=20:60, age=±5 and sex=any")


def _decision(circuit: Circuit, bits: NDArray[np.bool_]) -> str:
    decided = circuit.decoding.decide(circuit.scores(bits[None]))[0]
    names = circuit.class_names
    if not circuit.decoding.is_class:
        on = np.flatnonzero(decided).tolist()
        return "labels " + (", ".join(str(names[c]) if names else str(c) for c in on) or "(none)")
    return f"class {names[int(decided)] if names else int(decided)}"


def _show(circuit: Circuit, answer: Answer, region: Region, path: Path) -> None:
    """Writes the image, or prints the rows, of other decisions."""
    comparisons = circuit.comparisons
    if comparisons is None:
        image = answer.found[0].reshape(circuit.image_shape).astype(np.uint8)
        changed = int((answer.found[0] != region.sample).sum())
        decision = _decision(circuit, encode(circuit, image[None])[0])
        if image.shape[0] in (1, 3):
            memory = io.BytesIO()
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(memory, "PNG")
            content = memory.getvalue()
        else:
            path, memory = path.with_suffix(".npy"), io.BytesIO()
            np.save(memory, image)
            content = memory.getvalue()
        atomic_write_bytes(path, content)
        print(f"           {path}: {changed} pixels differ, {decision}")
        return
    for sample in answer.found:
        row = row_of(comparisons, sample)
        shown = ", ".join(f"{c.name}={_value(c, v)}" for c, v in zip(comparisons.columns, sample, strict=True))
        print(f"           {shown}: {_decision(circuit, comparisons.encode(row)[0])}")


def _value(column: Any, value: Any) -> str:
    return "(missing)" if column.is_missing(np.asarray(value, column.dtype)) else column.show(value)
