"""One layer of hard gates with a soft gradient: the form that every straight-through net falls back to.

:class:`~lgn_lightning.nn.LogicSequential` runs whole stacks of such layers as one op on packed bits, with equal values.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import dense, library
from lgn_lightning.ops.lut import lut_backward_reference, lut_reference

_FORMULAS: dict[str, tuple[Callable[..., Tensor], Callable[..., tuple[Tensor, Tensor]]]] = {
    "logic": (dense.logic_reference, dense.logic_backward_reference),
    "lut": (lut_reference, lut_backward_reference),
}


def layer_op(op: str, plain: bool) -> Callable[..., Tensor]:
    """The op of a layer, ``"logic"`` or ``"lut"``, or its formula in plain torch."""
    return _FORMULAS[op][0] if plain else cast(Callable[..., Tensor], getattr(ops, op))


def layer_gradients(op: str, plain: bool, *arguments: Any) -> tuple[Tensor, Tensor]:
    """Gradients of its inputs and table, from what its backward op takes, such as that of `ops.logic`."""
    if plain:
        return _FORMULAS[op][1](*arguments)
    return cast(tuple[Tensor, Tensor], library.backward(f"{op}_backward", *arguments))


def straight_through(
    op: str,
    x: Tensor,
    table: Tensor,
    hard: Tensor,
    wires: Sequence[Tensor],
    plain: bool = False,
    slopes: Tensor | None = None,
) -> Tensor:
    """Evaluates hard gates on bits; the backward pass is that of the op with ``table``.

    With bits u, v of a gate: y = g(u, v), ∂y/∂t_ij = [u = i][v = j], ∂y/∂u = t_1v − t_0v, ∂y/∂v = t_u1 − t_u0, and the
    rounding of the inputs counts as the identity.

    Args:
        op: ``"logic"`` or ``"lut"``: :func:`~lgn_lightning.ops.logic` or :func:`~lgn_lightning.ops.lut`.
        x: Inputs, floating point ``[batch, in]``; a bit is ``x > 0.5``. The result, 0 or 1, has its dtype.
        table: Tables ``[n, 2^k]`` of the backward pass, float32 (float64 if ``x`` is).
        hard: Tables of the gates of the forward pass, 0 or 1, or NaN where there is none.
        wires: Indices of the inputs, as the op takes them.
        plain: Whether to compute by the formula in plain torch.
        slopes: ``[k, n, 2^k]``, by what the inputs' gradients are instead: ∂y/∂u for each entry that the bits address.
    """
    return cast(Tensor, _StraightThrough.apply(op, plain, x, table, hard, slopes, *wires))


def round_to_bits(x: Tensor) -> Tensor:
    """1 where ``x > 0.5``, NaN where ``x`` is, else 0; the gradient passes as if nothing had been rounded."""
    return cast(Tensor, _RoundToBits.apply(x))


class _StraightThrough(torch.autograd.Function):
    """An op on bits and hard tables, with the gradient that it has with soft ones, or slopes of its inputs by table."""

    @staticmethod
    def forward(
        ctx: Any, op: str, plain: bool, x: Tensor, table: Tensor, hard: Tensor, slopes: Tensor | None, *wires: Tensor
    ) -> Tensor:
        bits = x.clamp(0, 1).round()  # 0.5 to 0, and NaN stays
        ctx.save_for_backward(bits, table, slopes, *wires)
        ctx.op, ctx.plain = op, plain
        return layer_op(op, plain)(bits, hard, *wires)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        bits, table, slopes, *wires = ctx.saved_tensors
        need_x, need_table = ctx.needs_input_grad[2:4]
        grad_x = grad_table = None
        if slopes is None or need_table:
            by_op = need_x and slopes is None
            grad_x, grad_table = layer_gradients(ctx.op, ctx.plain, grads[0], bits, table, *wires, by_op)
        if slopes is not None and need_x:
            grad_x = _by_slopes(grads[0], bits, slopes, wires[0].unbind(0) if ctx.op == "lut" else wires)
        none = [None] * (len(ctx.needs_input_grad) - 4)
        return None, None, grad_x if need_x else None, grad_table if need_table else None, *none


def _by_slopes(grad: Tensor, bits: Tensor, slopes: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    rows = bits.t()
    entry = torch.zeros(grad.t().shape, dtype=torch.int64, device=bits.device)  # that the bits address
    for index in inputs:
        entry.mul_(2).add_(rows.index_select(0, index).long())
    sums = torch.zeros(rows.shape, dtype=bits.dtype, device=bits.device)
    for slope, index in zip(slopes, inputs, strict=True):
        sums.index_add_(0, index, grad.t() * slope.to(bits.dtype).gather(1, entry))
    return sums.t()


class _RoundToBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(0, 1).round()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return cast(Tensor, grads[0])
