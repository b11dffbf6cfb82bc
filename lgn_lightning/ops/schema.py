"""Schemas of the ``lgn::`` ops, with their reference kernel, fake kernel and autograd formula.

The native extension only adds kernels for a device to these schemas, so shapes, gradients and documentation exist once.
Until it is loaded every op runs its Python kernel below, whose first call asks the loader for the native one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lgn_lightning.ops import loader, reference

LIBRARY = torch.library.Library("lgn", "DEF")  # type: ignore[no-untyped-call]
#: The word of each number of packed samples.
WORDS = {8: torch.int8, 16: torch.int16, 32: torch.int32, 64: torch.int64}


def word_dtype(bits: int) -> torch.dtype:
    """Gives the integer dtype that holds ``bits`` packed samples.

    Raises:
        ValueError: If ``bits`` is not 8, 16, 32 or 64.
    """
    if bits not in WORDS:
        raise ValueError(f"bits is {bits}, but samples are packed into words of 8, 16, 32 or 64 bits")
    return WORDS[bits]


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Gives the dtype in which values of ``dtype`` are summed: float32, and float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def has_native(name: str, device_type: str) -> bool:
    """Whether an op has a native kernel on a device; builds and loads the extension on the first call."""
    return loader.ensure_loaded(device_type) and torch._C._dispatch_has_kernel_for_dispatch_key(
        f"lgn::{name}", device_type.upper()
    )


def define(schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Defines one op: its schema, the kernel of last resort and the shape function."""
    name = schema.split("(", 1)[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]

    def first_call(*args: Any) -> Any:
        device = next(arg for arg in args if isinstance(arg, Tensor)).device.type
        if has_native(name, device):
            return getattr(torch.ops.lgn, name)(*args)
        if torch.is_autocast_enabled(device):
            # The kernel runs below autocast's dispatch key, but its own calls would enter it again and lose precision.
            with torch.autocast(device, enabled=False):
                return kernel(*args)
        return kernel(*args)

    LIBRARY.impl(name, first_call, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"lgn::{name}", fake, lib=LIBRARY)


def backward(name: str, *args: Any) -> Any:
    """Calls the op ``name`` in a backward pass; its results cannot be differentiated again, and say so when they are.

    All formulas call their op by this: torch would take a second derivative for zero, with a warning.
    """
    op = getattr(torch.ops.lgn, name)
    if not torch.is_grad_enabled():  # without create_graph=True
        return op(*args)
    with torch.no_grad():
        results = op(*args)
    return _marked(
        results, name.removesuffix("_backward"), [tensor for tensor in _tensors(args) if tensor.requires_grad]
    )


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    nested = [_tensors(value) if isinstance(value, (list, tuple)) else [value] for value in values]
    return [value for part in nested for value in part if isinstance(value, Tensor)]


def _marked(results: Any, name: str, roots: list[Tensor]) -> Any:
    if isinstance(results, Tensor):
        return _Once.apply(name, results, *roots)
    return type(results)(_marked(result, name, roots) for result in results)


class _Once(torch.autograd.Function):
    """The identity on a first derivative, which depends on the roots in ways that have no kernels."""

    @staticmethod
    def forward(ctx: Any, name: str, result: Tensor, *roots: Tensor) -> Tensor:
        ctx.name = name
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            f"lgn::{ctx.name} is not differentiable twice, as a gradient of its gradient would need; build the layers "
            "with implementation='python'"
        )


def feature_major(op: str, like: Tensor, features: int, dtype: torch.dtype, samples: int | None = None) -> Tensor:
    """An empty result of an op in the memory format of its kernel: natively, rows are padded to cache lines."""
    samples = like.shape[0] if samples is None else samples
    if not has_native(op, like.device.type):
        return like.new_empty((features, samples), dtype=dtype).t()
    line = 64 // dtype.itemsize
    pitch = (torch.sym_max(samples, 1) + line - 1) // line * line
    return like.new_empty_strided((samples, features), (1, pitch), dtype=dtype)


def _words(op: str, like: Tensor, rows: int, features: int, dtype: torch.dtype) -> Tensor:
    if has_native(op, like.device.type):
        return feature_major(op, like, features, dtype, rows)
    return like.new_empty((rows, features), dtype=dtype)


def empty_grad_x(op: str, x: Tensor, needed: bool) -> Tensor:
    """An empty gradient of ``x`` in the memory format of the op's kernel; of no elements if it is not needed."""
    if not needed:
        return x.new_empty((0,))
    return feature_major(op, x, math.prod(x.shape[1:]), x.dtype).view(x.shape)


define(
    "softmax_table(Tensor logits) -> Tensor",
    reference.softmax_table,
    lambda logits: logits.new_empty((logits.shape[0], 4)),
)
define(
    "softmax_table_backward(Tensor grad, Tensor logits) -> Tensor",
    reference.softmax_table_backward,
    lambda grad, logits: logits.new_empty(logits.shape),
)
define(
    "logic(Tensor x, Tensor table, Tensor a, Tensor b) -> Tensor",
    reference.logic,
    lambda x, table, a, b: feature_major("logic", x, a.shape[0], x.dtype),
)
define(
    "logic_backward(Tensor grad, Tensor x, Tensor table, Tensor a, Tensor b, bool need_grad_x) -> (Tensor, Tensor)",
    reference.logic_backward,
    lambda grad, x, table, a, b, need_grad_x: (
        empty_grad_x("logic_backward", x, need_grad_x),
        table.new_empty(table.shape),
    ),
)
define(
    "group_sum(Tensor x, int k, float tau) -> Tensor",
    reference.group_sum,
    lambda x, k, tau: x.new_empty((x.shape[0], k), dtype=sum_dtype(x.dtype)),
)
define(
    "logic_group_sum(Tensor x, Tensor table, Tensor a, Tensor b, int k, float tau) -> Tensor",
    reference.logic_group_sum,
    lambda x, table, a, b, k, tau: x.new_empty((x.shape[0], k), dtype=sum_dtype(x.dtype)),
)
define(
    "logic_group_sum_backward(Tensor grad, Tensor x, Tensor table, Tensor a, Tensor b, float tau, bool need_grad_x)"
    " -> (Tensor, Tensor)",
    reference.logic_group_sum_backward,
    lambda grad, x, table, a, b, tau, need_grad_x: (
        empty_grad_x("logic_group_sum_backward", x, need_grad_x),
        table.new_empty(table.shape),
    ),
)
define(
    "pack_bits(Tensor x, int bits) -> Tensor",
    reference.pack_bits,
    lambda x, bits: _words("pack_bits", x, -(-x.shape[0] // bits), x.shape[1], word_dtype(bits)),
)
define(
    "unpack_bits(Tensor x, int batch) -> Tensor",
    reference.unpack_bits,
    lambda x, batch: x.new_empty((batch, x.shape[1]), dtype=torch.bool),
)
define(
    "logic_packed(Tensor x, Tensor gates, Tensor a, Tensor b) -> Tensor",
    reference.logic_packed,
    lambda x, gates, a, b: _words("logic_packed", x, x.shape[0], a.shape[0], x.dtype),
)
define(
    "group_sum_packed(Tensor x, int k, int batch) -> Tensor",
    reference.group_sum_packed,
    lambda x, k, batch: x.new_empty((batch, k), dtype=torch.int32),
)


def _softmax_table_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _softmax_table_grad(ctx: Any, grad: Tensor) -> Tensor:
    return backward("softmax_table_backward", grad, *ctx.saved_tensors)  # type: ignore[no-any-return]


def _logic_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _logic_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    need_x, need_table = ctx.needs_input_grad[:2]
    grad_x, grad_table = backward("logic_backward", grad, *ctx.saved_tensors, need_x)
    return grad_x if need_x else None, grad_table if need_table else None, None, None


def _group_sum_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.k, ctx.tau = inputs
    ctx.features, ctx.dtype = x.shape[1], x.dtype


def _group_sum_grad(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    rows = (grad.t() / ctx.tau).to(ctx.dtype)
    return rows.repeat_interleave(ctx.features // ctx.k, dim=0).t(), None, None


def _logic_group_sum_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, _, ctx.tau = inputs
    ctx.save_for_backward(*tensors)


def _logic_group_sum_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
    need_x, need_table = ctx.needs_input_grad[:2]
    grad_x, grad_table = backward("logic_group_sum_backward", grad, *ctx.saved_tensors, ctx.tau, need_x)
    return grad_x if need_x else None, grad_table if need_table else None, None, None, None, None


for _name, _grad, _setup in (
    ("softmax_table", _softmax_table_grad, _softmax_table_setup),
    ("logic", _logic_grad, _logic_setup),
    ("group_sum", _group_sum_grad, _group_sum_setup),
    ("logic_group_sum", _logic_group_sum_grad, _logic_group_sum_setup),
):
    torch.library.register_autograd(f"lgn::{_name}", _grad, setup_context=_setup, lib=LIBRARY)
