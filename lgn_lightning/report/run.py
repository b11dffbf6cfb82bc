"""A run as found on disk: its folder, the checkpoint that validation chose, and its net."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lgn_lightning.runs.checkpoints import chosen_checkpoint, read_checkpoint, run_folder
from lgn_lightning.training.checkpoint import rebuild_net, recipe_of


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
        why: Why this checkpoint of the run; empty if it was named itself.
    """

    name: str
    folder: Path
    checkpoint: Path
    net: nn.Module
    recipe: dict[str, Any]
    step: int
    why: str = ""


def open_run(target: str | os.PathLike[str]) -> Run:
    """Opens a run.

    Args:
        target: A run folder that ``lgn fit`` left, or one of its checkpoints.

    Returns:
        The run, with the checkpoint that `chosen_checkpoint` gives.

    Raises:
        CheckpointError: If there is no checkpoint or it cannot be used.
    """
    chosen = chosen_checkpoint(target)
    checkpoint = chosen.path
    folder = run_folder(checkpoint)
    content = read_checkpoint(checkpoint)
    net, recipe = rebuild_net(checkpoint, content), recipe_of(checkpoint, content)
    step = int(content.get("global_step", 0))
    resolved = folder.resolve()
    return Run(f"{resolved.parent.name}/{resolved.name}", folder, checkpoint, net, recipe, step, chosen.why)
