"""Trees of gates level by level on an unfolded image: for gates that the kernels of trees do not have.

Every place of the image becomes a sample, and a level of the trees a dense layer of them. It takes the memory of the
image once for every place of the kernel.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lgn_lightning.nn.evaluate import evaluate
from lgn_lightning.nn.learned_connections import own_inputs
from lgn_lightning.nn.samplers import GateSample
from lgn_lightning.ops import ConvGeometry
from lgn_lightning.ops.tree import encode_places


def evaluate_trees(
    x: Tensor,
    sample: GateSample,
    hard: Tensor | None,
    leaves: Tensor,
    geometry: ConvGeometry,
    arity: int = 2,
    plain: bool = False,
    read: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Evaluates a tree of gates per output channel at every place of an image, without pooling.

    Args:
        x: ``[batch, C, H, W]``, floating point.
        sample: Of the gates of all trees, ``[trees · gates of a tree, …]``; gate ``j`` of a tree has the operands
            ``arity · j`` and the next ones, where nodes are first the leaves, then the gates.
        hard: Tables of the hard gates of the sample, if it has any.
        leaves: Channel, row and column in the kernel, int32 ``[3, trees, arity^depth]``.
        geometry: Receptive field, steps and border.
        arity: Inputs of a gate.
        plain: Whether to compute by the formulas in plain torch.
        read: Reads the inputs of the lowest gates of receptive fields ``[samples, places of the field]`` in place of
            ``leaves``, as :meth:`LearnedConnections.read`.

    Returns:
        ``[batch, trees, H', W']``, batch innermost in memory.
    """
    trees, count = leaves.shape[1:]
    gates = (count - 1) // (arity - 1)
    places = geometry.output_size(x.shape[2:])
    values = _unfold(x, geometry)
    inputs = encode_places(leaves, geometry.kernel_size).view(-1, arity).t().contiguous()
    if read is not None:
        values = read(values)
        inputs = torch.stack(own_inputs(trees * count // arity, arity, x.device))
    first = 0
    while count > 1:
        count //= arity
        level = partial(_level, (trees, gates), slice(first, first + count))
        slopes = None if sample.slopes is None else torch.stack([level(slope) for slope in sample.slopes])
        part = sample._replace(table=level(sample.table), gates=None, slopes=slopes)
        op, wires = ("logic", inputs.unbind(0)) if arity == 2 else ("lut", (inputs,))
        values = evaluate(op, values, part, level(hard), wires, plain)
        first += count
        if count > 1:
            inputs = torch.arange(trees * count, device=x.device, dtype=torch.int32).view(-1, arity).t().contiguous()
    return values.t().view(trees, *places, x.shape[0]).permute(3, 0, 1, 2)


def _unfold(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """The receptive field of every place as a sample: ``[H' · W' · batch, C · height · width]``, features first."""
    sizes = geometry.output_size(x.shape[2:])
    above, aside = geometry.padding
    rows = torch.nn.functional.pad(x.permute(1, 2, 3, 0), (0, 0, aside, aside, above, above))
    ranges = [
        [slice(i, i + (size - 1) * step + 1, step) for i in range(kernel)]
        for size, step, kernel in zip(sizes, geometry.stride, geometry.kernel_size, strict=True)
    ]
    read = [rows[:, line, columns] for line, columns in itertools.product(*ranges)]
    return torch.stack(read, dim=1).flatten(2).flatten(0, 1).t()


def _level(trees: tuple[int, int], gates: slice, tables: Tensor | None) -> Any:
    """The tables of some gates of every tree, of those of all gates of all trees."""
    return None if tables is None else tables.view(*trees, *tables.shape[1:])[:, gates].flatten(0, 1)
