"""What ``lgn validate`` and ``test`` measure: a checkpoint, with the net, loss and data of its settings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.base.public_names import public_names
from lgn_lightning.base.settings_text import parse_settings
from lgn_lightning.base.trust import trusted_settings
from lgn_lightning.runs.checkpoints import ChosenCheckpoint, chosen_checkpoint, read_checkpoint, run_folder


@dataclass(frozen=True)
class TrainedNet:
    """A net to measure: its checkpoint, the folder that results are left in, and the weights of its module.

    ``settings`` are net, loss and data that it was trained with, as YAML, and nothing else; None if ``lgn fit`` did not
    write it.
    """

    chosen: ChosenCheckpoint
    folder: Path
    settings: str | None
    weights: dict[str, Any]


def open_trained(target: Path, recipe_given: bool, given: Collection[str] = ()) -> TrainedNet:
    """Opens a run or a checkpoint, as `chosen_checkpoint` takes it, with the data arguments that the user gave.

    A CheckpointError if there is none, it cannot be read, nothing says what data it is for (nor a recipe that was
    given), or it names classes that are not trusted.
    """
    chosen = chosen_checkpoint(target)
    content = read_checkpoint(chosen.path)
    text, settings = content.get("lgn_recipe"), None
    if text is not None:
        recipe = parse_settings(public_names(text), f"the recipe in checkpoint {chosen.path}", CheckpointError)
        if "data" in recipe:  # else of a plain Trainer: the model alone
            settings = yaml.safe_dump(_measured(recipe, f"checkpoint {chosen.path}", given))
    if settings is None and not recipe_given:
        raise CheckpointError(
            f"checkpoint {chosen.path} was not written by `lgn fit` and does not say what data it is for: give the "
            f"recipe, as in `lgn test <recipe> --ckpt_path {chosen.path}`"
        )
    return TrainedNet(chosen, run_folder(chosen.path), settings, content["state_dict"])


def _measured(recipe: dict[str, Any], source: str, given: Collection[str]) -> dict[str, Any]:
    """What a net is measured with: nothing else that a checkpoint names is built."""
    # Lightning takes seconds to import: not before there is a checkpoint
    from lgn_lightning.data.base import SampleDataModule
    from lgn_lightning.training.checkpoint import NET_KINDS

    model = recipe.get("model")
    given_model = model if isinstance(model, dict) else {}
    kept = {name: given_model[name] for name in ("net", "num_classes", "loss", "target") if name in given_model}
    data = trusted_settings(recipe["data"], source, (SampleDataModule,), given=given)
    return {"model": trusted_settings(kept, source, NET_KINDS), "data": data}
