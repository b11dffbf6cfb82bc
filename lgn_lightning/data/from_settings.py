"""The data module that a recipe or a checkpoint names."""

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from lgn_lightning.base.errors import DataError, raised_by, unwrapped
from lgn_lightning.base.trust import trusted_settings
from lgn_lightning.data.base import SampleDataModule


def data_module(settings: dict[str, Any], root: Path | None = None, source: object = None) -> SampleDataModule:
    """Makes the data module of a recipe, or of what a checkpoint keeps of it; loads and downloads nothing.

    Args:
        settings: Plain values; the key ``data`` is used.
        root: Data folder that replaces the recipe's.
        source: The file that holds the settings, if it is not the user's own recipe: only classes that are trusted are
            built then, and the data are looked for where the user says, see `lgn_lightning.base.trust`.

    Raises:
        DataError: If the settings name no data set, or one that cannot be used here.
        CheckpointError: If a file names a class that is not trusted.
    """
    config = settings.get("data")
    if not isinstance(config, dict):
        raise DataError("the settings name no data set; those of `lgn fit` do")
    if source is not None:
        config = trusted_settings(config, source, (SampleDataModule,), given=() if root is None else ("root",))
    if root is not None:
        config = {**config, "init_args": {**(config.get("init_args") or {}), "root": str(root)}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SampleDataModule, "data")
    try:
        module: SampleDataModule = parser.instantiate(parser.parse_object({"data": config})).data
    except Exception as error:  # what constructors raise that are given what nobody trained with
        cause = unwrapped(error)
        message = error if raised_by(cause) == "jsonargparse" else cause
        raise DataError(f"the data module of the recipe cannot be used: {message}") from error
    return module
