"""Checkpoints: read safely, and turned back into the net they hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lgn_lightning.errors import CheckpointError


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a Lightning checkpoint, tensors and plain values only (``weights_only=True``).

    Args:
        path: The ``.ckpt`` file.

    Returns:
        Its content, on the CPU.

    Raises:
        CheckpointError: If it is not there, damaged, or holds anything but data.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"there is no checkpoint {file}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what zipfile, pickle or its own reader raise
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"checkpoint {file} cannot be read: it is truncated, damaged or no checkpoint ({reason}); "
            "take another one from its folder"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{file} is no checkpoint of a training run: it has no state_dict")
    return content


def class_names(content: dict[str, Any]) -> list[str] | None:
    """The names of the classes, in order, that a checkpoint's training data had; None if it does not know them."""
    return content.get("lgn_class_names")


def preparation(content: dict[str, Any]) -> str | None:
    """What made the images of a checkpoint's training data of files; None if it does not know, or nothing did."""
    return content.get("lgn_preparation")


def load_net(path: str | os.PathLike[str], content: dict[str, Any] | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuilds the net of a checkpoint that ``lgn fit`` wrote, from the recipe kept inside it.

    Args:
        path: The ``.ckpt`` file.
        content: What :func:`read_checkpoint` gave of it, if it was read already.

    Returns:
        The net in ``.eval()`` mode, and the recipe as a plain dict.

    Raises:
        CheckpointError: If the checkpoint cannot be read, names no recipe, or does not fit its recipe's net.
    """
    import yaml

    from lgn_lightning.module import LogicClassifier
    from lgn_lightning.nn.gate_order import gates_as_drawn

    content = read_checkpoint(path) if content is None else content
    recipe_text = content.get("lgn_recipe")
    if not recipe_text:
        raise CheckpointError(
            f"checkpoint {path} was not written by `lgn fit` and does not say how its net is built; in Python, build "
            "the net, load the state dict and use Circuit.from_module(net)"
        )
    recipe: dict[str, Any] = yaml.safe_load(recipe_text)
    with gates_as_drawn():  # the order is in the checkpoint
        module = build_module(recipe)
    if not isinstance(module, LogicClassifier):
        raise CheckpointError(f"checkpoint {path} holds a {type(module).__name__}, not a LogicClassifier")
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint {path} does not fit the net of its recipe: {error}") from error
    return module.net.eval(), recipe


def build_module(recipe: dict[str, Any]) -> nn.Module:
    """Builds the LogicClassifier of a recipe, with fresh weights."""
    from jsonargparse import ArgumentParser

    from lgn_lightning.module import LogicClassifier

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(LogicClassifier, "model")
    return parser.instantiate(parser.parse_object({"model": recipe["model"]})).model  # type: ignore[no-any-return]
