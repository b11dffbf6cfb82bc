"""Walks a net and lets each module write its own gates."""

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from torch import nn

from lgn_lightning.base.finite import nonsense_in
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import CircuitError, NodeIds

T = TypeVar("T")

#: Modules that compute nothing in eval mode.
TRANSPARENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def walk_module(net: nn.Module, builder: NetlistBuilder, finish: Callable[[NodeIds], T]) -> T:
    """Lets each module write into a builder, and finishes with its outputs; a CircuitError names path and type."""
    path = type(net).__name__
    wires = _walk(net, path, builder, np.zeros(0, np.int32))
    try:
        return finish(wires)
    except CircuitError:
        raise
    except ValueError as error:
        raise CircuitError(f"{path}: {error}") from error


def walk_part(part: nn.Module, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
    """Lets a part of a net write into a builder, on wires that there are; for modules that hold others."""
    return _walk(part, type(part).__name__, builder, wires)


def _walk(module: nn.Module, path: str, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
    add = getattr(module, "add_to_circuit", None)
    if add is None and isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            wires = _walk(child, f"{path}.{name}", builder, wires)
        return wires
    if add is None and isinstance(module, nn.Flatten):
        return wires.reshape(-1)
    if add is None and isinstance(module, TRANSPARENT):
        return wires
    if add is None:
        raise CircuitError(
            f"module {path} ({type(module).__name__}) cannot become gates: it has no add_to_circuit method and is none "
            "of Sequential, Flatten, Identity, Dropout"
        )
    if builder.num_classes is not None:
        raise CircuitError(f"module {path} ({type(module).__name__}) stands behind the GroupSum, which must be last")
    for name, value in nonsense_in(module).items():
        raise CircuitError(f"{path}.{name} holds {value}, so {type(module).__name__} settles on no gates: train again")
    width = getattr(module, "in_dim", None)
    try:
        if isinstance(getattr(module, "in_channels", None), int) and not builder.has_inputs:
            if builder.input_shape is None:
                raise ValueError("it takes images whose size is not known: pass input_shape=(C, H, W)")
            wires = builder.inputs(math.prod(builder.input_shape)).reshape(builder.input_shape)
        if isinstance(width, int):
            if not builder.has_inputs:
                wires = builder.inputs(width)
            elif wires.size != width:
                raise ValueError(f"it takes {width} inputs, but the part of the net before it gives {wires.size}")
        return np.asarray(add(builder, wires), dtype=np.int32)
    except CircuitError:
        raise
    except ValueError as error:
        raise CircuitError(f"module {path} ({type(module).__name__}): {error}") from error
