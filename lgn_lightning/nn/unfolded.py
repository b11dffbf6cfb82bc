"""Trees of gates level by level on an unfolded image: for gates that the kernels of trees do not have.

Every place of the image becomes a sample, and a level of the trees a dense layer of them. It takes the memory of the
image once for every place of the kernel.
"""

import itertools
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.nn.evaluate import Learn, evaluate
from lgn_lightning.nn.learned_connections import LeafConnections
from lgn_lightning.nn.samplers import GateSample
from lgn_lightning.ops import ConvGeometry


def evaluate_trees(
    x: Tensor,
    sample: GateSample,
    hard: Tensor | None,
    leaves: LeafConnections,
    geometry: ConvGeometry,
    arity: int = 2,
    plain: bool = False,
) -> Tensor:
    """Evaluates a tree of gates per output channel at every place of an image, without pooling.

    Args:
        x: ``[batch, C, H, W]``, floating point.
        sample: Of the gates of all trees, ``[trees · gates of a tree, …]``; gate ``j`` of a tree has the operands
            ``arity · j`` and the next ones, where nodes are first the leaves, then the gates.
        hard: Tables of the hard gates of the sample, if it has any.
        leaves: Channel, row and column in the kernel, int32 ``[3, trees, arity^depth]``; learned ones of two-input
            gates alone.
        geometry: Receptive field, steps and border.
        arity: Inputs of a gate.
        plain: Whether to compute by the formulas in plain torch.

    Returns:
        ``[batch, trees, H', W']``, batch innermost in memory.
    """
    channel, row, column = leaves.places
    height, width = geometry.kernel_size
    wires = (channel * height + row) * width + column  # [trees, leaves]
    trees, count = wires.shape
    gates = (count - 1) // (arity - 1)
    places = geometry.output_size(x.shape[2:])
    values = _unfold(x, geometry)
    learn: Learn | None = None
    if leaves.shares is not None and leaves.candidates is not None and leaves.shares.requires_grad:
        learn = partial(_learn, leaves.shares, leaves.candidates, wires, plain)
    first = 0
    while count > 1:
        count //= arity
        level = partial(_level, (trees, gates), slice(first, first + count))
        part = sample._replace(table=level(sample.table), gates=None)
        inputs = wires.reshape(-1, arity).t().contiguous()
        op, indices = ("logic", inputs.unbind(0)) if arity == 2 else ("lut", (inputs,))
        values = evaluate(op, values, part, level(hard), indices, plain, learn)
        wires = torch.arange(trees * count, device=x.device, dtype=torch.int32).view(trees, count)
        first, learn = first + count, None
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


def _learn(
    shares: Tensor, candidates: Tensor, wires: Tensor, plain: bool, y: Tensor, x: Tensor, table: Tensor
) -> Tensor:
    a, b = wires.reshape(-1, 2).t().contiguous().unbind(0)
    pairs = (-1, 2, candidates.shape[-1])
    return ops.learn_choices(y, shares.reshape(pairs), x, table, a, b, candidates.reshape(pairs).contiguous(), plain)
