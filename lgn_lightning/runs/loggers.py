"""Loggers of a run: all write into its folder, ``runs/<recipe>/version_N``, and continue when it is resumed."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from lgn_lightning.base.errors import RecipeError
from lgn_lightning.runs.run_logger import RunLogger
from lgn_lightning.runs.wandb_logger import RunWandbLogger


class RunTensorBoardLogger(TensorBoardLogger):
    """TensorBoard's event files in the run's folder."""

    def __init__(self, run: RunLogger) -> None:
        super().__init__(run.save_dir, name=run.name, version="")
        self._run = run

    @property
    def log_dir(self) -> str:
        return self._run.log_dir

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Logs settings as one plain value a key, which tables of TensorBoard can sort and filter."""
        super().log_hyperparams(plain_values(params), *args, **kwargs)


def plain_values(settings: Any, key: str = "") -> dict[str, bool | int | float | str]:
    """Flattens settings: ``model.net`` is the name of the class, ``model.net.width`` its argument; null is left out."""
    if hasattr(settings, "as_dict"):  # a Namespace of jsonargparse
        settings = settings.as_dict()
    if isinstance(settings, dict):
        name = settings.get("class_path")
        found: dict[str, bool | int | float | str] = {}
        if isinstance(name, str):
            found, settings = {key: name.rpartition(".")[2]}, settings.get("init_args") or {}
        for word, value in settings.items():
            if (key, word) != ("", "config"):  # the recipe's text, whose values these are
                found |= plain_values(value, f"{key}.{word}".lstrip("."))
        return found
    if isinstance(settings, (list, tuple)):
        parts = [plain_values(part, "it").get("it") for part in settings]
        return {key: ", ".join(str(part) for part in parts)}
    if settings is None:
        return {}
    return {key: settings if isinstance(settings, (bool, int, float, str)) else str(settings)}


_MAKERS: Final[dict[str, Callable[[RunLogger], Logger]]] = {
    "tensorboard": RunTensorBoardLogger,
    "wandb": RunWandbLogger,
}


def make_loggers(names: Sequence[str], run: RunLogger) -> list[Logger]:
    """The loggers of a run, each once, its own (``csv``) first; a RecipeError on an unknown or uninstalled one."""
    loggers: list[Logger] = [run]
    for name in dict.fromkeys(names):
        if name == "csv":
            continue
        if name not in _MAKERS:
            raise RecipeError(f"there is no logger {name!r}; take some of csv, {', '.join(_MAKERS)}")
        try:
            loggers.append(_MAKERS[name](run))
        except ModuleNotFoundError as error:
            raise RecipeError(f"logger {name} needs a package that is not installed: pip install {name}") from error
    return loggers


def split_names(names: str | Sequence[str]) -> list[str]:
    """``"csv,wandb"`` or a list of names, as a list."""
    return [n for n in re.split(r"[,\s]+", names) if n] if isinstance(names, str) else list(names)
