"""A ``Sequential`` that runs layers that belong together as one op, and the soft/hard switch of a net."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.base.finite import surely_without_nan
from lgn_lightning.nn.autocast import autocast_dtype
from lgn_lightning.nn.conv import LogicTreeConv2d, OrPool2d
from lgn_lightning.nn.deferred import deferring, hooked, is_deferring
from lgn_lightning.nn.edges import EdgeChannels
from lgn_lightning.nn.encoders import Threshold
from lgn_lightning.nn.gate_layer import GateLayer, check_real
from lgn_lightning.nn.group_sum import GroupSum
from lgn_lightning.nn.logic_layer import LogicLayer
from lgn_lightning.nn.recurrent import LogicRecurrent

#: Where ops on packed bits have native kernels; elsewhere torch runs single layers faster than their references.
_NATIVE = ("cpu", "cuda")


class LogicSequential(nn.Sequential):
    """``nn.Sequential`` that runs layers that belong together as one op.

    These are all :class:`LogicLayer` in a row, or a :class:`LogicRecurrent`, with the :class:`GroupSum` right behind, a
    :class:`LogicTreeConv2d` with an :class:`OrPool2d`, and, in straight-through training, all :class:`LogicLayer` that
    lead to a :class:`GroupSum`, which then compute on packed bits. Convolutions do so, too, and hand their bits to the
    next layer as they are. The values are those of ``nn.Sequential`` up to the rounding of sums. Layers are not fused,
    and get no packed bits, while one of them has hooks, so that hooks see what they would see there.
    """

    def __getitem__(self, index: slice | int) -> Any:
        """One module, or a slice of them: a ``LogicSequential`` whatever the constructor of a subclass takes."""
        if isinstance(index, slice):
            return LogicSequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def forward(self, x: Any) -> Any:
        """Applies the modules in turn."""
        modules = list(self)
        if not is_deferring():
            return run_layers(modules, x)
        if modules and type(modules[-1]) is not GroupSum:  # layers that follow may belong to these
            return super().forward(x)  # type: ignore[no-untyped-call]
        with deferring(None):
            return run_layers(modules, x)


@contextmanager
def fused_layers() -> Iterator[None]:
    """Runs layers that belong together as one op within the block, whatever module calls them, in training.

    A layer's output is then computed when something asks for it: the next layers of gates and their group sum at once.
    """
    with deferring(run_layers):
        yield


def run_layers(modules: Sequence[nn.Module], x: Any) -> Any:
    """Applies modules in turn, those that belong together as one op; see `LogicSequential`."""
    on_bits: list[GateLayer] = []
    index = 0
    while index < len(modules):
        module = modules[index]
        stack = _bit_stack(modules, index, x)
        if stack:
            x = _run_on_bits(stack, cast(GroupSum, modules[index + len(stack)]), x)
            on_bits += stack
            index += len(stack) + 1
            continue
        stack = _soft_stack(modules, index, x)
        if stack:
            behind = modules[index + len(stack)] if index + len(stack) < len(modules) else None
            group_sum = behind if type(behind) is GroupSum and not hooked(behind) else None
            x = _run_soft(stack, group_sum, x)
            index += len(stack) + (group_sum is not None)
            continue
        following = modules[index + 1] if index + 1 < len(modules) else None
        if following is not None and (not _fusible(module, following) or hooked(module, following)):
            following = None
        if _takes_bits(module, x):
            if isinstance(x, Tensor):
                cast(LogicTreeConv2d, module).check_numbers(x)
            on_bits.append(cast(LogicTreeConv2d, module))
            x = cast(LogicTreeConv2d, module).forward_bits(_packed(x), cast(OrPool2d | None, following))
        elif _encodes_bits(modules, index, x):
            x = cast(Threshold, module).forward_bits(x)
        elif _makes_edges_of_bits(module, x):
            x = cast(EdgeChannels, module).forward_bits(x)
        elif isinstance(x, ops.BitActivations) and _flattens(module):
            x = x.flatten()
        else:
            x = _unpacked(x)
            x = module(x) if following is None else module(x, following)
        index += 1 if following is None else 2
    return _with_nan(_unpacked(x), on_bits)


def _with_nan(x: Any, on_bits: list[GateLayer]) -> Any:
    """The outputs of a net, all NaN if a weight is of the layers that ran on packed bits, which cannot say so."""
    if all(surely_without_nan(layer.weights) for layer in on_bits):
        return x
    largest = torch.stack([layer.weights.detach().max() for layer in on_bits])  # NaN where there is one
    return x + largest.clamp(0, 0).sum()  # 0, or NaN; a sum keeps the strides


def _fusible(module: nn.Module, following: nn.Module) -> bool:
    if type(module) is LogicTreeConv2d:
        return type(following) is OrPool2d and following.fusible
    return type(module) is LogicRecurrent and type(following) is GroupSum


def _takes_bits(module: nn.Module, x: Any) -> bool:
    """Whether a module is a convolution that can train on packed bits made of ``x``."""
    if type(module) is not LogicTreeConv2d or not module.runs_on_bits or hooked(module):
        return False
    if isinstance(x, ops.BitActivations):
        return True
    fits = isinstance(x, Tensor) and x.device.type in _NATIVE and x.ndim == 4
    return fits and (x.dtype == torch.float32 or not x.is_floating_point())


def _encodes_bits(modules: Sequence[nn.Module], index: int, x: Any) -> bool:
    """Whether a module is an encoder of images in training, and the first gates behind it train on bits."""
    module = modules[index]
    if type(module) is not Threshold or not (module.training and module.trains_on_bits) or hooked(module):
        return False
    if not isinstance(x, Tensor) or x.device.type not in _NATIVE:
        return False
    gates = next((part for part in modules[index + 1 :] if not isinstance(part, (EdgeChannels, nn.Flatten))), None)
    return isinstance(gates, (LogicLayer, LogicTreeConv2d)) and gates.runs_on_bits


def _makes_edges_of_bits(module: nn.Module, x: Any) -> bool:
    """Whether a module adds edges to packed bits in training, which pass no gradient on."""
    return (
        type(module) is EdgeChannels
        and isinstance(x, ops.BitActivations)
        and not x.edge.requires_grad
        and not hooked(module)
    )


def _flattens(module: nn.Module) -> bool:
    return type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1) and not hooked(module)


def _packed(x: Any) -> ops.BitActivations:
    return x if isinstance(x, ops.BitActivations) else ops.pack_activations(_as_bits(x))


def _as_bits(x: Tensor) -> Tensor:
    check_real(x)
    return x if x.is_floating_point() or x.dtype == torch.bool else x > 0.5


def _unpacked(x: Any) -> Any:
    if not isinstance(x, ops.BitActivations):
        return x
    device = x.edge.device.type
    return x.unpack(autocast_dtype(device) or torch.float32)


def _bit_stack(modules: Sequence[nn.Module], index: int, x: Any) -> list[LogicLayer]:
    """The straight-through layers from ``index`` on up to a group sum, if they can run as one op on packed bits."""
    stack: list[LogicLayer] = []
    if isinstance(x, ops.BitActivations):
        x = x.edge
    if not isinstance(x, Tensor) or x.ndim != 2 or x.dtype == torch.float64 or x.device.type not in _NATIVE:
        return stack
    width = x.shape[1]
    while index + len(stack) < len(modules):
        module = modules[index + len(stack)]
        if type(module) is GroupSum:
            return [] if hooked(*stack, module) or width % module.k else stack
        if type(module) is not LogicLayer or not module.runs_on_bits or module.in_dim != width:
            return []
        stack.append(module)
        width = module.out_dim
    return []


def _soft_stack(modules: Sequence[nn.Module], index: int, x: Any) -> list[LogicLayer]:
    """The layers from ``index`` on that one op can do on real values."""
    stack: list[LogicLayer] = []
    if not isinstance(x, Tensor) or x.ndim != 2 or torch.overrides.has_torch_function_unary(x):
        return stack  # who passes a subclass sees layer by layer
    width = x.shape[1]
    for module in modules[index:]:
        if type(module) is not LogicLayer or not module.runs_in_stack or module.in_dim != width or hooked(module):
            break
        stack.append(module)
        width = module.out_dim
    return stack


def _run_soft(stack: list[LogicLayer], group_sum: GroupSum | None, x: Tensor) -> Tensor:
    x = stack[0].activations(x)
    layers = [layer.soft_layer(x.dtype) for layer in stack]
    if group_sum is None:
        return ops.logic_stack(x, layers)
    return group_sum.scores_of(ops.logic_stack(x, layers, group_sum.k, group_sum.divisor))


def _run_on_bits(stack: list[LogicLayer], group_sum: GroupSum, x: Tensor | ops.BitActivations) -> Tensor:
    words = None
    if isinstance(x, ops.BitActivations):
        words, x = x
    else:
        stack[0].check_numbers(x)
    samples = [layer.sample_for_stack() for layer in stack]  # before any wires: of noise, all layers draw in this order
    with torch.no_grad():  # the op gives the gradient of the logits itself
        wires = [layer.sample_connections() for layer in stack]
    layers = [layer.bit_layer(sample, wired) for layer, sample, wired in zip(stack, samples, wires, strict=True)]
    return group_sum.scores_of(ops.bit_logic(_as_bits(x), layers, group_sum.k, group_sum.divisor, words))


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
