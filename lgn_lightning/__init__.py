"""Train differentiable logic gate networks and ship them as verified boolean circuits."""

from typing import TYPE_CHECKING

from lgn_lightning.base.lazy import lazy_names

if TYPE_CHECKING:
    from lgn_lightning import nn as nn
    from lgn_lightning import ops as ops
    from lgn_lightning.circuit import Circuit, CompiledLogicNet
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
    from lgn_lightning.training.checkpoint import load_net
    from lgn_lightning.training.classifier import LogicClassifier, LogicRegressor
    from lgn_lightning.training.ddp import LogicDDPStrategy
    from lgn_lightning.training.module import LogicModule

__version__ = "0.2.0.dev0"

__all__ = [
    "Circuit",
    "CompiledLogicNet",
    "GroupSum",
    "LogicClassifier",
    "LogicDDPStrategy",
    "LogicLayer",
    "LogicModule",
    "LogicRegressor",
    "LogicTreeConv2d",
    "LutLayer",
    "OrPool2d",
    "PackBitsTensor",
    "Threshold",
    "load_difflogic_state_dict",
    "load_net",
    "soft_gates",
]

# torch and Lightning take seconds to import, which a script that runs a circuit, or only needs layers, should not pay.
__getattr__, __dir__ = lazy_names(
    __name__,
    dict.fromkeys(__all__, "nn")
    | {
        "nn": "",
        "ops": "",
        "Circuit": "circuit",
        "CompiledLogicNet": "circuit",
        "LogicClassifier": "training.classifier",
        "LogicDDPStrategy": "training.ddp",
        "LogicModule": "training.module",
        "LogicRegressor": "training.classifier",
        "load_net": "training.checkpoint",
    },
)
