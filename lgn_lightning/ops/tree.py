"""Convolution with trees of gates, fused with OR pooling: schema, reference, gradients and the checked function.

Every output channel is a complete binary tree of gates whose leaves are positions of the receptive field; a gate has
the same logits at all places of the image (Petersen et al., NeurIPS 2024, sec. 3.1). Pooling takes the maximum, the OR
of bits (sec. 3.2). The values in between are recomputed in the backward pass and never stored (sec. 3.3).

Of N = 2^depth leaves, nodes 0 … N-1 are the leaves and node N + j is gate j with the operands 2j and 2j + 1, so that
gate N - 2 is the root. Gate j of output channel o has row o·(N-1) + j of the table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lgn_lightning.ops import schema
from lgn_lightning.ops.geometry import ConvGeometry, define_convolution


def logic_tree_conv(
    x: Tensor, table: Tensor, leaves: Tensor, geometry: ConvGeometry, soft_table: Tensor | None = None
) -> Tensor:
    """Evaluates one tree of gates per output channel at every place of an image, then takes the maximum of windows.

    Args:
        x: Inputs in [0, 1], ``[batch, C, H, W]``, floating point. What lies outside the image reads as 0.
        table: Tables ``[O · (2^depth - 1), 4]``, float32 (float64 if ``x`` is).
        leaves: int32 ``[3, O, 2^depth]``: the channel of each leaf, and its row and column in the kernel.
        geometry: Receptive field, steps, border and pooling.
        soft_table: Of a straight-through estimate: ``table`` gives the values, while gradients pass through the slopes
            of ``soft_table``, at those values, and the gradient of the table goes to ``soft_table``.

    Returns:
        ``[batch, O, H', W']`` in the dtype of ``x``, batch innermost in memory.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype does not fit.
    """
    check(x, table, leaves, geometry, soft_table)
    return cast(Tensor, torch.ops.lgn.logic_tree_conv(x, table, soft_table, leaves, *geometry)[0])


def reference(
    x: Tensor, table: Tensor, leaves: Tensor, geometry: ConvGeometry, soft_table: Tensor | None = None
) -> Tensor:
    """:func:`logic_tree_conv` in plain torch, differentiated by autograd."""
    return _reference(x, table, soft_table, leaves, geometry)[0]


def check(x: Tensor, table: Tensor, leaves: Tensor, geometry: ConvGeometry, soft_table: Tensor | None) -> None:
    """Refuses arguments of a convolution that do not fit one another.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype does not fit.
    """
    if x.ndim != 4:
        raise ValueError(f"x has shape {list(x.shape)}, but the op takes [batch, channels, height, width]")
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}, but the op takes floating point; convert it with x.float()")
    if leaves.ndim != 3 or leaves.shape[0] != 3 or leaves.shape[2] < 2 or leaves.shape[2] & (leaves.shape[2] - 1):
        raise ValueError(f"leaves has shape {list(leaves.shape)}, but must be [3, out_channels, 2^depth]")
    if leaves.dtype != torch.int32:
        raise TypeError(f"leaves is {leaves.dtype}, but indices are torch.int32")
    wanted, dtype = (leaves.shape[1] * (leaves.shape[2] - 1), 4), schema.sum_dtype(x.dtype)
    for name, given in (("table", table), ("soft_table", soft_table)):
        if given is not None and given.shape != wanted:
            raise ValueError(f"{name} has shape {list(given.shape)}, but leaves {list(leaves.shape)} take {wanted}")
        if given is not None and given.dtype != dtype:
            raise TypeError(f"{name} is {given.dtype}, but x of {x.dtype} takes a table of {dtype}")
    geometry.check(x.shape[2:])


def _levels(
    x: Tensor, table: Tensor, soft_table: Tensor | None, leaves: Tensor, index: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Operands of the gates of each level, ``[O, gates, rows, batch]`` each; then the root's values, twice."""
    rows = x.permute(1, 2, 3, 0).flatten(0, 2).to(table.dtype)
    # A row of zeros behind the others is what a leaf outside the image reads.
    rows = torch.nn.functional.pad(rows, (0, 0, 0, 1))
    values = rows.index_select(0, index.flatten()).view(*index.shape, x.shape[0])
    levels, first = [], 0
    while (gates := values.shape[1] // 2) > 0:
        left, right = values[:, 0::2], values[:, 1::2]
        levels.append((left, right))
        values = _gates(_of_level(table, leaves, first, gates), left, right)
        if soft_table is not None:
            soft = _gates(_of_level(soft_table, leaves, first, gates), left, right)
            values = values.detach() + (soft - soft.detach())
        first += gates
    levels.append((values, values))
    return levels


def _of_level(table: Tensor, leaves: Tensor, first: int, gates: int) -> Tensor:
    """Tables ``[O, gates, 4, 1, 1]`` of gates ``first … first + gates - 1`` of every tree."""
    return table.view(leaves.shape[1], leaves.shape[2] - 1, 4, 1, 1)[:, first : first + gates]


def _gates(table: Tensor, left: Tensor, right: Tensor) -> Tensor:
    c0, c1, c2, c3 = _coefficients(table)
    return c0 + c1 * left + (c2 + c3 * left) * right


def _coefficients(table: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    t00, t01, t10, t11 = table.unbind(2)
    return t00, t10 - t00, t01 - t00, t11 - t10 - t01 + t00


def leaf_rows(image: Sequence[int], leaves: Tensor, geometry: ConvGeometry) -> Tensor:
    """Row of each leaf at each place, int64 ``[O, leaves, places]``, outside the image that behind the last."""
    size, stride, padding = image[1:], geometry.stride, geometry.padding
    height, width = geometry.places(size)
    channel, dy, dx = (part[:, :, None, None].long() for part in leaves)
    line = torch.arange(height, device=leaves.device)[:, None] * stride[0] - padding[0] + dy
    column = torch.arange(width, device=leaves.device) * stride[1] - padding[1] + dx
    inside = (line >= 0) & (line < size[0]) & (column >= 0) & (column < size[1])
    rows = (channel * size[0] + line) * size[1] + column
    return torch.where(inside, rows, math.prod(image)).flatten(2)


def windows(values: Tensor, size: tuple[int, int], pool: Sequence[int]) -> Tensor:
    """Sorts ``[O, places, batch]`` by pooling window, ``size`` of them: ``[O, windows, positions, batch]``."""
    split = values.reshape(values.shape[0], size[0], pool[0], size[1], pool[1], values.shape[2])
    return split.transpose(2, 3).reshape(values.shape[0], math.prod(size), math.prod(pool), values.shape[2])


def _reference(
    x: Tensor, table: Tensor, soft_table: Tensor | None, leaves: Tensor, geometry: ConvGeometry
) -> tuple[Tensor, Tensor]:
    """Values ``[batch, O, H', W']`` and, of a pooling, the position of the first maximum in each window (uint8)."""
    root = _levels(x, table, soft_table, leaves, leaf_rows(x.shape[1:], leaves, geometry))[-1][0][:, 0]
    size = geometry.output_size(x.shape[2:])
    image = (leaves.shape[1], *size, x.shape[0])
    if geometry.positions == 1:
        return root.to(x.dtype).view(image).permute(3, 0, 1, 2), x.new_empty((0,), dtype=torch.uint8)
    y, winner = windows(root, size, geometry.pool).max(2)
    return y.to(x.dtype).view(image).permute(3, 0, 1, 2), winner.to(torch.uint8).view(image).permute(3, 0, 1, 2)


def node_gradients(
    grad: Tensor,
    winner: Tensor,
    x: Tensor,
    table: Tensor,
    soft_table: Tensor | None,
    leaves: Tensor,
    geometry: ConvGeometry,
) -> tuple[Tensor, Tensor]:
    """Gradients of the table and of every leaf at every place, ``[O, leaves, places, batch]``."""
    index = leaf_rows(x.shape[1:], leaves, geometry)
    g = grad.permute(1, 2, 3, 0).flatten(1, 2).to(table.dtype)
    if geometry.positions > 1:
        windows = torch.zeros(*g.shape[:2], geometry.positions, g.shape[2], dtype=g.dtype, device=g.device)
        windows.scatter_(2, winner.permute(1, 2, 3, 0).flatten(1, 2).long().unsqueeze(2), g.unsqueeze(2))
        split = windows.view(g.shape[0], *grad.shape[2:], *geometry.pool, g.shape[2])
        g = split.transpose(2, 3).flatten(1, 4)
    slopes = table if soft_table is None else soft_table
    first, parts = leaves.shape[2] - 1, []
    node = g.unsqueeze(1)
    for left, right in reversed(_levels(x, table, soft_table, leaves, index)[:-1]):
        first -= left.shape[1]
        with_left, with_right = node * left, node * right
        s, sa, sb = (part.sum((2, 3)) for part in (node, with_left, with_right))
        sab = (with_left * right).sum((2, 3))
        parts.append(torch.stack((s - sa - sb + sab, sb - sab, sa - sab, sab), dim=2))
        _, c1, c2, c3 = _coefficients(_of_level(slopes, leaves, first, left.shape[1]))
        node = torch.stack((c1 * node + c3 * with_right, c2 * node + c3 * with_left), dim=2).flatten(1, 2)
    return torch.cat(parts[::-1], dim=1).flatten(0, 1), node


def input_gradient(node: Tensor, x: Tensor, leaves: Tensor, geometry: ConvGeometry, needed: bool) -> Tensor:
    """The gradient of ``x`` from those of the leaves; empty if not needed."""
    if not needed:
        return x.new_empty((0,))
    index = leaf_rows(x.shape[1:], leaves, geometry)
    rows = torch.zeros(math.prod(x.shape[1:]) + 1, x.shape[0], dtype=node.dtype, device=x.device)
    rows.index_add_(0, index.flatten(), node.flatten(0, 2))
    return rows[:-1].view(*x.shape[1:], x.shape[0]).to(x.dtype).permute(3, 0, 1, 2)


def _reference_backward(
    grad: Tensor,
    winner: Tensor,
    x: Tensor,
    table: Tensor,
    soft_table: Tensor | None,
    leaves: Tensor,
    geometry: ConvGeometry,
    need_grad_x: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` (empty if not wanted) and of the table that they pass through."""
    grad_table, node = node_gradients(grad, winner, x, table, soft_table, leaves, geometry)
    return input_gradient(node, x, leaves, geometry, need_grad_x), grad_table


def fake(
    x: Tensor, table: Tensor, soft_table: Tensor | None, leaves: Tensor, geometry: ConvGeometry
) -> tuple[Tensor, Tensor]:
    """What :func:`logic_tree_conv` gives, without values: also the op of learned leaves."""
    size = (leaves.shape[1], *geometry.output_size(x.shape[2:]))

    def image(dtype: torch.dtype) -> Tensor:
        return schema.feature_major("logic_tree_conv", x, math.prod(size), dtype).view(x.shape[0], *size)

    winner = image(torch.uint8) if geometry.positions > 1 else x.new_empty((0,), dtype=torch.uint8)
    return image(x.dtype), winner


def _fake_backward(grad: Tensor, winner: Tensor, x: Tensor, table: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return schema.empty_grad_x("logic_tree_conv_backward", x, rest[-1]), table.new_empty(table.shape)


define_convolution(
    "logic_tree_conv(Tensor x, Tensor table, Tensor? soft_table, Tensor leaves, ConvGeometry geometry)"
    " -> (Tensor, Tensor)",
    _reference,
    fake,
)
define_convolution(
    "logic_tree_conv_backward(Tensor grad, Tensor winner, Tensor x, Tensor table, Tensor? soft_table, Tensor leaves,"
    " ConvGeometry geometry, bool need_grad_x) -> (Tensor, Tensor)",
    _reference_backward,
    _fake_backward,
)


def backward(ctx: Any, op: str, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of x, table and soft_table where they are needed, and what else the op gives.

    The first three inputs of ``ctx`` are these, and the saved tensors and ``ctx.geometry`` the op's other arguments.
    """
    need_x, need_table, need_soft = ctx.needs_input_grad[:3]
    saved = ctx.saved_tensors  # once: each reading runs the hooks of saved tensors
    grad_x, grad_table, *others = schema.backward(op, grad, *saved, *ctx.geometry, need_x)
    straight_through = saved[3] is not None
    return (
        grad_x if need_x else None,
        grad_table if need_table and not straight_through else None,
        grad_table if need_soft else None,
        *others,
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, table, soft_table, leaves, *ctx.geometry = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], x, table, soft_table, leaves)


def _grad(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    return (*backward(ctx, "logic_tree_conv_backward", grad), *(None,) * 5)


torch.library.register_autograd("lgn::logic_tree_conv", _grad, setup_context=_setup, lib=schema.LIBRARY)
