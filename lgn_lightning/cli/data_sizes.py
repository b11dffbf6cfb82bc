"""What a recipe leaves to its data, sizes and thresholds: it is looked up before net and module are built."""

from __future__ import annotations

from typing import Any, Final

from lgn_lightning.base.errors import RecipeError
from lgn_lightning.data.base import SampleDataModule
from lgn_lightning.data.from_settings import data_module
from lgn_lightning.data.images import ImageDataModule
from lgn_lightning.data.levels import choose_levels
from lgn_lightning.training.targets import TARGETS, num_scores_of

#: Arguments of nets, which are attributes of data modules.
_SIZES: Final = ("num_bits", "num_classes")


def fill_in_sizes(config: Any) -> SampleDataModule | None:
    """Fills the sizes of a net that are null, with them the module's target and classes, and thresholds that are auto.

    Args:
        config: The parsed settings of a command, with ``model`` and ``data``; changed in place, so that the run keeps
            what was filled in.

    Returns:
        The data module that was read for it, or because the training's length depends on it; None if nothing does.

    Raises:
        DataError: If the data cannot be read.
        RecipeError: If they are no images and thresholds are to be found.
    """
    arguments = (config.model.get("net") or {}).get("init_args") or {}
    unknown = [name for name in _SIZES if name in arguments and arguments[name] is None]
    finds_levels = arguments.get("thresholds") == "auto"
    has_most_passes = (config.data.get("init_args") or {}).get("most_passes") is not None
    if not (unknown or finds_levels or has_most_passes):
        return None
    data = data_module({"data": config.data.as_dict()})
    data.prepare_data()
    data.setup("fit")
    if finds_levels:
        if not isinstance(data, ImageDataModule) or data.training_labels().ndim != 1:
            raise RecipeError(
                f"model.net.thresholds=auto looks at images of one class each, not at {type(data).__name__}"
            )
        arguments["thresholds"] = choose_levels(*data.training_samples()).thresholds
    if not unknown:
        return data
    if config.model.get("target", "") is None:
        config.model.target = {"class": "classes"}.get(word := getattr(data, "task", "class"), word)
    sizes = {name: getattr(data, name, None) for name in _SIZES}
    if isinstance(sizes["num_classes"], int):  # of one output for yes or no, and for levels
        word = _target_word(config.model.get("target", "classes"))
        sizes["num_classes"] = num_scores_of(word, sizes["num_classes"])
    for name in unknown:
        arguments[name] = sizes[name]
    if config.model.get("num_classes", 0) is None:
        config.model.num_classes = data.num_classes
    return data


def _target_word(target: Any) -> str:
    """The word of a target of the settings."""
    if isinstance(target, str):
        return target
    name = str(target.get("class_path", "")).rpartition(".")[2]
    return next((word for word, kind in TARGETS.items() if kind.__name__ == name), "classes")
