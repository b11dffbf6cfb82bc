"""The keys of a recipe with its overrides, and what the classes that it names take: read without torch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from lgn_lightning.base.settings_text import parse_yaml
from lgn_lightning.base.signatures import Argument, Signature, signature_of
from lgn_lightning.base.trust import DOTTED, SPEC

#: Keys of a recipe beside those of trainer, model, data and paper.
RUN_KEYS: Final = {
    "seed_everything": Argument("int | bool", "0", "Seed of weights, connections and order of the batches"),
    "logger": Argument(
        "str", "csv", "csv, tensorboard, wandb, or some of them with commas between; metrics.csv is always written"
    ),
    "run_name": Argument(
        "str | None", "None", "The run's folder below runs/<recipe>/, which must be new; version_N if null"
    ),
    "ckpt_path": Argument("str | None", "None", "Checkpoint to start from, with its optimizer and step"),
}
#: Classes that stand under a key of their own, without a class_path.
FIXED: Final = {
    "model": "lgn_lightning.training.module.LogicModule",
    "data": "",
    "trainer": "lightning.pytorch.trainer.Trainer",
    "paper": "lgn_lightning.runs.recipes.PaperResult",
}
#: Keys that Lightning's command line adds.
OTHER_KEYS: Final = ("config", "print_config", "weights_only", "verbose")
#: Packages where a class is looked for that is given by its name alone.
HOMES: Final = {
    "net": ("lgn_lightning.models",),
    "target": ("lgn_lightning.training.targets",),
    "loss": ("lgn_lightning.losses", "torch.nn"),
    "optimizer": ("torch.optim",),
    "lr_scheduler": ("torch.optim.lr_scheduler", "lightning.pytorch.cli"),
    "data": ("lgn_lightning.data",),
    "augment": ("lgn_lightning.data",),
    "callbacks": ("lgn_lightning.callbacks", "lightning.pytorch.callbacks"),
}


@dataclass(frozen=True)
class Node:
    """A class in the settings, and its arguments.

    Attributes:
        key: Where it stands, such as ``model.net``; all callbacks are ``trainer.callbacks``.
        path: The class.
        values: The arguments that are given.
        fixed: Whether the class is given by the key.
    """

    key: str
    path: str
    values: dict[str, Any]
    fixed: bool = False

    @property
    def signature(self) -> Signature | None:
        """What the class takes, without what Lightning passes to it; None if its source is not found."""
        found = signature_of(self.path)
        hidden = {"model.optimizer": "params", "model.lr_scheduler": "optimizer"}.get(self.key)
        if found is None or hidden is None:
            return found
        return Signature({k: v for k, v in found.arguments.items() if k != hidden}, found.takes_more)


def with_overrides(settings: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any] | None:
    """Applies ``--key value``, ``--key=value`` and ``--key+=value``.

    Returns:
        A copy; None if the arguments are of another kind, such as further files.
    """
    result = copy.deepcopy(settings)
    waiting = list(overrides)
    while waiting:
        option = waiting.pop(0)
        key, given, text = option.partition("=")
        words = key.removeprefix("--").removesuffix("+").split(".")
        if not key.startswith("--") or words[-1] == "help" or words[0] in OTHER_KEYS[:2]:
            return None
        if not given:
            if not waiting or waiting[0].startswith("--"):
                return None
            text = waiting.pop(0)
        try:
            value = parse_yaml(text)
        except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
            value = text
        _assign(result, words, value, key.endswith("+"))
    return result


def _assign(owner: dict[str, Any], words: list[str], value: Any, append: bool) -> None:
    name, *rest = words
    old = owner.get(name)
    if not rest:
        if append:
            before = old if isinstance(old, list) else [] if old is None else [old]
            owner[name] = [*before, _as_class(name, value, None)]
        else:
            owner[name] = _as_class(name, value, old)
        return
    child = old[-1] if isinstance(old, list) and old else old
    if child is None:
        child = {}
    if not isinstance(child, dict):
        return  # a key below a value: nothing to look at here
    if old is None:
        owner[name] = child
    if "class_path" in child and rest[0] not in SPEC:
        inside = child.get("init_args")
        child["init_args"] = child = inside if isinstance(inside, dict) else {}
    _assign(child, rest, value, append)


def _as_class(name: str, value: Any, old: Any) -> Any:
    """A value as it is, or the class that it names, with what the class before it had and it has, too."""
    if name == "class_path" or not isinstance(value, str):
        return value
    path = class_named(name, value)
    signature = None if path is None else signature_of(path)
    if path is None or signature is None:
        return value
    kept = old.get("init_args") if isinstance(old, dict) else None
    return {"class_path": path, "init_args": {k: v for k, v in (kept or {}).items() if k in signature.arguments}}


def class_named(name: str, value: str) -> str | None:
    """The path of the class that the value of a key names; None if it names none."""
    if DOTTED.fullmatch(value):
        return value
    candidates = (f"{home}.{value}" for home in HOMES.get(name, ()) if value.isidentifier())
    return next((path for path in candidates if signature_of(path) is not None), None)


def nodes_of(settings: dict[str, Any]) -> Iterator[Node]:
    """The classes in settings: of model, data, trainer, paper, each with those inside."""
    for key, path in FIXED.items():
        values = settings.get(key)
        if isinstance(values, dict):
            if path:
                yield Node(key, path, values, fixed=True)
            yield from _nodes(values, key)


def _nodes(value: Any, key: str) -> Iterator[Node]:
    if isinstance(value, list):
        for part in value:
            yield from _nodes(part, key)
    elif isinstance(value, dict):
        if isinstance(value.get("class_path"), str):
            path, inside = value["class_path"], value.get("init_args")
            value = inside if isinstance(inside, dict) else {}
            yield Node(key, class_named(key.rpartition(".")[2], path) or path, value)
        for name, part in value.items():
            yield from _nodes(part, f"{key}.{name}")
