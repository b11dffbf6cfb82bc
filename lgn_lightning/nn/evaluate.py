"""What a layer of gates computes of its inputs, as its sampler wants it: soft, warped, or hard with a soft gradient."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lgn_lightning.nn.gate_layer import table_dtype
from lgn_lightning.nn.samplers import GateSample
from lgn_lightning.nn.straight_through import layer_op, round_to_bits, straight_through

#: From outputs, inputs and table of a layer to the same outputs, with the gradient of what chose its wires.
Learn = Callable[[Tensor, Tensor, Tensor], Tensor]


def evaluate(
    op: str,
    x: Tensor,
    sample: GateSample,
    hard: Tensor | None,
    wires: Sequence[Tensor],
    plain: bool = False,
    learn: Learn | None = None,
) -> Tensor:
    """Evaluates one layer of gates on floats.

    Args:
        op: ``"logic"`` or ``"lut"``.
        x: Inputs ``[batch, in]``.
        sample: What the sampler gave.
        hard: Tables of ``sample.gates``, if there are any, 0 or 1, or NaN where there is none.
        wires: Indices of the inputs, as the op takes them.
        plain: Whether to compute by the formula in plain torch.
        learn: Gives the outputs the gradient of the choice of wires.
    """
    table = sample.table.to(table_dtype(x.dtype))
    run = layer_op(op, plain)
    if hard is not None:
        hard = hard.to(table.dtype)
        if sample.slopes is not None:
            return straight_through(op, x, table, hard, wires, plain, sample.slopes.to(table.dtype))
        if not sample.warped:
            y = straight_through(op, x, table, hard, wires, plain)
            return y if learn is None else learn(y, (x > 0.5).to(x.dtype), table)
        x = round_to_bits(x)
    y = run(x, table, *wires)
    if learn is not None:
        y = learn(y, x, table)
    if not sample.warped:
        return y
    if sample.noise:
        y = y + sample.noise * _logistic(y)
    values = None if hard is None or sample.noise else run(x.detach(), hard, *wires)
    if plain:
        soft = y.sigmoid()
        if hard is None:
            return soft
        return (soft.detach().round() if values is None else values) + (soft - soft.detach())
    return cast(Tensor, _Sigmoid.apply(y, values, hard is not None))


class _Sigmoid(torch.autograd.Function):
    """The sigmoid, in the memory format of its input; or given values, or its rounding, with the gradient of it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, values: Tensor | None, rounded: bool) -> Tensor:
        soft = torch.sigmoid(z, out=_empty_like(z))
        ctx.save_for_backward(soft)
        if not rounded:
            return soft
        return soft.round() if values is None else values

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (soft,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # of create_graph=True
            return torch.ops.aten.sigmoid_backward(grads[0], soft), None, None
        return torch.ops.aten.sigmoid_backward(grads[0], soft, grad_input=_empty_like(soft)), None, None


def _empty_like(x: Tensor) -> Tensor:
    """Empty, with its strides, gaps between rows included, which ``empty_like`` would close."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)


def _logistic(like: Tensor) -> Tensor:
    """Logistic noise: the difference of two Gumbel draws."""
    return torch.logit(torch.rand_like(like, dtype=torch.float32), eps=1e-7).to(like.dtype)
