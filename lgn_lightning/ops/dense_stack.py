"""A stack of dense layers of gates, with the group sum behind it, as one op on real values.

The values are those of :func:`~lgn_lightning.ops.logic` layer by layer. One call a stack saves what torch takes for a
dozen, and tables are made, and differentiated, where they are used.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lgn_lightning.ops import arguments, library
from lgn_lightning.ops.checks import check_floating, check_groups, check_matrix, check_table, check_wires
from lgn_lightning.ops.dense import (
    group_sum,
    group_sum_backward_reference,
    group_sum_reference,
    logic,
    logic_backward_reference,
    logic_group_sum,
    logic_group_sum_backward_reference,
    logic_group_sum_reference,
    logic_reference,
    softmax_table,
    softmax_table_backward_reference,
    softmax_table_reference,
)

__all__ = ["SoftLayer", "logic_stack"]

Tensors = list[Tensor]


class SoftLayer(NamedTuple):
    """A layer of gates on real values.

    Attributes:
        table: Tables ``[n, 4]``, float32 (float64 if the activations are).
        a: First inputs of the gates, int32 ``[n]``.
        b: Second inputs, likewise.
        factor: What the gradient that flows to the inputs is multiplied by.
        warped: Whether ``table`` holds logits ``[n, 4]`` and a gate is the sigmoid of their interpolation, as
            :class:`~lgn_lightning.nn.parametrizations.Warp` has it; float32 natively.
        of_logits: Whether ``table`` holds logits: ``[n, 4]``, whose sigmoids the table is, or ``[n, 16]``, those of a
            softmax over gates, see :func:`~lgn_lightning.ops.softmax_table`. They receive the gradient then.
    """

    table: Tensor
    a: Tensor
    b: Tensor
    factor: float = 1.0
    of_logits: bool = False
    warped: bool = False


def logic_stack(x: Tensor, layers: Sequence[SoftLayer], k: int = 0, tau: float = 1.0) -> Tensor:
    """Evaluates layers of gates one after another, and sums ``k`` equal groups of the last one's outputs.

    Args:
        x: Inputs in [0, 1]: float ``[batch, in]``, any strides; feature-major is not copied.
        layers: From the first to the last.
        k: Number of groups, the number of classes; 0 for the outputs themselves.
        tau: Temperature that the sums are divided by.

    Returns:
        Scores ``[batch, k]``, float32 (float64 if ``x`` is); without groups ``[batch, n]`` in the dtype of ``x``,
        feature-major in memory.
    """
    if torch.overrides.has_torch_function_unary(x):  # no autograd function asks a subclass for its values
        return torch.overrides.handle_torch_function(logic_stack, (x,), x, layers, k, tau)
    if not layers:
        raise ValueError("logic_stack takes at least one layer")
    check_matrix(x)
    check_floating(x)
    for layer in layers:
        _check(x, layer)
    if k:
        check_groups(len(layers[-1].a), k)
    bent = any(layer.warped for layer in layers)
    if torch.compiler.is_compiling() or not library.has_native("logic_stack", x.device.type):
        return _one_by_one(x, layers, k, tau)
    if bent and x.dtype != torch.float32:
        return _one_by_one(x, layers, k, tau)
    if x.dtype == torch.float64:  # sigmoids of doubles are torch's
        layers = [layer._replace(table=_table(layer), of_logits=False) for layer in layers]
    tables, a, b, factors, of_logits, warped = map(list, zip(*layers, strict=True))
    stack = _Stack(len(layers), k, tau, factors, of_logits, warped if bent else [])
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *tables)):
        return cast(Tensor, _LogicStack.apply(stack, x, *tables, *a, *b))
    return torch.ops.lgn.logic_stack(x, tables, a, b, of_logits, k, tau, False, stack.warped)[0]  # type: ignore[no-any-return]


def _check(x: Tensor, layer: SoftLayer) -> None:
    n = layer.a.shape[0]
    check_wires(n, layer.a, layer.b)
    entries = 16 if layer.of_logits and layer.table.shape[-1] == 16 else 4
    check_table(x, layer.table, (n, entries), f"wires [{n}]")


def _table(layer: SoftLayer) -> Tensor:
    if not layer.of_logits:
        return layer.table
    return softmax_table(layer.table) if layer.table.shape[1] == 16 else torch.sigmoid(layer.table)


def _one_by_one(x: Tensor, layers: Sequence[SoftLayer], k: int, tau: float) -> Tensor:
    """The same by the ops of single layers, where there is no kernel for a stack or torch compiles the net."""
    for i, layer in enumerate(layers):
        operands = scale_gradient(x, layer.factor), _table(layer), layer.a, layer.b
        last = bool(k) and i + 1 == len(layers)
        if layer.warped:
            x = torch.sigmoid(logic(*operands))
            x = group_sum(x, k, tau) if last else x
        else:
            x = logic_group_sum(*operands, k, tau) if last else logic(*operands)
    return x


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Gives ``x``; in the backward pass its gradient is multiplied by ``factor``."""
    return x if factor == 1.0 else cast(Tensor, _ScaleGradient.apply(x, factor))


class _ScaleGradient(torch.autograd.Function):
    """Identity whose backward multiplies by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


class _Stack(NamedTuple):
    """What is no tensor among the arguments of a stack."""

    layers: int
    k: int
    tau: float
    factors: list[float]
    of_logits: list[bool]
    warped: list[bool]


class _LogicStack(torch.autograd.Function):
    """The op with its gradient; one registered with torch would take several times as long to call."""

    @staticmethod
    def forward(ctx: Any, stack: _Stack, x: Tensor, *fields: Tensor) -> Tensor:
        n = stack.layers
        tables, a, b = fields[:n], fields[n : 2 * n], fields[2 * n :]
        y, kept = torch.ops.lgn.logic_stack(x, tables, a, b, stack.of_logits, stack.k, stack.tau, True, stack.warped)
        if any(stack.warped[-1:]) and not stack.k:
            kept = [*kept, y]
        ctx.stack = stack
        ctx.save_for_backward(x, *kept, *fields)
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        stack, n, need_x = ctx.stack, ctx.stack.layers, ctx.needs_input_grad[1]
        x, *saved = ctx.saved_tensors
        kept, fields = saved[: -3 * n], saved[-3 * n :]
        tables, a, b = fields[:n], fields[n : 2 * n], fields[2 * n :]
        rest = stack.of_logits, stack.k, stack.tau, stack.factors, need_x, stack.warped
        grad_x, grad_tables = library.backward("logic_stack_backward", grads[0], x, kept, tables, a, b, *rest)
        return None, grad_x if need_x else None, *grad_tables, *[None] * (2 * n)


def _fake(
    x: Tensor,
    given: Tensors,
    a: Tensors,
    b: Tensors,
    of_logits: list[bool],
    k: int,
    tau: float,
    keep: bool,
    warped: Sequence[bool] = (),
) -> tuple[Tensor, Tensors]:
    rows = [library.feature_major("logic_stack", x, wires.shape[0], x.dtype) for wires in a]
    y = x.new_empty((x.shape[0], k), dtype=library.sum_dtype(x.dtype)) if k else rows[-1]
    if not keep:
        return y, []
    tables, others = [], []
    for logits, used in zip(given, of_logits, strict=True):
        tables.append(logits.new_empty((logits.shape[0], 4) if used else (0,)))
        blocks = -(-logits.shape[0] // 16) * 16
        keeps = logits.shape[1] == 16 and logits.dtype == torch.float32
        others.append(logits.new_empty((blocks, 16) if keeps else (0,)))
    return y, [*rows[:-1], *tables, *others, *(rows[-1:] if k and any(warped[-1:]) else [])]


def _fake_backward(
    grad: Tensor, x: Tensor, kept: Tensors, given: Tensors, a: Tensors, b: Tensors, *rest: Any
) -> tuple[Tensor, Tensors]:
    grads = [tensor.new_empty(tensor.shape) for tensor in given]
    return library.empty_grad_x("logic_stack_backward", x, rest[4]), grads


@library.op(
    "logic_stack(Tensor x, Tensor[] given, Tensor[] a, Tensor[] b, bool[] of_logits, int k, float tau, bool keep,"
    " bool[] warped=[]) -> (Tensor, Tensor[])",
    _fake,
)
def logic_stack_reference(
    x: Tensor,
    given: Tensors,
    a: Tensors,
    b: Tensors,
    of_logits: list[bool],
    k: int,
    tau: float,
    keep: bool,
    warped: Sequence[bool] = (),
) -> tuple[Tensor, Tensors]:
    """Result, and what to keep: inputs of layers but the first, tables of logits, what only kernels keep, outputs."""
    _check_sums(k)
    inputs: Tensors = []
    for layer in zip(given, a, b, strict=True):
        arguments.check("logic_stack_layer", x, *layer)
    tables = [_table_reference(*pair) for pair in zip(given, of_logits, strict=True)]
    for table, first, second, bent in zip(tables, a, b, warped or [False] * len(a), strict=True):
        inputs.append(x)
        x = logic_reference(x, table, first, second)
        x = torch.sigmoid(x) if bent else x
    last = [x] if k and any(warped[-1:]) else []
    if last:
        y = group_sum_reference(x, k, tau)
    else:
        y = logic_group_sum_reference(inputs[-1], tables[-1], a[-1], b[-1], k, tau) if k else x
    made = [table if used else table.new_empty((0,)) for table, used in zip(tables, of_logits, strict=True)]
    return y, [*inputs[1:], *made, *(table.new_empty((0,)) for table in tables), *last] if keep else []


def _check_sums(k: int) -> None:
    if k < 0:
        raise ValueError(f"k must be a number of sums, or 0 for none, and is {k}")


def _table_reference(given: Tensor, of_logits: bool) -> Tensor:
    if not of_logits:
        return given
    return softmax_table_reference(given) if given.shape[1] == 16 else torch.sigmoid(given)


@library.op(
    "logic_stack_backward(Tensor grad, Tensor x, Tensor[] kept, Tensor[] given, Tensor[] a, Tensor[] b,"
    " bool[] of_logits, int k, float tau, float[] factors, bool need_grad_x, bool[] warped=[]) -> (Tensor, Tensor[])",
    _fake_backward,
)
def logic_stack_backward_reference(
    grad: Tensor,
    x: Tensor,
    kept: Tensors,
    given: Tensors,
    a: Tensors,
    b: Tensors,
    of_logits: list[bool],
    k: int,
    tau: float,
    factors: list[float],
    need_grad_x: bool,
    warped: Sequence[bool] = (),
) -> tuple[Tensor, Tensors]:
    """Gradients of ``x`` (empty if not wanted) and of what was given for the tables."""
    _check_sums(k)
    grads: Tensors = []
    n = len(given)
    inputs, outputs = [x, *kept[: n - 1]], [*kept[: n - 1], *kept[3 * n - 1 :]]
    layers = list(zip(inputs, given, a, b, of_logits, factors, strict=True))
    for number, (values, tensor, first, second, used, factor) in reversed(list(enumerate(layers))):
        table = _table_reference(tensor, used)
        operands = values, table, first, second
        wanted = need_grad_x or number > 0
        sums = bool(k) and number + 1 == n
        if warped and warped[number]:
            y = outputs[number]
            grad = group_sum_backward_reference(grad, y.shape[1], tau, y.dtype) if sums else grad
            grad, of_table = logic_backward_reference(grad * y * (1 - y), *operands, wanted)
        elif sums:
            grad, of_table = logic_group_sum_backward_reference(grad, *operands, tau, wanted)
        else:
            grad, of_table = logic_backward_reference(grad, *operands, wanted)
        grad = grad * factor
        if used and tensor.shape[1] == 16:
            of_table = softmax_table_backward_reference(of_table, tensor)
        elif used:
            of_table = of_table * table * (1 - table)
        grads.insert(0, of_table)
    return grad, grads
