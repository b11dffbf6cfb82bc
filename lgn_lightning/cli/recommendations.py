"""What `lgn recommend` chooses, and why: rules for images, tables and sequences, after our tuned recipes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from lgn_lightning.base.errors import RecipeError
from lgn_lightning.base.padding import PADDING
from lgn_lightning.data.base import SampleDataModule
from lgn_lightning.data.from_settings import data_module
from lgn_lightning.data.image_file import read_image
from lgn_lightning.data.images import ImageDataModule
from lgn_lightning.data.known import data_root
from lgn_lightning.data.levels import COUNTS, choose_levels
from lgn_lightning.data.sequences import Sequences
from lgn_lightning.data.table import Table
from lgn_lightning.data.thresholds import Encoding
from lgn_lightning.models.sizes import bits_per_value

#: Share of the samples that validates: of sequences, which are few, more; of tables, whose last net counts, less.
_VALIDATION: Final = {"Sequences": 0.2, "Table": 0.05}
_VALIDATION_ELSE: Final = 0.15
#: Gates of dense nets on images, by the number of images that train: where our recipes were tuned.
_LEAST_GATES, _MOST_GATES = 8_000, 48_000
#: Layers of dense nets: two wide ones were better than four of half the width, with 48,000 and 64,000 gates, too.
_DEPTH: Final = 2
#: Up to so many gates dense nets refresh their candidates.
_SMALL: Final = 16_000
#: Up to so many gates dense nets have 16 candidates, which gained 0.3 points with 48,000; then 8, as steps take long.
_MANY_CANDIDATES: Final = 64_000
#: Thresholds, and pixels a side, from which nets read edges: clothes and photographs gained by them, strokes did not.
_EDGE_THRESHOLDS, _EDGE_PIXELS = 7, 16
#: Bits for each input of a gate of the first layer, at most, to add edges.
_CROWDED: Final = 2
#: Samples a step: of sequences, which are few, less.
_BATCH: Final = {"Sequences": 64}
_BATCH_ELSE: Final = 128
#: Passes over the samples, as far as least and most steps allow.
_EPOCHS: Final = 50
#: Images of a folder whose sizes and colours are looked at.
_LOOKED_AT: Final = 200


def recommend(settings: dict[str, Any], gates: int | None = None, net: str | None = None) -> dict[str, Any]:
    """Looks at the samples that train.

    Args:
        settings: Class and arguments of the data module; those that are missing are chosen.
        gates: Of the net; None to choose them.
        net: ``"dense"`` or ``"tree"``, of images; None to choose.

    Returns:
        Values of the template ``recommend.yaml.j2``.

    Raises:
        DataError: If the data cannot be read.
        RecipeError: If there are no rules for them.
    """
    name = settings["class_path"].rpartition(".")[2]
    given = settings["init_args"]
    arguments, reasons = dict(given), {"val_fraction": "share that chooses the checkpoint"}
    if name == "ImageFolder":
        _choose_size(arguments, reasons)
    if name == "Table":
        reasons["val_fraction"] = "share to watch by: the last net counts, whatever its score"
    if not (name == "ImageFolder" and (data_root(arguments.get("root")) / "val").is_dir()):
        arguments.setdefault("val_fraction", _VALIDATION.get(name, _VALIDATION_ELSE))
    arguments.setdefault("batch_size", _BATCH.get(name, _BATCH_ELSE))
    settings = {"class_path": settings["class_path"], "init_args": arguments}
    data = _read(settings)
    if isinstance(data, ImageDataModule):
        chosen = _images(data, gates, net)
    elif isinstance(data, Table):
        chosen = _table(data, gates)
    elif isinstance(data, Sequences):
        chosen = _sequences(data, gates)
    else:
        raise RecipeError(f"there are no rules for {type(data).__name__}: `lgn ls` lists recipes to start from")
    reasons |= chosen["reasons"]
    chosen["reasons"] = {key: why for key, why in reasons.items() if key not in given}
    chosen["data"] = settings | {"init_args": arguments | chosen["data"] | given}
    place = arguments.get("path") or (name == "ImageFolder" and arguments.get("root"))
    return {"has_test": data.has_test, "name": Path(place).resolve().name if place else name, **chosen}


def _read(settings: dict[str, Any]) -> SampleDataModule:
    data = data_module({"data": settings})
    data.prepare_data()
    data.setup("fit")
    return data


def _rounded(value: float, unit: int) -> int:
    return max(unit, round(value / unit) * unit)


def _steps(samples: int, batch: int, least: int, most: int, epochs: int = _EPOCHS) -> tuple[int, str]:
    steps = min(most, max(least, _rounded(epochs * samples / batch, 100)))
    passes = steps * batch / samples
    return steps, f"optimizer steps: {passes:,.0f} passes over {samples:,} samples"


def _schedule(steps: int, why: str) -> dict[str, Any]:
    return {"steps": steps, "steps_why": why, "validate_every": max(1, steps // 20), "log_every": max(1, steps // 200)}


# Images.


def _choose_size(arguments: dict[str, Any], reasons: dict[str, str]) -> None:
    """Adds size and colours of the images in a folder, where they have to be chosen."""
    folder = data_root(arguments.get("root")) / "train"
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    if not paths:
        return  # the data module says so
    step = max(1, len(paths) // _LOOKED_AT)
    sizes, grey = [], True
    for path in paths[::step]:
        try:
            with Image.open(path) as file:
                sizes.append((file.height, file.width))
        except OSError:
            continue  # the data module names it
        if grey:
            pixels = read_image(path)
            grey = bool((pixels == pixels[:1]).all())
    if grey and arguments.setdefault("grayscale", True):
        reasons["grayscale"] = "the three channels are equal"
    height, width = (int(np.median([size[axis] for size in sizes])) for axis in (0, 1))
    largest = 32 if not grey else 48
    different = len(set(sizes))
    if "image_size" not in arguments and (different > 1 or max(height, width) > 2 * largest):
        scale = min(1.0, largest / max(height, width))
        arguments["image_size"] = [max(8, round(side * scale / 4) * 4) for side in (height, width)]
        found = f"{different} sizes" if different > 1 else f"{height} × {width} pixels"
        reasons["image_size"] = f"height and width; the images have {found}, and every pixel costs bits"


def _images(data: ImageDataModule, gates: int | None, net: str | None) -> dict[str, Any]:
    images, labels = data.training_samples()
    if labels.ndim != 1:
        raise RecipeError(f"there are no rules for {type(data).__name__}, whose images have more than one label")
    count, shape, classes = len(images), data.image_shape, data.num_classes
    levels = choose_levels(images, labels)
    largest = np.bincount(labels.numpy(), minlength=classes).max()
    varies = float((images.amax(0) != images.amin(0)).float().mean())
    facts = [
        f"{count:,} images train, {shape[0]} channel{'s' * (shape[0] > 1)} of {shape[1]} × {shape[2]} pixels, "
        f"{classes} classes, {largest / count:.0%} in the largest",
        f"{levels.found} grey levels; {1 - varies:.0%} of the pixels never change",
        "thresholds a pixel: bits of their code, and what it says of the class (share of the most)",
        *(
            f"  {n:>2}: {levels.entropy[n]:.2f} bits, {levels.information[n]:.3f} of the class ({levels.share(n):.0%})"
            for n in COUNTS
        ),
    ]
    tree = net == "tree" or (net is None and shape[0] > 1 and min(shape[1:]) >= 24 and count >= 5_000)
    chosen = len(levels.chosen)
    common = {
        "facts": facts,
        "classes": classes,
        "shape": list(shape),
        "thresholds_why": f"{chosen} here, at quantiles of the pixels: they keep {levels.share(chosen):.0%} of what "
        "single pixels say of the class"
        if levels.found > 2
        else "one here: the images have two levels",
        "augments": True,
        "small_validation": count < 10_000,
        "constant_pixels": varies < 0.95,
    }
    batch = min(data.batch_size, count)
    common |= {"data": {"batch_size": batch}, "reasons": {"batch_size": "images a step"}}
    build = _tree if tree else _dense
    found: dict[str, Any] = common | build(shape, classes, chosen, gates, count, batch)
    if (fewer := found["fewer_thresholds"]) is not None:
        found["levels"] = choose_levels(images, labels, fewer).thresholds
        found["thresholds_why"] = (
            f"quantiles of the pixels; `auto` finds {chosen}, which want --gates {chosen * math.prod(shape):,} or more"
        )
    return found


def _dense(
    shape: tuple[int, ...], classes: int, thresholds: int, gates: int | None, count: int, batch: int
) -> dict[str, Any]:
    asked = gates is not None
    gates = gates or min(_MOST_GATES, max(_LEAST_GATES, _rounded(count, 1000)))
    width = _rounded(gates / _DEPTH, classes)
    pixels = math.prod(shape)
    if 2 * width < pixels:
        raise RecipeError(
            f"{pixels:,} pixels want a first layer of {-(-pixels // 2):,} gates: give more --gates, or smaller images "
            "(image_size of an ImageFolder)"
        )
    fitting = min(thresholds, 2 * width // pixels)
    edges = _edges(shape, fitting)
    if bits_per_value(fitting, edges) * pixels > _CROWDED * 2 * width:
        edges = None
    steps, why = _steps(count, batch, 2_000, 20_000)
    candidates = 16 if gates <= _MANY_CANDIDATES else 8
    size = (
        f"{gates:,} were asked for"
        if asked
        else f"about a gate an image that trains, {_LEAST_GATES:,} to {_MOST_GATES:,}"
    )
    return {
        "kind": "dense",
        "width": width,
        "width_why": f"gates a layer: {_DEPTH} layers; {size}",
        "depth": _DEPTH,
        "depth_why": "logic layers: few and wide",
        "candidates": candidates,
        "edges": edges,
        "radius": [2, 4] if edges is None and min(shape[1:]) >= _EDGE_PIXELS else None,  # strokes gain, clothes do not
        "fewer_thresholds": fitting if fitting < thresholds else None,
        "refresh": max(1, steps // 20) if gates <= _SMALL else None,
        **_schedule(steps, why),
    }


def _tree(
    shape: tuple[int, ...], classes: int, thresholds: int, gates: int | None, count: int, batch: int
) -> dict[str, Any]:
    blocks = min(4, int(math.log2(min(shape[1:]))) - 1)
    if blocks < 1:
        raise RecipeError(f"images of {shape[1]} × {shape[2]} pixels are too small for convolutions: use --net dense")
    k = 32
    if gates is not None:
        raise RecipeError("--gates are those of dense nets; of trees choose `channels` in the recipe")
    growth = (1, 4, 16, 32)
    dense = [_rounded(part * k, classes) for part in (1280, 640, 320)]
    steps, why = _steps(count, batch, 4_000, 16_000)
    return {
        "kind": "tree",
        "channels": [k * growth[block] for block in range(blocks)],
        "dense": dense,
        "candidates": 16,
        "edges": _edges(shape, thresholds),
        "fewer_thresholds": None,
        "refresh": None,
        **_schedule(steps, why),
    }


def _edges(shape: tuple[int, ...], thresholds: int) -> list[int] | None:
    return [0] if thresholds >= _EDGE_THRESHOLDS and min(shape[1:]) >= _EDGE_PIXELS else None


# Tables and sequences.


def _table(data: Table, gates: int | None) -> dict[str, Any]:
    rows, number = data.training_rows, data.task == "number"
    facts = [
        f"{len(rows):,} rows train, {len(data.columns)} columns: "
        + ", ".join(
            f"{sum(c.kind == kind for c in data.columns)} {kind}" for kind in sorted({c.kind for c in data.columns})
        ),
        f"predicted: {', '.join(data.target)}, "
        + (f"{data.num_classes} classes" if data.task == "class" else f"{data.task} ({', '.join(data.class_names)})"),
        "thresholds a column: bits of a row, and their entropy, mean over bits",
    ]
    for count in (4, 8, 16, 32, 64):
        comparisons = Encoding(count).fit(data.columns, rows)
        share = np.clip(comparisons.encode(rows).mean(0), 1e-9, 1 - 1e-9)
        bits = float(-(share * np.log2(share) + (1 - share) * np.log2(1 - share)).mean())
        facts.append(f"  {count:>2}: {len(comparisons):,} bits, {bits:.2f}")
    steps, why = _steps(len(rows), data.batch_size, 200, 6_000, epochs=100)
    gates = gates or 18_000
    return {
        "kind": "table",
        "facts": facts,
        "classes": None,
        "width": _rounded(gates / 3, 1),
        "width_why": "gates a layer: 18,000 serve tables of 100 to 100,000 rows"
        if gates == 18_000
        else "gates a layer",
        "depth": 3,
        "depth_why": "logic layers",
        "candidates": 8,
        "reasons": {
            "thresholds": "most bits a column of numbers, between equally many training rows each"
            + (": numbers to predict want fine steps" if number else ""),
            "batch_size": "rows a step",
        },
        "data": {"thresholds": 64 if number else 32},
        "learned": ["learned", "learned", "random"] if number else "learned",
        "refresh": None,
        "augments": False,
        "constant_pixels": False,
        "small_validation": False,
        **_schedule(steps, why),
    }


def _sequences(data: Sequences, gates: int | None) -> dict[str, Any]:
    samples, _ = data.training_samples()
    lengths = (samples != PADDING).any(2).sum(1).numpy()
    classes, count = data.num_classes, len(samples)
    out = _rounded((gates or 40 * classes * 3) / 3, classes)
    steps = 600 if count < 1_000 else 2_000
    batch = min(data.batch_size, count)
    return {
        "kind": "sequences",
        "facts": [
            f"{count:,} sequences train, {int(lengths.min())} to {int(lengths.max())} steps of {len(data.columns)} "
            f"channels, {classes} classes",
            f"{data.num_bits} bits a step, by {data.encoding.thresholds} thresholds a channel",
        ],
        "classes": None,
        "state": max(16, out // 4),
        "width": 2 * out,
        "out": out,
        "longest": int(lengths.max()),
        "reasons": {
            "thresholds": "most thresholds a channel, between equally many training steps each",
            "batch_size": "sequences a step",
        },
        "data": {"thresholds": 16, "batch_size": batch},
        "refresh": None,
        "augments": False,
        "constant_pixels": False,
        "small_validation": True,
        **_schedule(steps, f"optimizer steps: {steps * batch / count:,.0f} passes over {count:,} sequences"),
    }
