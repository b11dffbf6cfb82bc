"""Learned leaves of the tree convolution on packed bits: the gradient of their shares, and the checked function.

The forward pass is :func:`lgn_lightning.ops.bit_tree_conv` at the leaves of a step; the backward pass is that of
:mod:`lgn_lightning.ops.tree_choices`, from the words that it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lgn_lightning.ops import bit_tree, schema, tree, tree_choices
from lgn_lightning.ops.bit_activations import BitActivations, new_edge


def learned_bit_tree_conv(
    x: BitActivations,
    soft_table: Tensor,
    shares: Tensor,
    gates: Tensor,
    leaves: Tensor,
    candidates: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    pool: Sequence[int] = (1, 1),
) -> BitActivations:
    """:func:`~lgn_lightning.ops.bit_tree_conv` at the leaves that were chosen, with the gradient of the candidates.

    Args:
        x: As there, like all that is not named here.
        soft_table: Likewise.
        shares: As in :func:`~lgn_lightning.ops.learned_tree_conv`, like ``candidates``.
        gates: As in :func:`~lgn_lightning.ops.bit_tree_conv`.
        leaves: What was chosen.
        candidates: What leaves choose among, int32 ``[O, 2^depth, K]``.
        kernel_size: Height and width of the receptive field.
        stride: Steps of the receptive field.
        padding: Rows and columns of zeros on every side.
        pool: Height and width of the windows that the OR is taken of.

    Returns:
        The bits ``[batch, O, H', W']``.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype does not fit.
    """
    bit_tree.check(x, soft_table, gates, leaves, kernel_size, stride, padding, pool)
    tree_choices.check_candidates(shares, leaves, candidates)
    geometry = [list(pair) for pair in (kernel_size, stride, padding, pool)]
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
        geometry: list[list[int]],
    ) -> tuple[Tensor, Tensor]:
        y, winner = torch.ops.lgn.bit_tree_conv(words, gates, leaves, *geometry)
        ctx.save_for_backward(winner, words, gates, soft_table, leaves, candidates)
        ctx.geometry, ctx.dtype = geometry, shares.dtype
        ctx.mark_non_differentiable(y)
        ctx.set_materialize_grads(False)  # no zeros for the words
        return y, new_edge(edge, (edge.shape[0], *y.shape[1:]))

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
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    pool: list[int],
    need_grad_x: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input (empty if not wanted), of the soft table and of the shares, float32."""
    position, x, table = bit_tree.unpacked(grad, winner, words, gates, soft_table)
    geometry = kernel_size, stride, padding, pool
    return tree_choices.reference_backward(
        grad, position, x, table, soft_table, leaves, candidates, *geometry, need_grad_x
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
    *_, need_grad_x = rest
    op, empty = "learned_bit_tree_conv_backward", grad.new_empty((0,), dtype=torch.float32)
    grad_x = tree.fake_image(op, grad, words.shape[1:], torch.float32) if need_grad_x else empty
    return grad_x, soft_table.new_empty(soft_table.shape), soft_table.new_empty(candidates.shape)


schema.define(
    "learned_bit_tree_conv_backward(Tensor grad, Tensor winner, Tensor words, Tensor gates, Tensor soft_table, "
    f"Tensor leaves, Tensor candidates, {tree.SIZES}, bool need_grad_x) -> (Tensor, Tensor, Tensor)",
    _reference_backward,
    _fake_backward,
)
