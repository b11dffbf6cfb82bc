"""The tree convolution of straight-through training on packed bits, with fixed or learned leaves.

The forward pass evaluates hard gates on words of 64 samples. Kept for the backward pass are words alone: the input and,
of a pooling, which position of each window won: the first whose tree gives 1, else the first of all. The number of the
position is stored digit by digit, a bit a sample each. The backward pass is that of :mod:`lgn_lightning.ops.tree` with
a ``soft_table``.
"""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lgn_lightning.ops import library, tree
from lgn_lightning.ops.bits import lookup, unpack_bits_reference
from lgn_lightning.ops.bits_activations import BitActivations, empty_words, new_edge
from lgn_lightning.ops.dense import hard_table
from lgn_lightning.ops.tree import TreeConv
from lgn_lightning.ops.tree_geometry import ConvGeometry, convolution

__all__ = ["bit_tree_conv", "learned_bit_tree_conv"]


def bit_tree_conv(
    x: BitActivations, soft_table: Tensor, gates: Tensor, leaves: Tensor, geometry: ConvGeometry
) -> BitActivations:
    """Evaluates a tree of hard gates per output channel, then the OR of windows: the bits ``[batch, O, H', W']``.

    Args:
        x: Images ``[batch, C, H, W]``. What lies outside reads as 0.
        soft_table: Soft tables, float32 ``[O · (2^depth - 1), 4]``, which receive the gradient, that of a soft table.
        gates: Ids of the hard gates, uint8 ``[O · (2^depth - 1)]``.
        leaves: As in :func:`~lgn_lightning.ops.logic_tree_conv`.
        geometry: Receptive field, steps, border and pooling, whose maximum is the OR.
    """
    return _apply(x, soft_table, None, geometry, gates, leaves)


def learned_bit_tree_conv(
    x: BitActivations,
    soft_table: Tensor,
    shares: Tensor,
    gates: Tensor,
    leaves: Tensor,
    candidates: Tensor,
    geometry: ConvGeometry,
) -> BitActivations:
    """:func:`bit_tree_conv` at the leaves that were chosen, with the gradient of the candidates.

    ``shares`` and ``candidates`` are those of :func:`~lgn_lightning.ops.learned_tree_conv`.
    """
    tree.check_leaf_candidates(shares, leaves, candidates)
    return _apply(x, soft_table, shares, geometry, gates, leaves, candidates)


def _apply(
    x: BitActivations,
    soft_table: Tensor,
    shares: Tensor | None,
    geometry: ConvGeometry,
    gates: Tensor,
    leaves: Tensor,
    *candidates: Tensor,
) -> BitActivations:
    tree.check_trees(x.edge, soft_table, leaves, geometry, None)
    if gates.shape != soft_table.shape[:1] or gates.dtype != torch.uint8:
        raise ValueError(
            f"gates is {gates.dtype} {list(gates.shape)}, but a table {list(soft_table.shape)} takes torch.uint8 "
            f"[{soft_table.shape[0]}]"
        )
    made = _BitTreeConv.apply(geometry, x.edge, soft_table, shares, x.words, gates, leaves, *candidates)
    return BitActivations(*cast(tuple[Tensor, Tensor], made))


class _BitTreeConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, geometry: ConvGeometry, edge: Tensor, soft_table: Tensor, shares: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        words, gates, leaves, *candidates = tensors
        y, winner = torch.ops.lgn.bit_tree_conv(words, gates, leaves, *geometry)
        ctx.save_for_backward(winner, words, gates, soft_table, leaves, *candidates)
        ctx.geometry, ctx.dtype = geometry, None if shares is None else shares.dtype
        ctx.mark_non_differentiable(y)
        ctx.set_materialize_grads(False)  # no zeros for the words
        return y, new_edge(edge, (edge.shape[0], *y.shape[1:]))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        need_x = ctx.needs_input_grad[1]
        op = "bit_tree_conv_backward" if ctx.dtype is None else "learned_bit_tree_conv_backward"
        grad_x, grad_table, *shares = library.backward(op, grads[1], *ctx.saved_tensors, *ctx.geometry, need_x)
        grad_shares = shares[0].to(ctx.dtype) if shares else None
        return None, grad_x if need_x else None, grad_table, grad_shares, *(None,) * (len(ctx.needs_input_grad) - 4)


class BitTreeConv(NamedTuple):
    """The arguments that the ops share; ``soft_table`` in the backward pass, ``candidates`` of learned leaves."""

    words: Tensor
    gates: Tensor
    leaves: Tensor
    geometry: ConvGeometry
    soft_table: Tensor | None = None
    candidates: Tensor | None = None

    @property
    def digits(self) -> int:
        """Binary digits that tell the positions of a window apart."""
        return (self.geometry.positions - 1).bit_length()

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height and width of the result."""
        return self.leaves.shape[1], *self.geometry.output_size(self.words.shape[2:])

    def unpacked(self, x: Tensor) -> TreeConv:
        """The same on floats: hard tables with soft slopes."""
        slopes = cast(Tensor, self.soft_table)
        return TreeConv(x, hard_table(self.gates, slopes.dtype), slopes, self.leaves, self.geometry, self.candidates)


def _fake(conv: BitTreeConv) -> tuple[Tensor, Tensor]:
    words, image = conv.words, conv.image
    rows, features = words.shape[0], math.prod(image)
    y, winner = (empty_words("bit_tree_conv", words, rows, n * features) for n in (1, conv.digits))
    return y.view(rows, *image), winner.view(rows, conv.digits, *image)


def _fake_backward(grad: Tensor, winner: Tensor, conv: BitTreeConv, need_grad_x: bool) -> tuple[Tensor, ...]:
    op = "bit_tree_conv_backward" if conv.candidates is None else "learned_bit_tree_conv_backward"
    x = grad.new_empty((grad.shape[0], *conv.words.shape[1:]), dtype=torch.float32)
    of_inputs = (
        library.empty_grad_x(op, x, need_grad_x),
        grad.new_empty(cast(Tensor, conv.soft_table).shape, dtype=torch.float32),
    )
    return of_inputs if conv.candidates is None else (*of_inputs, of_inputs[1].new_empty(conv.candidates.shape))


_FORWARD = "Tensor words, Tensor gates, Tensor leaves"
_FIXED = "Tensor words, Tensor gates, Tensor soft_table, Tensor leaves"
_LEARNED = f"{_FIXED}, Tensor candidates"
_BACKWARD = "Tensor grad, Tensor winner, ..., bool need_grad_x"


@convolution("bit_tree_conv(...) -> (Tensor, Tensor)", _FORWARD, BitTreeConv, _fake)
def forward_reference(conv: BitTreeConv) -> tuple[Tensor, Tensor]:
    """Words ``[rows, O, H', W']``, and the digits of the winner's position, ``[rows, digits, O, H', W']``."""
    words, leaves = conv.words, conv.leaves
    index = tree.leaf_rows(words.shape[1:], leaves, conv.geometry)
    # A row of zeros behind the others is what a leaf outside the image reads.
    rows = torch.nn.functional.pad(words.permute(1, 2, 3, 0).flatten(0, 2), (0, 0, 0, 1))
    nodes = rows.index_select(0, index.flatten()).view(*index.shape, words.shape[0])
    masks = -hard_table(conv.gates, torch.int64).view(leaves.shape[1], -1, 4, 1, 1)  # all bits, or none
    first = 0
    while (count := nodes.shape[1] // 2) > 0:
        nodes = lookup(masks[:, first : first + count].movedim(2, 0), nodes[:, 0::2], nodes[:, 1::2])
        first += count
    roots = tree.windows(nodes[:, 0], conv.geometry.output_size(words.shape[2:]), conv.geometry.pool)
    y = torch.zeros_like(roots[:, :, 0])
    digits = [torch.zeros_like(y) for _ in range(conv.digits)]
    for position, root in enumerate(roots.unbind(2)):
        for k, digit in enumerate(digits):
            if position >> k & 1:
                digit |= root & ~y
        y = y | root
    winner = torch.stack(digits, dim=2) if digits else y.new_empty((*y.shape[:2], 0, y.shape[2]))
    winner = winner.permute(3, 2, 0, 1).reshape(y.shape[2], len(digits), *conv.image)
    return y.permute(2, 0, 1).reshape(y.shape[2], *conv.image).contiguous(), winner.contiguous()


@convolution(f"bit_tree_conv_backward({_BACKWARD}) -> (Tensor, Tensor)", _FIXED, BitTreeConv, _fake_backward)
@convolution(
    f"learned_bit_tree_conv_backward({_BACKWARD}) -> (Tensor, Tensor, Tensor)", _LEARNED, BitTreeConv, _fake_backward
)
def backward_reference(grad: Tensor, winner: Tensor, conv: BitTreeConv, need_grad_x: bool) -> tuple[Tensor, ...]:
    """Gradients of the input (empty if not wanted), of the soft table and, with candidates, of shares; float32."""
    batch = grad.shape[0]
    x = unpack_bits_reference(conv.words.flatten(1), batch).float().view(batch, *conv.words.shape[1:])
    position = torch.zeros(grad.shape, dtype=torch.uint8, device=grad.device)
    for k in range(winner.shape[1]):
        digit = unpack_bits_reference(winner[:, k].flatten(1), batch).view(grad.shape)
        position |= digit.to(torch.uint8) << k
    return tree.backward_reference(grad, position, conv.unpacked(x), need_grad_x)
