"""Learned leaves of the tree convolution: the gradient of their candidates' shares, and the checked function.

A step reads one of K candidates, and the gradient of the share of candidate k is ∂L/∂p_k = Σ ∂L/∂u · x[c_k] over
samples and winning places, as in :mod:`lgn_lightning.ops.choices`. A candidate is a number of its place in the
receptive field, (channel · height + row) · width + column of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lgn_lightning.ops import schema, tree
from lgn_lightning.ops.geometry import ConvGeometry, define_convolution


def learned_tree_conv(
    x: Tensor,
    table: Tensor,
    shares: Tensor,
    leaves: Tensor,
    candidates: Tensor,
    geometry: ConvGeometry,
    soft_table: Tensor | None = None,
) -> Tensor:
    """:func:`~lgn_lightning.ops.logic_tree_conv` at the leaves that were chosen, with the gradient of the candidates.

    Args:
        x: As there, like all that is not named here.
        table: Likewise.
        shares: Share of each candidate, floating point ``[O, 2^depth, K]``, which receives the gradient; the values are
            those of ``leaves``.
        leaves: What was chosen.
        candidates: What leaves choose among, int32 ``[O, 2^depth, K]``: (channel · height + row) · width + column of
            the kernel.
        geometry: Receptive field, steps, border and pooling.
        soft_table: Of a straight-through estimate.

    Returns:
        ``[batch, O, H', W']`` in the dtype of ``x``, batch innermost in memory.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If a dtype does not fit.
    """
    tree.check(x, table, leaves, geometry, soft_table)
    check_candidates(shares, leaves, candidates)
    return cast(Tensor, _LearnedTreeConv.apply(x, table, soft_table, shares, leaves, candidates, geometry))


def check_candidates(shares: Tensor, leaves: Tensor, candidates: Tensor) -> None:
    """Refuses candidates that do not fit the leaves or their shares.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If ``candidates`` is not int32.
    """
    wanted = (*leaves.shape[1:], candidates.shape[-1])
    if candidates.shape != wanted or shares.shape != wanted:
        raise ValueError(
            f"shares {list(shares.shape)} and candidates {list(candidates.shape)} do not fit leaves "
            f"{list(leaves.shape)}: both are [{leaves.shape[1]}, {leaves.shape[2]}, K]"
        )
    if candidates.dtype != torch.int32:
        raise TypeError(f"candidates is {candidates.dtype}, but indices are torch.int32")


def decode_places(places: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Channel, row and column of places of a receptive field, ``[3, …]`` of the shape and dtype of ``places``."""
    height, width = kernel_size
    line = places // width
    return torch.stack((line // height, line % height, places % width))


def _forward(
    x: Tensor, table: Tensor, soft_table: Tensor | None, leaves: Tensor, candidates: Tensor, geometry: ConvGeometry
) -> tuple[Tensor, Tensor]:
    """:func:`~lgn_lightning.ops.logic_tree_conv`: only a GPU has to know that the leaves are some of the candidates.

    There it keeps fixed leaves in a form of their own, which has to be made on the host.
    """
    return cast(tuple[Tensor, Tensor], torch.ops.lgn.logic_tree_conv(x, table, soft_table, leaves, *geometry))


def reference_backward(
    grad: Tensor,
    winner: Tensor,
    x: Tensor,
    table: Tensor,
    soft_table: Tensor | None,
    leaves: Tensor,
    candidates: Tensor,
    geometry: ConvGeometry,
    need_grad_x: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x`` (empty if not wanted), of the table and of the shares, ``[O, leaves, K]``."""
    grad_table, node = tree.node_gradients(grad, winner, x, table, soft_table, leaves, geometry)
    rows = torch.nn.functional.pad(x.permute(1, 2, 3, 0).flatten(0, 2).to(table.dtype), (0, 0, 0, 1))
    shares = []
    for places in candidates.unbind(2):  # one after the other: the values of all would be K times the activations
        index = tree.leaf_rows(x.shape[1:], decode_places(places, geometry.kernel_size), geometry)
        values = rows.index_select(0, index.flatten()).view_as(node)
        shares.append((node * values).sum((2, 3)))
    return tree.input_gradient(node, x, leaves, geometry, need_grad_x), grad_table, torch.stack(shares, dim=2)


def _fake_backward(
    grad: Tensor,
    winner: Tensor,
    x: Tensor,
    table: Tensor,
    soft_table: Tensor | None,
    leaves: Tensor,
    candidates: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x = schema.empty_grad_x("learned_tree_conv_backward", x, rest[-1])
    return grad_x, table.new_empty(table.shape), table.new_empty(candidates.shape)


define_convolution(
    "learned_tree_conv(Tensor x, Tensor table, Tensor? soft_table, Tensor leaves, Tensor candidates,"
    " ConvGeometry geometry) -> (Tensor, Tensor)",
    _forward,
    lambda x, table, soft_table, leaves, candidates, geometry: tree.fake(x, table, soft_table, leaves, geometry),
)
define_convolution(
    "learned_tree_conv_backward(Tensor grad, Tensor winner, Tensor x, Tensor table, Tensor? soft_table, Tensor leaves,"
    " Tensor candidates, ConvGeometry geometry, bool need_grad_x) -> (Tensor, Tensor, Tensor)",
    reference_backward,
    _fake_backward,
)


class _LearnedTreeConv(torch.autograd.Function):
    """The convolution at the leaves that were chosen; the backward pass has the gradient of the candidates, too."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        table: Tensor,
        soft_table: Tensor | None,
        shares: Tensor,
        leaves: Tensor,
        candidates: Tensor,
        geometry: ConvGeometry,
    ) -> Tensor:
        y, winner = torch.ops.lgn.learned_tree_conv(x, table, soft_table, leaves, candidates, *geometry)
        ctx.save_for_backward(winner, x, table, soft_table, leaves, candidates)
        ctx.geometry, ctx.dtype = geometry, shares.dtype
        return cast(Tensor, y)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        *of_inputs, shares = tree.backward(ctx, "learned_tree_conv_backward", grads[0])
        return (*of_inputs, cast(Tensor, shares).to(ctx.dtype), None, None, None)
