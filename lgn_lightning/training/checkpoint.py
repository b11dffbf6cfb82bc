"""The net that a checkpoint holds, rebuilt from the recipe inside."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import register_type
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lgn_lightning.base.errors import CheckpointError, LgnError
from lgn_lightning.base.finite import nonsense_in
from lgn_lightning.base.public_names import public_names
from lgn_lightning.base.settings_text import parse_settings
from lgn_lightning.base.trust import trusted_settings, trusting
from lgn_lightning.circuit.net.decoding import Decoding
from lgn_lightning.models.arguments import describe_net
from lgn_lightning.nn.gate_order import gates_as_drawn
from lgn_lightning.nn.parametrizations import Parametrization
from lgn_lightning.nn.samplers import Sampler
from lgn_lightning.runs.checkpoints import chosen_checkpoint, read_checkpoint, run_folder

# A weight of each class, in recipes and on the command line.
register_type(
    torch.Tensor,
    serializer=lambda tensor: tensor.tolist(),
    deserializer=lambda numbers: torch.tensor(numbers, dtype=torch.float32),
    deserializer_exceptions=(ValueError, TypeError, RuntimeError),
)

#: What a net is built of.
NET_KINDS: Final = (nn.Module, Parametrization, Sampler)  # targets are modules, too
#: Where the optimizers and schedules of a recipe are.
_OPTIMIZERS: Final = ("torch.optim", "lightning.pytorch.cli")


def class_names(content: dict[str, Any]) -> list[str] | None:
    """The names of the classes, in order, that a checkpoint's training data had; None if it does not know them."""
    return content.get("lgn_class_names")


def decoding(content: dict[str, Any]) -> Decoding:
    """What the sums of a checkpoint's net say; checkpoints of release 0.1 are of one class of many."""
    try:
        return Decoding(**content.get("lgn_decoding") or {})
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"the checkpoint's decoding cannot be used: {error}") from error


def preparation(content: dict[str, Any]) -> str | None:
    """What made the images of a checkpoint's training data of files; None if it does not know, or nothing did."""
    return content.get("lgn_preparation")


def load_net(source: str | os.PathLike[str], trust_modules: Collection[str] = ()) -> nn.Module:
    """Rebuilds the trained net of a run or a checkpoint, of classes of this library, ``torch.nn`` and ``torchvision``.

    It is on the CPU and in ``.eval()`` mode, in which it is the net of gates that ships.

    Args:
        source: A checkpoint (``.ckpt``), the folder of a run, or ``runs/<recipe>``, of which the newest run is taken. A
            run stands for the checkpoint that validation chose, see `chosen_checkpoint`.
        trust_modules: Other packages whose code may run, because the net is built of their classes; like the
            environment variable ``LGN_TRUST_MODULES``, which names them with commas between.

    Raises:
        LgnError: If there is no checkpoint, it cannot be read, does not say how its net is built, or does not fit it.
    """
    with trusting(trust_modules):
        return open_net(source).net


@dataclass(frozen=True)
class LoadedNet:
    """A net, on the CPU and in ``.eval()`` mode, and the ``.ckpt`` file and content that it was read from.

    ``why`` says why it is this checkpoint of the run; it is empty if the file was named itself.
    """

    checkpoint: Path
    net: nn.Module
    content: dict[str, Any]
    why: str = ""

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe that the checkpoint keeps, see `recipe_of`."""
        return recipe_of(self.checkpoint, self.content)

    @property
    def step(self) -> int:
        """Optimizer steps that the net was trained for."""
        return self.content.get("global_step") or 0

    @property
    def folder(self) -> Path:
        return run_folder(self.checkpoint)

    @property
    def name(self) -> str:
        """Name of the run: the recipe's folder and the version."""
        return "/".join(self.folder.resolve().parts[-2:])


def open_net(source: str | os.PathLike[str]) -> LoadedNet:
    """Does what `load_net` does, and gives what else the checkpoint holds."""
    chosen = chosen_checkpoint(source)
    content = read_checkpoint(chosen.path)
    return LoadedNet(chosen.path, _rebuild_net(chosen.path, content), content, chosen.why)


def _rebuild_net(path: Path, content: dict[str, Any]) -> nn.Module:
    net = _fresh_net(path, content)
    weights = {k.removeprefix("net."): value for k, value in content["state_dict"].items() if k.startswith("net.")}
    load_weights(net, weights, path)
    if wrong := nonsense_in(net):
        name, value = next(iter(wrong.items()))
        raise CheckpointError(
            f"checkpoint {path} holds {value} in {name}: no gates can be made of it; take another one"
        )
    return net.eval()


def load_weights(module: nn.Module, weights: dict[str, Any], path: Path) -> None:
    """Loads the weights of a checkpoint; a CheckpointError if their names, shapes or values are none of the module."""
    own = module.state_dict()
    for name, value in weights.items():
        if isinstance(own.get(name), Tensor) and _kind(own[name]) != _kind(value):
            raise CheckpointError(f"checkpoint {path} does not fit the net of its recipe: {name} is {value.dtype}")
    try:
        module.load_state_dict(weights)
    except Exception as error:  # what modules raise that are given what they did not save
        raise CheckpointError(f"checkpoint {path} does not fit the net of its recipe: {error}") from error


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def recipe_of(path: str | os.PathLike[str], content: dict[str, Any]) -> dict[str, Any]:
    """The recipe that a checkpoint keeps: that of ``lgn fit``, or the model alone; without, a CheckpointError."""
    text = content.get("lgn_recipe")
    if not text:
        raise CheckpointError(
            f"checkpoint {path} does not say how its net is built: it was not written by `lgn fit`, and the net is "
            "none of lgn_lightning.models, or has arguments that are no plain values. In Python, "
            "module = LogicClassifier.load_from_checkpoint(path, net=…) fills a net that you build, and "
            "export_circuit(Circuit.from_module(module.net), folder, name) exports it"
        )
    recipe = parse_settings(public_names(text), f"the recipe in checkpoint {path}", CheckpointError)
    model = recipe.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("net"), dict):
        raise CheckpointError(f"the recipe in checkpoint {path} names no net")
    return recipe


def describe_module(net: nn.Module, arguments: dict[str, Any]) -> str | None:
    """The recipe of a checkpoint that ``lgn fit`` does not write; None if the net does not say how it was built."""
    described = describe_net(net)
    if described is None:
        return None
    try:
        return yaml.safe_dump({"model": {"net": described, **arguments}})
    except yaml.YAMLError:  # options of the optimizer that are no plain values
        return None


def module_arguments(cls: type[Any], path: str | os.PathLike[str], content: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a checkpoint's module was made with, built from its recipe; its net has fresh weights.

    The signature of ``cls``, the class of the module, says how they are read. A CheckpointError if the checkpoint keeps
    no recipe, or one that cannot be used here.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "model", instantiate=False)
    kinds = (*NET_KINDS, Optimizer, LRScheduler)
    values = {"model": recipe_of(path, content)["model"]}
    built = _build(parser, path, trusted_settings(values, f"checkpoint {path}", kinds, _OPTIMIZERS))
    return dict(vars(built.model))


def _fresh_net(path: Path, content: dict[str, Any]) -> nn.Module:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net")
    values = {"net": recipe_of(path, content)["model"]["net"]}
    return cast(nn.Module, _build(parser, path, trusted_settings(values, f"checkpoint {path}", NET_KINDS)).net)


def _build(parser: ArgumentParser, path: str | os.PathLike[str], values: dict[str, Any]) -> Any:
    try:
        parsed = parser.parse_object(values)
        with gates_as_drawn():  # the order is in the checkpoint
            return parser.instantiate(parsed)
    except LgnError:
        raise
    except Exception as error:  # what constructors raise that are given what nobody trained with
        raise CheckpointError(f"the recipe in checkpoint {path} cannot be used: {error}") from error
