"""Convolution with trees of gates, fused with OR pooling, with fixed or learned leaves.

Every output channel is a complete binary tree of gates whose leaves are positions of the receptive field; a gate has
the same logits at all places of the image (Petersen et al., NeurIPS 2024, sec. 3.1). Pooling takes the maximum, the OR
of bits (sec. 3.2). The values in between are recomputed in the backward pass and never stored (sec. 3.3).

Of N = 2^depth leaves, nodes 0 … N-1 are the leaves and node N + j is gate j with the operands 2j and 2j + 1, so that
gate N - 2 is the root. Gate j of output channel o has row o·(N-1) + j of the table.

With learned leaves a step reads one of K candidates, and the gradient of the share of candidate k is
∂L/∂p_k = Σ ∂L/∂u · x[c_k] over samples and winning places, as in :mod:`lgn_lightning.ops.choices`. A candidate is the
number of its place in the receptive field, (channel · height + row) · width + column of the kernel.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lgn_lightning.ops import library
from lgn_lightning.ops.checks import check_candidates, check_floating, check_indices, check_table
from lgn_lightning.ops.tree_geometry import ConvGeometry, convolution

__all__ = ["learned_tree_conv", "logic_tree_conv"]


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
    """
    check_trees(x, table, leaves, geometry, soft_table)
    return cast(Tensor, torch.ops.lgn.logic_tree_conv(x, table, soft_table, leaves, *geometry)[0])


def learned_tree_conv(
    x: Tensor,
    table: Tensor,
    shares: Tensor,
    leaves: Tensor,
    candidates: Tensor,
    geometry: ConvGeometry,
    soft_table: Tensor | None = None,
) -> Tensor:
    """:func:`logic_tree_conv` at the ``leaves`` that were chosen, with the gradient of the candidates.

    Args:
        x: As there, like the result and all that is not named here.
        table: Likewise.
        shares: Share of each candidate, floating point ``[O, 2^depth, K]``, which receives the gradient; the values are
            those of ``leaves``.
        leaves: What was chosen.
        candidates: What leaves choose among, int32 ``[O, 2^depth, K]``: places of the receptive field.
        geometry: Likewise.
        soft_table: Likewise.
    """
    check_trees(x, table, leaves, geometry, soft_table)
    check_leaf_candidates(shares, leaves, candidates)
    return cast(Tensor, _LearnedTreeConv.apply(geometry, shares, x, table, soft_table, leaves, candidates))


class _LearnedTreeConv(torch.autograd.Function):
    """Not a formula registered with torch: the shares receive a gradient, but are no arguments of the op."""

    @staticmethod
    def forward(ctx: Any, geometry: ConvGeometry, shares: Tensor, *tensors: Tensor | None) -> Tensor:
        y, winner = torch.ops.lgn.learned_tree_conv(*tensors, *geometry)
        ctx.save_for_backward(winner, *tensors)
        ctx.geometry, ctx.dtype = geometry, shares.dtype
        return cast(Tensor, y)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        *of_tables, shares = _gradients(ctx, "learned_tree_conv_backward", grads[0], ctx.needs_input_grad[2:5])
        return None, cast(Tensor, shares).to(ctx.dtype), *of_tables, None, None


def check_trees(x: Tensor, table: Tensor, leaves: Tensor, geometry: ConvGeometry, soft_table: Tensor | None) -> None:
    """Refuses arguments of a convolution that do not fit one another."""
    if x.ndim != 4:
        raise ValueError(f"x has shape {list(x.shape)}, but the op takes [batch, channels, height, width]")
    check_floating(x)
    check_leaves(leaves)
    for name, given in (("table", table), ("soft_table", soft_table)):
        if given is not None:
            check_table(x, given, (leaves.shape[1] * (leaves.shape[2] - 1), 4), f"leaves {list(leaves.shape)}", name)
    geometry.check(x.shape[2:])


def check_leaves(leaves: Tensor) -> None:
    """Refuses leaves that are not int32 ``[3, O, 2^depth]``."""
    if leaves.ndim != 3 or leaves.shape[0] != 3 or leaves.shape[2] < 2 or leaves.shape[2] & (leaves.shape[2] - 1):
        raise ValueError(f"leaves has shape {list(leaves.shape)}, but must be [3, out_channels, 2^depth]")
    check_indices(leaves=leaves)


def check_leaf_candidates(shares: Tensor, leaves: Tensor, candidates: Tensor) -> None:
    """Refuses candidates that do not fit the leaves or their shares."""
    check_candidates(shares, candidates, leaves.shape[1:], f"leaves {list(leaves.shape)}")


def encode_places(leaves: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """The inverse of :func:`decode_places`."""
    channel, row, column = leaves.unbind(0)
    return (channel * kernel_size[0] + row) * kernel_size[1] + column


def decode_places(places: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Channel, row and column of places of a receptive field, ``[3, …]`` of the shape and dtype of ``places``."""
    height, width = kernel_size
    line = places // width
    return torch.stack((line // height, line % height, places % width))


def leaf_rows(image: Sequence[int], leaves: Tensor, geometry: ConvGeometry) -> Tensor:
    """Row of each leaf at each place, int64 ``[O, leaves, places]``, outside the image that behind the last."""
    check_leaves(leaves)
    size, stride, padding = image[1:], geometry.stride, geometry.padding
    height, width = geometry.places(size)
    channel, dy, dx = (part[:, :, None, None].long() for part in leaves)
    line = torch.arange(height, device=leaves.device)[:, None] * stride[0] - padding[0] + dy
    column = torch.arange(width, device=leaves.device) * stride[1] - padding[1] + dx
    inside = (line >= 0) & (line < size[0]) & (column >= 0) & (column < size[1])
    rows = (channel * size[0] + line) * size[1] + column
    return torch.where(inside, rows, math.prod(image)).flatten(2)


class TreeConv(NamedTuple):
    """The arguments that the ops share, as :func:`logic_tree_conv` has them; with ``shares``, autograd's gradient."""

    x: Tensor
    table: Tensor
    soft_table: Tensor | None
    leaves: Tensor
    geometry: ConvGeometry
    candidates: Tensor | None = None
    shares: Tensor | None = None

    def rows(self) -> Tensor:
        """The input as rows of samples; that of zeros behind them is what a leaf outside the image reads."""
        return torch.nn.functional.pad(self.x.permute(1, 2, 3, 0).flatten(0, 2).to(self.table.dtype), (0, 0, 0, 1))

    def read(self, rows: Tensor, leaves: Tensor) -> Tensor:
        """What leaves read at all places, ``[O, leaves, places, batch]``."""
        index = leaf_rows(self.x.shape[1:], leaves, self.geometry)
        return rows.index_select(0, index.flatten()).view(*index.shape, self.x.shape[0])

    def levels(self) -> list[tuple[Tensor, Tensor]]:
        """Operands of the gates of each level, ``[O, gates, places, batch]`` each; then the root's values, twice."""
        rows = self.rows()
        values = self.read(rows, self.leaves)
        if self.shares is not None and self.candidates is not None:
            none = (self.shares - self.shares.detach()).to(values.dtype)
            for places, share in zip(self.candidates.unbind(2), none.unbind(2), strict=True):
                leaves = decode_places(places, self.geometry.kernel_size)
                values = values + share[:, :, None, None] * self.read(rows, leaves)
        levels, first = [], 0
        while (gates := values.shape[1] // 2) > 0:
            left, right = values[:, 0::2], values[:, 1::2]
            levels.append((left, right))
            c0, c1, c2, c3 = self.coefficients(self.table, first, gates)
            values = c0 + c1 * left + (c2 + c3 * left) * right
            if self.soft_table is not None:
                c0, c1, c2, c3 = self.coefficients(self.soft_table, first, gates)
                soft = c0 + c1 * left + (c2 + c3 * left) * right
                values = values.detach() + (soft - soft.detach())
            first += gates
        return [*levels, (values, values)]

    def coefficients(self, table: Tensor, first: int, gates: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Those of gates ``first … first + gates - 1`` of every tree, ``[O, gates, 1, 1]`` each."""
        _, trees, leaves = self.leaves.shape
        t00, t01, t10, t11 = table.view(trees, leaves - 1, 4, 1, 1)[:, first : first + gates].unbind(2)
        return t00, t10 - t00, t01 - t00, t11 - t10 - t01 + t00


def windows(values: Tensor, size: tuple[int, int], pool: Sequence[int]) -> Tensor:
    """Sorts ``[O, places, batch]`` by pooling window, ``size`` of them: ``[O, windows, positions, batch]``."""
    split = values.reshape(values.shape[0], size[0], pool[0], size[1], pool[1], values.shape[2])
    return split.transpose(2, 3).reshape(values.shape[0], math.prod(size), math.prod(pool), values.shape[2])


def logic_tree_conv_reference(
    x: Tensor,
    table: Tensor,
    leaves: Tensor,
    geometry: ConvGeometry,
    soft_table: Tensor | None = None,
    candidates: Tensor | None = None,
    shares: Tensor | None = None,
) -> Tensor:
    """:func:`logic_tree_conv`, or with shares :func:`learned_tree_conv`, in plain torch, differentiated by autograd."""
    return forward_reference(TreeConv(x, table, soft_table, leaves, geometry, candidates, shares))[0]


def _fake(conv: TreeConv) -> tuple[Tensor, Tensor]:
    x = conv.x
    size = (conv.leaves.shape[1], *conv.geometry.output_size(x.shape[2:]))

    def image(dtype: torch.dtype) -> Tensor:
        return library.feature_major("logic_tree_conv", x, math.prod(size), dtype).view(x.shape[0], *size)

    winner = image(torch.uint8) if conv.geometry.positions > 1 else x.new_empty((0,), dtype=torch.uint8)
    return image(x.dtype), winner


def _fake_backward(grad: Tensor, winner: Tensor, conv: TreeConv, need_grad_x: bool) -> tuple[Tensor, ...]:
    of_inputs = (
        library.empty_grad_x("logic_tree_conv_backward", conv.x, need_grad_x),
        conv.table.new_empty(conv.table.shape),
    )
    return of_inputs if conv.candidates is None else (*of_inputs, conv.table.new_empty(conv.candidates.shape))


_FIXED = "Tensor x, Tensor table, Tensor? soft_table, Tensor leaves"
_LEARNED = f"{_FIXED}, Tensor candidates"
_BACKWARD = "Tensor grad, Tensor winner, ..., bool need_grad_x"


@convolution("logic_tree_conv(...) -> (Tensor, Tensor)", _FIXED, TreeConv, _fake)
def forward_reference(conv: TreeConv) -> tuple[Tensor, Tensor]:
    """Values ``[batch, O, H', W']`` and, of a pooling, the position of the first maximum in each window (uint8)."""
    x, geometry = conv.x, conv.geometry
    root = conv.levels()[-1][0][:, 0]
    size = geometry.output_size(x.shape[2:])
    image = (conv.leaves.shape[1], *size, x.shape[0])
    if geometry.positions == 1:
        return root.to(x.dtype).view(image).permute(3, 0, 1, 2), x.new_empty((0,), dtype=torch.uint8)
    y, winner = windows(root, size, geometry.pool).max(2)
    return y.to(x.dtype).view(image).permute(3, 0, 1, 2), winner.to(torch.uint8).view(image).permute(3, 0, 1, 2)


@convolution("learned_tree_conv(...) -> (Tensor, Tensor)", _LEARNED, TreeConv, _fake)
def _learned_forward_reference(conv: TreeConv) -> tuple[Tensor, Tensor]:
    """As with fixed leaves: only a GPU has to know that these are candidates, whose form is not made on the host."""
    fixed = (conv.x, conv.table, conv.soft_table, conv.leaves)
    return cast(tuple[Tensor, Tensor], torch.ops.lgn.logic_tree_conv(*fixed, *conv.geometry))


@convolution(f"logic_tree_conv_backward({_BACKWARD}) -> (Tensor, Tensor)", _FIXED, TreeConv, _fake_backward)
@convolution(f"learned_tree_conv_backward({_BACKWARD}) -> (Tensor, Tensor, Tensor)", _LEARNED, TreeConv, _fake_backward)
def backward_reference(grad: Tensor, winner: Tensor, conv: TreeConv, need_grad_x: bool) -> tuple[Tensor, ...]:
    """Gradients of ``x`` (empty if not wanted), of the table they pass through and of shares, ``[O, leaves, K]``."""
    x, leaves = conv.x, conv.leaves
    g = grad.permute(1, 2, 3, 0).flatten(1, 2).to(conv.table.dtype)
    if conv.geometry.positions > 1:
        at_winner = torch.zeros(*g.shape[:2], conv.geometry.positions, g.shape[2], dtype=g.dtype, device=g.device)
        at_winner.scatter_(2, winner.permute(1, 2, 3, 0).flatten(1, 2).long().unsqueeze(2), g.unsqueeze(2))
        split = at_winner.view(g.shape[0], *grad.shape[2:], *conv.geometry.pool, g.shape[2])
        g = split.transpose(2, 3).flatten(1, 4)
    slopes = conv.table if conv.soft_table is None else conv.soft_table
    first, parts = leaves.shape[2] - 1, []
    node = g.unsqueeze(1)
    for left, right in reversed(conv.levels()[:-1]):
        first -= left.shape[1]
        with_left, with_right = node * left, node * right
        s, sa, sb = (part.sum((2, 3)) for part in (node, with_left, with_right))
        sab = (with_left * right).sum((2, 3))
        parts.append(torch.stack((s - sa - sb + sab, sb - sab, sa - sab, sab), dim=2))
        _, c1, c2, c3 = conv.coefficients(slopes, first, left.shape[1])
        node = torch.stack((c1 * node + c3 * with_right, c2 * node + c3 * with_left), dim=2).flatten(1, 2)
    grads = (x.new_empty((0,)), torch.cat(parts[::-1], dim=1).flatten(0, 1))
    if need_grad_x:
        rows = torch.zeros(math.prod(x.shape[1:]) + 1, x.shape[0], dtype=node.dtype, device=x.device)
        rows.index_add_(0, leaf_rows(x.shape[1:], leaves, conv.geometry).flatten(), node.flatten(0, 2))
        grads = (rows[:-1].view(*x.shape[1:], x.shape[0]).to(x.dtype).permute(3, 0, 1, 2), grads[1])
    if conv.candidates is None:
        return grads
    values, shares = conv.rows(), []
    for places in conv.candidates.unbind(2):  # one after the other: the values of all would be K times the activations
        read = conv.read(values, decode_places(places, conv.geometry.kernel_size))
        shares.append((node * read).sum((2, 3)))
    return *grads, torch.stack(shares, dim=2)


def _gradients(ctx: Any, op: str, grad: Tensor, needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Gradients of x, table and soft_table where they are needed, and what else the op gives."""
    need_x, need_table, need_soft = needed
    saved = ctx.saved_tensors  # once: each reading runs the hooks of saved tensors
    grad_x, grad_table, *others = library.backward(op, grad, *saved, *ctx.geometry, need_x)
    of_table = grad_table if need_table and saved[3] is None else None  # else it is straight-through
    return grad_x if need_x else None, of_table, grad_table if need_soft else None, *others


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, table, soft_table, leaves, *ctx.geometry = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], x, table, soft_table, leaves)


def _gradient(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    return *_gradients(ctx, "logic_tree_conv_backward", grad, ctx.needs_input_grad[:3]), *(None,) * 5


library.define_gradient("logic_tree_conv", _setup, _gradient)
