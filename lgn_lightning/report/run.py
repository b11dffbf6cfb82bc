"""Finds a run on disk: its folder, the checkpoint that validation chose, the net and the test images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lgn_lightning.base.errors import CheckpointError, DataError
from lgn_lightning.data.from_settings import data_module
from lgn_lightning.training.checkpoint import read_checkpoint, rebuild_net, recipe_of


@dataclass(frozen=True)
class Run:
    """A run as found on disk.

    Attributes:
        name: Name of the recipe's folder and the version, or of the checkpoint's folder.
        folder: Where the metrics are.
        checkpoint: The checkpoint that the report is about.
        net: Its net, in ``.eval()`` mode.
        recipe: The recipe inside the checkpoint.
        step: Optimizer steps that the net was trained for.
    """

    name: str
    folder: Path
    checkpoint: Path
    net: nn.Module
    recipe: dict[str, Any]
    step: int


@dataclass(frozen=True)
class TestSplit:
    """The test images of a run.

    Attributes:
        images: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]``.
        class_names: Name of each class.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: list[str]


def open_run(target: str | os.PathLike[str]) -> Run:
    """Opens a run.

    Args:
        target: A run folder that ``lgn fit`` left, or one of its checkpoints.

    Returns:
        The run. Of a folder, the checkpoint that validation chose, else the newest.

    Raises:
        CheckpointError: If there is no checkpoint or it cannot be used.
    """
    path = Path(target)
    if not path.exists():
        raise CheckpointError(f"there is no run folder or checkpoint {path}; `lgn fit <recipe>` leaves one in runs/")
    checkpoint = path if path.is_file() else _chosen_checkpoint(path)
    folder = checkpoint.parent
    if folder.name == "checkpoints":
        folder = folder.parent
    content = read_checkpoint(checkpoint)
    net, recipe = rebuild_net(checkpoint, content), recipe_of(checkpoint, content)
    step = int(content.get("global_step", 0))
    resolved = folder.resolve()
    return Run(f"{resolved.parent.name}/{resolved.name}", folder, checkpoint, net, recipe, step)


def _chosen_checkpoint(folder: Path) -> Path:
    found = sorted(
        [*folder.glob("*.ckpt"), *folder.glob("checkpoints/*.ckpt")],
        key=lambda file: file.stat().st_mtime,
        reverse=True,
    )
    if not found:
        raise CheckpointError(
            f"{folder} holds no checkpoint (*.ckpt, checkpoints/*.ckpt): give a run folder that `lgn fit` left, "
            "such as runs/digits/version_0, or a checkpoint"
        )
    by_name = {file.name: file for file in found}
    for file in found:
        state = read_checkpoint(file).get("callbacks", {})
        best = [value.get("best_model_path") for value in state.values() if isinstance(value, dict)]
        # Only the name: the folder may have been moved since.
        name = next((Path(path).name for path in best if path), None)
        if name in by_name:
            return by_name[name]
    return found[0]


def load_test_split(recipe: dict[str, Any], root: Path | None = None) -> TestSplit:
    """Loads the test images of a recipe; downloads nothing.

    Args:
        recipe: The recipe as a plain dict.
        root: Data folder that replaces the recipe's.

    Returns:
        Images, labels and class names.

    Raises:
        DataError: If the recipe names no data or they are not there.
    """
    data = data_module(recipe, root)
    try:
        images, labels = data.test_images()
    except OSError as error:
        raise DataError(f"the test images cannot be read: {error}") from error
    return TestSplit(images.numpy(), labels.numpy(), list(data.class_names))
