"""Nets of several inputs: what each of them is of a circuit's only one."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lgn_lightning.circuit.build.looped import LoopedBuilder
from lgn_lightning.circuit.build.trace import arguments_of, input_shapes

#: Shapes of the inputs of nets that have several.
_SHAPES: WeakKeyDictionary[nn.Module, Sequence[tuple[int, ...]]] = WeakKeyDictionary()


def join_inputs(x: Any) -> Tensor:
    """The inputs of a batch as a circuit takes them: of images their channels, else their bits, one after the other."""
    if isinstance(x, Tensor):
        return x
    parts = list(x)
    return torch.cat([part if part.ndim == 4 else part.flatten(1) for part in parts], 1)


def split_inputs(net: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """The inputs of a net from those of its circuit, the inverse of `join_inputs`; images of bits get their shape back.

    Raises:
        CircuitError: If the net has several inputs and cannot become a circuit.
    """
    net = getattr(net, "_orig_mod", net)  # of torch.compile
    if net not in _SHAPES:
        _SHAPES[net] = input_shapes(net, LoopedBuilder) if len(arguments_of(net)) > 1 else []
    shapes = _SHAPES[net]
    own = getattr(net, "in_shape", None)
    if not shapes and x.ndim == 2 and isinstance(own, Sequence) and prod(own) == x.shape[1]:
        return (x.reshape(len(x), *own),)
    if not shapes:
        return (x,)
    sizes = [shape[0] if x.ndim == 4 else prod(shape) for shape in shapes]
    parts = [x[:, start:end] for start, end in pairwise(accumulate(sizes, initial=0))]
    return tuple(part.reshape(len(x), *shape) for part, shape in zip(parts, shapes, strict=True))
