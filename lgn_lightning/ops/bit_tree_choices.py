"""Learned leaves of the tree convolution on packed bits: the gradient of their shares, and the checked function.

The forward pass is :func:`lgn_lightning.ops.bit_tree_conv` at the leaves of a step; the backward pass is that of
:mod:`lgn_lightning.ops.tree_choices`, from the words that it keeps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lgn_lightning.ops import bit_tree, schema, tree_choices
from lgn_lightning.ops.bit_activations import BitActivations
from lgn_lightning.ops.geometry import ConvGeometry, define_convolution


def learned_bit_tree_conv(
    x: BitActivations,
    soft_table: Tensor,
    shares: Tensor,
    gates: Tensor,
    leaves: Tensor,
    candidates: Tensor,
    geometry: ConvGeometry,
) -> BitActivations:
    """:func:`~lgn_lightning.ops.bit_tree_conv` at the leaves that were chosen, with the gradient of the candidates.

    Args:
        x: As there, like all that is not named here.
        soft_table: Likewise.
        shares: As in :func:`~lgn_lightning.ops.learned_tree_conv`, like ``candidates``.
        gates: As in :func:`~lgn_lightning.ops.bit_tree_conv`.
        leaves: What was chosen.
        candidates: What leaves choose among, int32 ``[O, 2^depth, K]``.
        geometry: Receptive field, steps, border and pooling.

    Returns:
        The bits ``[batch, O, H', W']``.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype does not fit.
    """
    bit_tree.check(x, soft_table, gates, leaves, geometry)
    tree_choices.check_candidates(shares, leaves, candidates)
    return BitActivations(
        *_LearnedBitTreeConv.apply(x.edge, soft_table, shares, x.words, gates, leaves, candidates, geometry)
    )


class _LearnedBitTreeConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        edge: Tensor,
        soft_table: Tensor,
        shares: Tensor,
        words: Tensor,
        gates: Tensor,
        leaves: Tensor,
        candidates: Tensor,
        geometry: ConvGeometry,
    ) -> tuple[Tensor, Tensor]:
        ctx.dtype = shares.dtype
        return bit_tree.forward(ctx, edge, soft_table, words, gates, leaves, geometry, candidates)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        need_x = ctx.needs_input_grad[0]
        grad_x, grad_table, shares = schema.backward(
            "learned_bit_tree_conv_backward", grads[1], *ctx.saved_tensors, *ctx.geometry, need_x
        )
        return grad_x if need_x else None, grad_table, shares.to(ctx.dtype), None, None, None, None, None


def _reference_backward(
    grad: Tensor,
    winner: Tensor,
    words: Tensor,
    gates: Tensor,
    soft_table: Tensor,
    leaves: Tensor,
    candidates: Tensor,
    geometry: ConvGeometry,
    need_grad_x: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input (empty if not wanted), of the soft table and of the shares, float32."""
    position, x, table = bit_tree.unpacked(grad, winner, words, gates, soft_table)
    return tree_choices.reference_backward(
        grad, position, x, table, soft_table, leaves, candidates, geometry, need_grad_x
    )


def _fake_backward(
    grad: Tensor,
    winner: Tensor,
    words: Tensor,
    gates: Tensor,
    soft_table: Tensor,
    leaves: Tensor,
    candidates: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    x = bit_tree.fake_input(grad, words)
    grad_x = schema.empty_grad_x("learned_bit_tree_conv_backward", x, rest[-1])
    return grad_x, soft_table.new_empty(soft_table.shape), soft_table.new_empty(candidates.shape)


define_convolution(
    "learned_bit_tree_conv_backward(Tensor grad, Tensor winner, Tensor words, Tensor gates, Tensor soft_table,"
    " Tensor leaves, Tensor candidates, ConvGeometry geometry, bool need_grad_x) -> (Tensor, Tensor, Tensor)",
    _reference_backward,
    _fake_backward,
)
