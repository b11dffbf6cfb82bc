"""``lgn predict <circuit>``: classes of images, by the engine alone."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.circuit import Circuit, Engine, LoopedCircuit, load_circuit
from lgn_lightning.circuit.file import SUFFIX
from lgn_lightning.circuit.run.engine import ENGINES

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.description = (
        "Classes of images by a circuit file, as CSV. Images are resized if those of the training were; "
        "otherwise they must have the size that the net was trained on."
    )
    parser.add_argument(
        "circuit", type=Path, help=f"circuit file (*{SUFFIX}), which lgn export --format circuit writes"
    )
    parser.add_argument("inputs", nargs="*", type=Path, help="images, folders of images, or one .npy array")
    parser.add_argument("--data", metavar="RECIPE", help="predict the test split of this recipe's data set instead")
    parser.add_argument("--out", type=Path, help="CSV file to write (default: standard output)")
    parser.add_argument("--scores", action="store_true", help="add the score of every class")
    parser.add_argument("--engine", default="auto", choices=("auto", *ENGINES))
    parser.add_argument("--threads", type=int, default=1)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.circuit.suffix != SUFFIX:
        from lgn_lightning.cli import training_cli
        from lgn_lightning.cli.trained import open_trained

        training_cli.run("predict", arguments.circuit, [], trained=open_trained(arguments.circuit, False))
        return 0
    if not arguments.circuit.is_file():
        raise LgnError(f"there is no circuit file {arguments.circuit}; lgn export --format circuit writes one")
    circuit = load_circuit(arguments.circuit)
    if bool(arguments.inputs) == bool(arguments.data):
        raise LgnError("give what to predict: images, folders of images or an .npy array, or else --data <recipe>")
    names, x = read_recipe_data(arguments.data) if arguments.data else read_inputs(circuit, arguments.inputs)
    engine = Engine(circuit, arguments.engine, threads=arguments.threads)
    scores, classes = engine.scores_and_classes(x)
    text = _table(circuit, names, scores if arguments.scores else None, classes)
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        atomic_write_text(arguments.out, text)
        print(f"{len(classes)} predictions written to {arguments.out}")
    return 0


def read_inputs(circuit: Circuit | LoopedCircuit, paths: Sequence[Path]) -> tuple[list[str], NDArray[Any]]:
    """Reads one ``.npy`` array, or images.

    Returns:
        A name a sample, and the samples as `Circuit.scores` takes them.

    Raises:
        LgnError: If a file is missing or of no use; the message names it.
    """
    if any(path.suffix == ".npy" for path in paths):
        if len(paths) > 1:
            raise LgnError("give one .npy array alone, or images")
        array = _read_array(paths[0])
        return [str(index) for index in range(len(array))], array
    return _read_images(circuit, paths)


def _read_array(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LgnError(f"{path} cannot be read as a numpy array ({error}); write it with numpy.save") from error
    if array.ndim < 2:
        raise LgnError(f"{path} holds an array of shape {list(array.shape)}; the first axis must be the samples")
    return np.asarray(array)


def _read_images(circuit: Circuit | LoopedCircuit, paths: Sequence[Path]) -> tuple[list[str], NDArray[np.uint8]]:
    if circuit.image_shape is None:
        raise LgnError(
            f"this circuit has no thresholds for pixels: it takes {circuit.num_inputs} bits a sample; "
            "give them as a .npy array of bools"
        )
    channels = circuit.image_shape[0]
    if channels not in (1, 3):
        raise LgnError(f"this circuit takes images of {channels} channels; give them as a .npy array of uint8")
    images: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
            if not found:
                raise LgnError(f"there are no images in {path} ({', '.join(IMAGE_SUFFIXES)})")
            images += found
        elif path.is_file():
            images.append(path)
        else:
            raise LgnError(f"there is no image or folder {path}")
    from lgn_lightning.data.image_file import prepare_image

    pixels = np.empty((len(images), *circuit.image_shape), np.uint8)
    for index, file in enumerate(images):
        pixels[index] = prepare_image(file, circuit.image_shape, circuit.preparation)
    return [str(file) for file in images], pixels


def read_recipe_data(name: str) -> tuple[list[str], NDArray[np.uint8]]:
    """The test images of a recipe's data set.

    Raises:
        LgnError: If there is no such recipe, or its data are missing.
    """
    import yaml

    from lgn_lightning.data.from_settings import data_module  # torch takes a second to import
    from lgn_lightning.runs.recipes import find_recipe

    data = data_module(yaml.safe_load(find_recipe(name).read_text(encoding="utf-8")))
    data.prepare_data()
    images = data.test_images().images.numpy()
    return [str(index) for index in range(len(images))], images


def _table(
    circuit: Circuit | LoopedCircuit, names: list[str], scores: NDArray[np.int32] | None, classes: NDArray[np.int32]
) -> str:
    labels = circuit.class_names or tuple(str(index) for index in range(circuit.num_classes))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["input", "class", "name"] + ([] if scores is None else [f"score_{label}" for label in labels]))
    for index, (name, winner) in enumerate(zip(names, classes.tolist(), strict=True)):
        writer.writerow([name, winner, labels[winner]] + ([] if scores is None else scores[index].tolist()))
    return text.getvalue()
