"""A ``Sequential`` that runs a layer and the sum or pooling behind it as one op, and the soft/hard switch of a net."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lgn_lightning.nn.conv import LogicTreeConv2d, OrPool2d
from lgn_lightning.nn.gate_layer import GateLayer
from lgn_lightning.nn.group_sum import GroupSum
from lgn_lightning.nn.logic_layer import LogicLayer


class LogicSequential(nn.Sequential):
    """``nn.Sequential`` that runs pairs of layers as one op.

    The pairs are a :class:`LogicLayer` with a :class:`GroupSum` right behind it, and a :class:`LogicTreeConv2d` with an
    :class:`OrPool2d`. The values are those of ``nn.Sequential`` up to the rounding of sums. A pair is not fused while
    one of the two has forward hooks, so that hooks see what they would see there.
    """

    def __getitem__(self, index: slice | int) -> Any:
        """One module, or a slice of them: a ``LogicSequential`` whatever the constructor of a subclass takes."""
        if isinstance(index, slice):
            return LogicSequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def forward(self, x: Any) -> Any:
        """Applies the modules in turn."""
        modules = list(self)
        index = 0
        while index < len(modules):
            module = modules[index]
            following = modules[index + 1] if index + 1 < len(modules) else None
            if following is not None and _fusible(module, following) and not _hooked(module, following):
                x = module(x, following)
                index += 2
            else:
                x = module(x)
                index += 1
        return x


def _fusible(module: nn.Module, following: nn.Module) -> bool:
    if type(module) is LogicTreeConv2d:
        return type(following) is OrPool2d and following.fusible
    return type(module) is LogicLayer and type(following) is GroupSum


def _hooked(*modules: nn.Module) -> bool:
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules)


def logic_layers(net: nn.Module) -> dict[str, GateLayer]:
    """Gives the layers of gates of a net, dense and convolutional, by name, in the order of the net."""
    return {name: module for name, module in net.named_modules() if isinstance(module, GateLayer)}


@contextmanager
def soft_gates(net: nn.Module) -> Iterator[None]:
    """Makes the logic layers of ``net`` soft inside the block, and leaves every other module in its mode.

    This is how the soft accuracy of a net in ``.eval()`` mode is measured: on the same bits that the hard net gets. The
    layers compute what their samplers train with, without its noise: straight-through ones evaluate their hard gates.
    """
    layers = list(logic_layers(net).values())
    before = [(layer.training, layer.sampler) for layer in layers]
    try:
        for layer in layers:
            layer.training, layer.sampler = True, layer.sampler.without_noise()
        yield
    finally:
        for layer, (mode, sampler) in zip(layers, before, strict=True):
            layer.training, layer.sampler = mode, sampler
