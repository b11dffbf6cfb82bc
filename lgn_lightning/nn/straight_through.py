"""One layer of hard gates with a soft gradient: the form that every straight-through net falls back to.

:class:`~lgn_lightning.nn.LogicSequential` runs whole stacks of such layers as one op on packed bits, with equal values.
"""

from typing import Any, cast

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import dense, library
from lgn_lightning.ops.lut import lut_backward_reference, lut_reference

#: The ops of a layer by name, as formulas in plain torch, and their gradients.
FORMULAS: dict[str, tuple[Any, Any]] = {
    "logic": (dense.logic_reference, dense.logic_backward_reference),
    "lut": (lut_reference, lut_backward_reference),
}


def straight_through(
    x: Tensor, table: Tensor, hard: Tensor, a: Tensor, b: Tensor, implementation: str | None = None
) -> Tensor:
    """Evaluates hard gates on bits; the backward pass is that of :func:`~lgn_lightning.ops.logic` with ``table``.

    With bits u, v of a gate: y = g(u, v), ∂y/∂t_ij = [u = i][v = j], ∂y/∂u = t_1v − t_0v, ∂y/∂v = t_u1 − t_u0, and the
    rounding of the inputs counts as the identity.

    Args:
        x: Inputs, floating point ``[batch, in]``; a bit is ``x > 0.5``. The result, 0 or 1, has its dtype.
        table: Tables ``[n, 4]`` of the backward pass, float32 (float64 if ``x`` is).
        hard: Tables of the gates of the forward pass, 0 or 1, or NaN where there is none.
        a: Index of each gate's first input, int32 ``[n]``.
        b: Index of each gate's second input, likewise.
        implementation: ``"python"`` for the formula in plain torch.
    """
    return cast(Tensor, _StraightThrough.apply("logic", implementation == "python", x, table, hard, a, b))


def straight_through_lut(
    x: Tensor, table: Tensor, hard: Tensor, indices: Tensor, implementation: str | None = None
) -> Tensor:
    """The same with gates of k inputs, see :func:`~lgn_lightning.ops.lut`: ``table`` and ``hard`` are ``[n, 2^k]``."""
    return cast(Tensor, _StraightThrough.apply("lut", implementation == "python", x, table, hard, indices))


def round_to_bits(x: Tensor) -> Tensor:
    """1 where ``x > 0.5``, NaN where ``x`` is, else 0; the gradient passes as if nothing had been rounded."""
    return cast(Tensor, _RoundToBits.apply(x))


class _StraightThrough(torch.autograd.Function):
    """An op on bits and hard tables, with the gradient that it has with soft ones."""

    @staticmethod
    def forward(ctx: Any, name: str, plain: bool, x: Tensor, table: Tensor, hard: Tensor, *indices: Tensor) -> Tensor:
        bits = x.clamp(0, 1).round()  # 0.5 to 0, and NaN stays
        ctx.save_for_backward(bits, table, *indices)
        ctx.name, ctx.plain = name, plain
        op = FORMULAS[name][0] if plain else getattr(ops, name)
        return cast(Tensor, op(bits, hard, *indices))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        need_x, need_table = ctx.needs_input_grad[2:4]
        arguments = grads[0], *ctx.saved_tensors, need_x
        if ctx.plain:
            grad_x, grad_table = FORMULAS[ctx.name][1](*arguments)
        else:
            grad_x, grad_table = library.backward(f"{ctx.name}_backward", *arguments)
        none = [None] * (len(ctx.needs_input_grad) - 4)
        return None, None, grad_x if need_x else None, grad_table if need_table else None, *none


class _RoundToBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(0, 1).round()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return cast(Tensor, grads[0])
