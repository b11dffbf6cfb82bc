"""Train differentiable logic gate networks and ship them as verified boolean circuits."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lgn_lightning import nn as nn
    from lgn_lightning import ops as ops
    from lgn_lightning.checkpoint import load_net
    from lgn_lightning.circuit import Circuit, CompiledLogicNet
    from lgn_lightning.module import LogicClassifier
    from lgn_lightning.nn import (
        GroupSum,
        LogicLayer,
        LogicTreeConv2d,
        LutLayer,
        OrPool2d,
        PackBitsTensor,
        Threshold,
        load_difflogic_state_dict,
        soft_gates,
    )

__version__ = "0.1.0"

__all__ = [
    "Circuit",
    "CompiledLogicNet",
    "GroupSum",
    "LogicClassifier",
    "LogicLayer",
    "LogicTreeConv2d",
    "LutLayer",
    "OrPool2d",
    "PackBitsTensor",
    "Threshold",
    "load_difflogic_state_dict",
    "load_net",
    "soft_gates",
]

# Imported on first use (PEP 562): torch and Lightning take seconds to import, which a script that runs a circuit, or
# one that only needs layers, should not pay.
_HOMES = {  # the others: nn
    "Circuit": "circuit",
    "CompiledLogicNet": "circuit",
    "LogicClassifier": "module",
    "load_net": "checkpoint",
}
_PACKAGES = ("nn", "ops")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'nn')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *__all__})
