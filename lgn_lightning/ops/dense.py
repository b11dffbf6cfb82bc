"""Dense layers of gates, group sums and the softmax over gates.

The references compute feature-major, on the transposed view ``[features, batch]``, with hand-written backward passes. A
gate is evaluated as c0 + c1·a + c2·b + c3·ab, where the coefficients c follow from its table (Petersen et al., 2022,
Table 1 collapsed to four numbers a gate).
"""

from typing import Any

import torch
from torch import Tensor

from lgn_lightning.gates import NUM_GATES
from lgn_lightning.ops import library
from lgn_lightning.ops.checks import check_floating, check_groups, check_matrix, check_table, check_wires
from lgn_lightning.ops.library import fake_layer_gradients, feature_major, sum_dtype

__all__ = ["group_sum", "hard_table", "logic", "logic_group_sum", "softmax_table"]


def hard_table(gates: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Gives the tables of gate ids, integer ``[n]``: ``[n, 4]``, each entry 0 or 1."""
    # From the bits of the ids and not from a cached tensor, which would have to outlive inference mode, tracing and
    # CUDA graphs, nor from a list, whose copy to a GPU would wait for it.
    shifts = torch.arange(3, -1, -1, device=gates.device)
    return (gates.long()[:, None] >> shifts & 1).to(dtype)


def softmax_table(logits: Tensor) -> Tensor:
    """Expected table of each gate under the softmax of its logits (Petersen et al., 2022, eq. 1).

    Float ``[n, 16]`` to ``[n, 4]``, entries t00, t01, t10, t11 in [0, 1].
    """
    if logits.ndim != 2 or logits.shape[1] != 16:
        raise ValueError(f"logits has shape {list(logits.shape)}, but softmax_table takes [gates, 16]")
    return torch.ops.lgn.softmax_table(logits)  # type: ignore[no-any-return]


def logic(x: Tensor, table: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Evaluates one layer of gates, y = t00(1−a)(1−b) + t01(1−a)b + t10·a(1−b) + t11·ab.

    Args:
        x: Inputs in [0, 1]: float ``[batch, in]``, any strides; feature-major is not copied.
        table: Tables ``[n, 4]``, float32 (float64 if ``x`` is).
        a: Index of each gate's first input, int32 ``[n]``, each below ``in``.
        b: Index of each gate's second input, likewise.

    Returns:
        ``[batch, n]`` in the dtype of ``x``, feature-major in memory.
    """
    _check_layer(x, table, a, b)
    return torch.ops.lgn.logic(x, table, a, b)  # type: ignore[no-any-return]


def group_sum(x: Tensor, k: int, tau: float = 1.0) -> Tensor:
    """Sums ``k`` equal groups of neighbouring features and divides by ``tau``.

    Floating point ``[batch, n]`` to ``[batch, k]``, float32 (float64 if ``x`` is); ``n`` must be divisible by ``k``.
    """
    check_matrix(x)
    check_floating(x)
    check_groups(x.shape[1], k)
    return torch.ops.lgn.group_sum(x, k, tau)  # type: ignore[no-any-return]


def logic_group_sum(x: Tensor, table: Tensor, a: Tensor, b: Tensor, k: int, tau: float = 1.0) -> Tensor:
    """:func:`group_sum` of :func:`logic` in one op, whose backward never expands the gradient of the sum."""
    _check_layer(x, table, a, b)
    check_groups(a.shape[0], k)
    return torch.ops.lgn.logic_group_sum(x, table, a, b, k, tau)  # type: ignore[no-any-return]


def _check_layer(x: Tensor, table: Tensor, a: Tensor, b: Tensor) -> None:
    check_matrix(x)
    check_floating(x)
    check_wires(a.shape[0], a, b)
    check_table(x, table, (a.shape[0], 4), f"wires [{a.shape[0]}]")


@library.op("softmax_table(Tensor logits) -> Tensor")
def softmax_table_reference(logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=1) @ _truth_tables(logits)


@library.op(
    "softmax_table_backward(Tensor grad, Tensor logits) -> Tensor", lambda grad, logits: logits.new_empty(logits.shape)
)
def softmax_table_backward_reference(grad: Tensor, logits: Tensor) -> Tensor:
    """From the gradient of the table ``[n, 4]`` to that of the logits ``[n, 16]``."""
    probability = torch.softmax(logits, dim=1)
    grad_probability = grad @ _truth_tables(logits).t()
    return probability * (grad_probability - (probability * grad_probability).sum(1, keepdim=True))


def _truth_tables(like: Tensor) -> Tensor:
    return hard_table(torch.arange(NUM_GATES, device=like.device), like.dtype)


@library.op(
    "logic(Tensor x, Tensor table, Tensor a, Tensor b) -> Tensor",
    lambda x, table, a, b: feature_major("logic", x, a.shape[0], x.dtype),
)
def logic_reference(x: Tensor, table: Tensor, a: Tensor, b: Tensor) -> Tensor:
    left, right = _operands(x, table, a, b)
    c0, c1, c2, c3 = _coefficients(table)
    return torch.addcmul(c2, c3, left).mul_(right).addcmul_(c1, left).add_(c0).to(x.dtype).t()


@library.op(
    "logic_backward(Tensor grad, Tensor x, Tensor table, Tensor a, Tensor b, bool need_grad_x) -> (Tensor, Tensor)",
    fake_layer_gradients("logic_backward"),
)
def logic_backward_reference(
    grad: Tensor, x: Tensor, table: Tensor, a: Tensor, b: Tensor, need_grad_x: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` (empty if not wanted, as for the first layer) and of ``table``, from ``grad [batch, n]``."""
    left, right = _operands(x, table, a, b)
    grad_rows = grad.t().to(table.dtype)
    grad_left, grad_right = grad_rows * left, grad_rows * right
    g = grad_rows.sum(1)
    ga, gb = grad_left.sum(1), grad_right.sum(1)
    gab = torch.linalg.vecdot(grad_left, right)
    grad_table = torch.stack((g - ga - gb + gab, gb - gab, ga - gab, gab), dim=1)
    if not need_grad_x:
        return x.new_empty((0,)), grad_table
    _, c1, c2, c3 = _coefficients(table)
    grad_x = torch.zeros(x.t().shape, dtype=table.dtype, device=x.device)
    grad_x.index_add_(0, a, torch.addcmul(c3 * grad_right, c1, grad_rows))
    grad_x.index_add_(0, b, torch.addcmul(c3 * grad_left, c2, grad_rows))
    return grad_x.to(x.dtype).t(), grad_table


def _operands(x: Tensor, table: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    rows = x.t()
    return rows.index_select(0, a).to(table.dtype), rows.index_select(0, b).to(table.dtype)


def _coefficients(table: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    t00, t01, t10, t11 = table.unsqueeze(-1).unbind(1)
    return t00, t10 - t00, t01 - t00, t11 - t10 - t01 + t00


@library.op("group_sum(Tensor x, int k, float tau) -> Tensor")
def group_sum_reference(x: Tensor, k: int, tau: float) -> Tensor:
    groups = x.t().reshape(k, x.shape[1] // k, x.shape[0])
    return (groups.sum(1, dtype=sum_dtype(x.dtype)) / tau).t().contiguous()


@library.op(
    "group_sum_backward(Tensor grad, int features, float tau, ScalarType dtype) -> Tensor",
    lambda grad, features, tau, dtype: feature_major("group_sum_backward", grad, features, dtype),
)
def group_sum_backward_reference(grad: Tensor, features: int, tau: float, dtype: torch.dtype) -> Tensor:
    """Gradient of ``x``, ``[batch, features]``, from ``grad [batch, k]``: a class's, for each of its gates."""
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be one of floating point, and is {dtype}")
    return (grad.t() / tau).to(dtype).repeat_interleave(features // grad.shape[1], dim=0).t()


@library.op(
    "logic_group_sum(Tensor x, Tensor table, Tensor a, Tensor b, int k, float tau) -> Tensor",
    lambda x, table, a, b, k, tau: x.new_empty((x.shape[0], k), dtype=sum_dtype(x.dtype)),
)
def logic_group_sum_reference(x: Tensor, table: Tensor, a: Tensor, b: Tensor, k: int, tau: float) -> Tensor:
    return group_sum_reference(logic_reference(x, table, a, b), k, tau)


@library.op(
    "logic_group_sum_backward(Tensor grad, Tensor x, Tensor table, Tensor a, Tensor b, float tau, bool need_grad_x)"
    " -> (Tensor, Tensor)",
    fake_layer_gradients("logic_group_sum_backward"),
)
def logic_group_sum_backward_reference(
    grad: Tensor, x: Tensor, table: Tensor, a: Tensor, b: Tensor, tau: float, need_grad_x: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` (empty if not wanted) and of ``table``, from ``grad [batch, k]``."""
    expanded = (grad.t() / tau).repeat_interleave(a.shape[0] // grad.shape[1], dim=0)
    return logic_backward_reference(expanded.t(), x, table, a, b, need_grad_x)


def _softmax_table_gradient(ctx: Any, grad: Tensor) -> Any:
    return library.backward("softmax_table_backward", grad, *ctx.saved_tensors)


def _group_sum_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.k, ctx.tau = inputs
    ctx.features, ctx.dtype = x.shape[1], x.dtype


def _group_sum_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    if torch.is_grad_enabled():  # the formula has derivatives of any order
        return group_sum_backward_reference(grad, ctx.features, ctx.tau, ctx.dtype), None, None
    return torch.ops.lgn.group_sum_backward(grad, ctx.features, ctx.tau, ctx.dtype), None, None


library.define_gradient("softmax_table", library.save_inputs, _softmax_table_gradient)
library.define_gradient("group_sum", _group_sum_setup, _group_sum_gradient)
library.define_layer_gradient("logic", 4)
library.define_layer_gradient("logic_group_sum", 6, numbers=[5])
