"""Nets that know how they were built, so that a checkpoint of any Trainer can say it."""

from inspect import signature
from typing import Any

from torch import nn

from lgn_lightning.base.public_names import public_names
from lgn_lightning.nn import logic_layers


class KnowsArguments:
    """Base of nets that remember the arguments they were built with; stands before the module it is mixed into."""

    #: Arguments of the constructor by name, lists and plain values; None if some are other objects.
    init_args: dict[str, Any] | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Notes the arguments; whether they fit, the constructor says."""
        net = super().__new__(cls)
        try:
            bound = signature(cls.__init__).bind(net, *args, **kwargs)
            bound.apply_defaults()
            init_args = {name: _plain(value) for name, value in list(bound.arguments.items())[1:]}
        except TypeError:
            init_args = None
        # Past torch.nn.Module, which cannot set attributes before its own constructor has run.
        object.__setattr__(net, "init_args", init_args)
        return net


def describe_net(net: nn.Module) -> dict[str, Any] | None:
    """How to build a net again, as recipes say it: ``class_path`` and ``init_args``.

    None if the net does not know its arguments, is of a class that cannot be imported by name, or was converted to
    another parametrization since.
    """
    init_args = getattr(net, "init_args", None)
    module, name = type(net).__module__, type(net).__qualname__
    if init_args is None or module == "__main__" or "<locals>" in name:
        return None
    layers = list(logic_layers(net).values())
    built_as = getattr(net, "parametrizations", [init_args.get("parametrization")] * len(layers))
    if [layer.parametrization.name for layer in layers] != built_as:
        return None
    return {"class_path": public_names(f"{module}.{name}"), "init_args": init_args}


def _plain(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    raise TypeError(f"{type(value).__name__} is no plain value")
