"""One layer of hard gates with a soft gradient: the form that every straight-through net falls back to.

:class:`~lgn_lightning.nn.LogicSequential` runs whole stacks of such layers as one op on packed bits, with equal values.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import reference, schema


def straight_through(
    x: Tensor, table: Tensor, gates: Tensor, a: Tensor, b: Tensor, implementation: str | None = None
) -> Tensor:
    """Evaluates hard gates on bits; the backward pass is that of :func:`~lgn_lightning.ops.logic` with ``table``.

    With bits u, v of a gate: y = g(u, v), ∂y/∂t_ij = [u = i][v = j], ∂y/∂u = t_1v − t_0v, ∂y/∂v = t_u1 − t_u0, and the
    rounding of the inputs counts as the identity.

    Args:
        x: Inputs, floating point ``[batch, in]``; a bit is ``x > 0.5``.
        table: Tables ``[n, 4]`` of the backward pass, float32 (float64 if ``x`` is).
        gates: Ids of the gates of the forward pass, uint8 ``[n]``.
        a: Index of each gate's first input, int32 ``[n]``.
        b: Index of each gate's second input, likewise.
        implementation: ``"python"`` for the formula in plain torch.

    Returns:
        0 or 1, ``[batch, n]`` in the dtype of ``x``.
    """
    return cast(Tensor, _StraightThrough.apply(x, table, gates, a, b, implementation == "python"))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, gates: Tensor, a: Tensor, b: Tensor, plain: bool) -> Tensor:
        bits = (x > 0.5).to(x.dtype)
        ctx.save_for_backward(bits, table, a, b)
        ctx.plain = plain
        return (reference.logic if plain else ops.logic)(bits, ops.hard_table(gates, table.dtype), a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        need_x, need_table = ctx.needs_input_grad[:2]
        backward: Any = reference.logic_backward if ctx.plain else partial(schema.backward, "logic_backward")
        grad_x, grad_table = backward(grads[0], *ctx.saved_tensors, need_x)
        return grad_x if need_x else None, grad_table if need_table else None, None, None, None, None
