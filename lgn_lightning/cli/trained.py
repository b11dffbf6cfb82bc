"""What ``lgn validate``, ``test`` and ``predict`` measure: a checkpoint, with the settings it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.runs.folder import RUNS, find_checkpoint
from lgn_lightning.training.checkpoint import read_checkpoint


@dataclass(frozen=True)
class TrainedNet:
    """A net to measure.

    Attributes:
        checkpoint: Its file.
        folder: The run's folder, or that of a checkpoint which lies elsewhere: results are left there.
        settings: The settings that it was trained with, as YAML; None if ``lgn fit`` did not write the checkpoint.
    """

    checkpoint: Path
    folder: Path
    settings: str | None


def open_trained(target: Path, recipe_given: bool) -> TrainedNet:
    """Opens a run or a checkpoint.

    Args:
        target: A checkpoint, the folder of a run, or ``runs/<recipe>``, of which the newest run is taken. A run stands
            for its best checkpoint, or its last one if there is no best.
        recipe_given: Whether there is a recipe to go by where the checkpoint holds no settings.

    Raises:
        LgnError: If there is no checkpoint.
        CheckpointError: If it cannot be read, or nothing says what data it is for.
    """
    checkpoint = find_checkpoint(target) if target.is_dir() else target
    if not checkpoint.exists():
        raise CheckpointError(f"there is no run or checkpoint {target}; runs are in {RUNS}/<recipe>/")
    settings = read_checkpoint(checkpoint).get("lgn_recipe")
    if settings is not None and "data" not in yaml.safe_load(settings):
        settings = None  # of a plain Trainer: the model alone
    if settings is None and not recipe_given:
        raise CheckpointError(
            f"checkpoint {checkpoint} was not written by `lgn fit` and does not say what data it is for: give the "
            f"recipe, as in `lgn test <recipe> --ckpt_path {checkpoint}`"
        )
    folder = checkpoint.parent
    return TrainedNet(checkpoint, folder.parent if folder.name == "checkpoints" else folder, settings)
