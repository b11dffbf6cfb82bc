"""Train differentiable logic gate networks and ship them as verified boolean circuits."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from lgn_lightning.circuit import Circuit, CompiledLogicNet
    from lgn_lightning.module import LogicClassifier

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
    "soft_gates",
]

# Imported on first use: Lightning takes seconds to import, which a script that only needs layers should not pay.
_LAZY = {
    "Circuit": "lgn_lightning.circuit",
    "CompiledLogicNet": "lgn_lightning.circuit",
    "LogicClassifier": "lgn_lightning.module",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
