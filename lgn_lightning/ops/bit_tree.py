"""The tree convolution of straight-through training on packed bits: schema, reference, gradients and the function.

The forward pass evaluates hard gates on words of 64 samples. Kept for the backward pass are words alone: the input and,
of a pooling, which position of each window won: the first whose tree gives 1, else the first of all. The number of the
position is stored digit by digit, a bit a sample each. The backward pass is that of :mod:`lgn_lightning.ops.tree` with
a ``soft_table``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lgn_lightning.ops import reference, schema, tree
from lgn_lightning.ops.bit_activations import BitActivations, empty_words, new_edge
from lgn_lightning.ops.geometry import ConvGeometry, define_convolution


def bit_tree_conv(
    x: BitActivations,
    soft_table: Tensor,
    gates: Tensor,
    leaves: Tensor,
    geometry: ConvGeometry,
) -> BitActivations:
    """Evaluates a tree of hard gates per output channel, then the OR of windows; the gradient is that of a soft table.

    Args:
        x: Images ``[batch, C, H, W]``. What lies outside reads as 0.
        soft_table: Soft tables, float32 ``[O · (2^depth - 1), 4]``, which receive the gradient.
        gates: Ids of the hard gates, uint8 ``[O · (2^depth - 1)]``.
        leaves: As in :func:`~lgn_lightning.ops.logic_tree_conv`.
        geometry: Receptive field, steps, border and pooling, whose maximum is the OR.

    Returns:
        The bits ``[batch, O, H', W']``.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype does not fit.
    """
    check(x, soft_table, gates, leaves, geometry)
    return BitActivations(*_BitTreeConv.apply(x.edge, soft_table, x.words, gates, leaves, geometry))


def check(x: BitActivations, soft_table: Tensor, gates: Tensor, leaves: Tensor, geometry: ConvGeometry) -> None:
    """Refuses arguments that do not fit one another.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype does not fit.
    """
    tree.check(x.edge, soft_table, leaves, geometry, None)
    if gates.shape != soft_table.shape[:1] or gates.dtype != torch.uint8:
        raise ValueError(
            f"gates is {gates.dtype} {list(gates.shape)}, but a table {list(soft_table.shape)} takes torch.uint8 "
            f"[{soft_table.shape[0]}]"
        )


def forward(
    ctx: Any,
    edge: Tensor,
    soft_table: Tensor,
    words: Tensor,
    gates: Tensor,
    leaves: Tensor,
    geometry: ConvGeometry,
    *candidates: Tensor,
) -> tuple[Tensor, Tensor]:
    """The forward pass of an autograd function: words and edge of the result; keeps what its backward op takes."""
    y, winner = torch.ops.lgn.bit_tree_conv(words, gates, leaves, *geometry)
    ctx.save_for_backward(winner, words, gates, soft_table, leaves, *candidates)
    ctx.geometry = geometry
    ctx.mark_non_differentiable(y)
    ctx.set_materialize_grads(False)  # no zeros for the words
    return y, new_edge(edge, (edge.shape[0], *y.shape[1:]))


class _BitTreeConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        edge: Tensor,
        soft_table: Tensor,
        words: Tensor,
        gates: Tensor,
        leaves: Tensor,
        geometry: ConvGeometry,
    ) -> tuple[Tensor, Tensor]:
        return forward(ctx, edge, soft_table, words, gates, leaves, geometry)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        need_x = ctx.needs_input_grad[0]
        grad_x, grad_table = schema.backward(
            "bit_tree_conv_backward", grads[1], *ctx.saved_tensors, *ctx.geometry, need_x
        )
        return grad_x if need_x else None, grad_table, None, None, None, None


def _digits(geometry: ConvGeometry) -> int:
    """Binary digits that tell the positions of a window apart."""
    return (geometry.positions - 1).bit_length()


def _reference(words: Tensor, gates: Tensor, leaves: Tensor, geometry: ConvGeometry) -> tuple[Tensor, Tensor]:
    """Words ``[rows, O, H', W']``, and the digits of the winner's position, ``[rows, digits, O, H', W']``."""
    index = tree.leaf_rows(words.shape[1:], leaves, geometry)
    # A row of zeros behind the others is what a leaf outside the image reads.
    rows = torch.nn.functional.pad(words.permute(1, 2, 3, 0).flatten(0, 2), (0, 0, 0, 1))
    nodes = rows.index_select(0, index.flatten()).view(*index.shape, words.shape[0])
    masks = -reference.hard_table(gates, torch.int64).view(leaves.shape[1], -1, 4, 1, 1)  # all bits, or none
    first = 0
    while (count := nodes.shape[1] // 2) > 0:
        left, right = nodes[:, 0::2], nodes[:, 1::2]
        m00, m01, m10, m11 = masks[:, first : first + count].unbind(2)
        nodes = (~left & (~right & m00 | right & m01)) | (left & (~right & m10 | right & m11))
        first += count
    size = geometry.output_size(words.shape[2:])
    windows = tree.windows(nodes[:, 0], size, geometry.pool)
    y = torch.zeros_like(windows[:, :, 0])
    digits = [torch.zeros_like(y) for _ in range(_digits(geometry))]
    for position, root in enumerate(windows.unbind(2)):
        for k, digit in enumerate(digits):
            if position >> k & 1:
                digit |= root & ~y
        y = y | root
    image = (leaves.shape[1], *size)
    winner = torch.stack(digits, dim=2) if digits else y.new_empty((*y.shape[:2], 0, y.shape[2]))
    winner = winner.permute(3, 2, 0, 1).reshape(y.shape[2], len(digits), *image)
    return y.permute(2, 0, 1).reshape(y.shape[2], *image).contiguous(), winner.contiguous()


def unpacked(
    grad: Tensor, winner: Tensor, words: Tensor, gates: Tensor, soft_table: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What was kept for the backward pass as the float op has it: winner (uint8), ``x`` and the table of the gates."""
    batch = grad.shape[0]
    x = reference.unpack_bits(words.flatten(1), batch).float().view(batch, *words.shape[1:])
    position = torch.zeros(grad.shape, dtype=torch.uint8, device=grad.device)
    for k in range(winner.shape[1]):
        digit = reference.unpack_bits(winner[:, k].flatten(1), batch).view(grad.shape)
        position |= digit.to(torch.uint8) << k
    return position, x, reference.hard_table(gates, soft_table.dtype)


def _reference_backward(
    grad: Tensor,
    winner: Tensor,
    words: Tensor,
    gates: Tensor,
    soft_table: Tensor,
    leaves: Tensor,
    geometry: ConvGeometry,
    need_grad_x: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the input (empty if not wanted) and of the soft table, float32."""
    position, x, table = unpacked(grad, winner, words, gates, soft_table)
    grad_table, node = tree.node_gradients(grad, position, x, table, soft_table, leaves, geometry)
    return tree.input_gradient(node, x, leaves, geometry, need_grad_x), grad_table


def _fake(words: Tensor, gates: Tensor, leaves: Tensor, geometry: ConvGeometry) -> tuple[Tensor, Tensor]:
    size = (leaves.shape[1], *geometry.output_size(words.shape[2:]))
    rows, features, digits = words.shape[0], math.prod(size), _digits(geometry)
    y, winner = (empty_words("bit_tree_conv", words, rows, n * features) for n in (1, digits))
    return y.view(rows, *size), winner.view(rows, digits, *size)


def fake_input(grad: Tensor, words: Tensor) -> Tensor:
    """What the words stand for, without values: a float image of as many samples as a gradient has."""
    return grad.new_empty((grad.shape[0], *words.shape[1:]), dtype=torch.float32)


def _fake_backward(
    grad: Tensor, winner: Tensor, words: Tensor, gates: Tensor, soft_table: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    grad_x = schema.empty_grad_x("bit_tree_conv_backward", fake_input(grad, words), rest[-1])
    return grad_x, soft_table.new_empty(soft_table.shape)


define_convolution(
    "bit_tree_conv(Tensor words, Tensor gates, Tensor leaves, ConvGeometry geometry) -> (Tensor, Tensor)",
    _reference,
    _fake,
)
define_convolution(
    "bit_tree_conv_backward(Tensor grad, Tensor winner, Tensor words, Tensor gates, Tensor soft_table, Tensor leaves,"
    " ConvGeometry geometry, bool need_grad_x) -> (Tensor, Tensor)",
    _reference_backward,
    _fake_backward,
)
