"""What ``lgn validate`` and ``test`` measure: a checkpoint, with the settings it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.runs.checkpoints import ChosenCheckpoint, chosen_checkpoint, read_checkpoint, run_folder


@dataclass(frozen=True)
class TrainedNet:
    """A net to measure.

    Attributes:
        chosen: Its checkpoint.
        folder: The run's folder, or that of a checkpoint which lies elsewhere: results are left there.
        settings: The settings that it was trained with, as YAML; None if ``lgn fit`` did not write the checkpoint.
    """

    chosen: ChosenCheckpoint
    folder: Path
    settings: str | None


def open_trained(target: Path, recipe_given: bool) -> TrainedNet:
    """Opens a run or a checkpoint.

    Args:
        target: What `chosen_checkpoint` takes.
        recipe_given: Whether there is a recipe to go by where the checkpoint holds no settings.

    Raises:
        CheckpointError: If there is no checkpoint, it cannot be read, or nothing says what data it is for.
    """
    chosen = chosen_checkpoint(target)
    settings = read_checkpoint(chosen.path).get("lgn_recipe")
    if settings is not None and "data" not in yaml.safe_load(settings):
        settings = None  # of a plain Trainer: the model alone
    if settings is None and not recipe_given:
        raise CheckpointError(
            f"checkpoint {chosen.path} was not written by `lgn fit` and does not say what data it is for: give the "
            f"recipe, as in `lgn test <recipe> --ckpt_path {chosen.path}`"
        )
    return TrainedNet(chosen, run_folder(chosen.path), settings)
