"""The data module that a recipe or a checkpoint names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from lgn_lightning.base.errors import DataError, LgnError
from lgn_lightning.data.base import ImageDataModule


def data_module(settings: dict[str, Any], root: Path | None = None) -> ImageDataModule:
    """Makes the data module of a recipe; loads and downloads nothing.

    Args:
        settings: The recipe, or what a checkpoint keeps of it, as plain values; its key ``data`` is used.
        root: Data folder that replaces the recipe's.

    Raises:
        DataError: If the settings name no data set, or one that cannot be used here.
    """
    config = settings.get("data")
    if not config:
        raise DataError("the settings name no data set; those of `lgn fit` do")
    if root is not None:
        config = {**config, "init_args": {**(config.get("init_args") or {}), "root": str(root)}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    try:
        module: ImageDataModule = parser.instantiate(parser.parse_object({"data": config})).data
    except (ArgumentError, ImportError, LgnError) as error:
        raise DataError(f"the data module of the recipe cannot be used: {error}") from error
    return module
