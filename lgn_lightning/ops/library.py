"""How an op ``lgn::name`` comes to be: its schema, reference kernel, fake kernel and gradient, and its native kernels.

The native extension only adds kernels for a device to these schemas, so shapes, gradients and documentation exist once.
Until it is loaded an op runs its reference, whose first call asks the loader for the native kernels.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from lgn_lightning.ops import arguments, loader

Reference = TypeVar("Reference", bound=Callable[..., Any])

LIBRARY = torch.library.Library("lgn", "DEF")  # type: ignore[no-untyped-call]


def has_native(name: str, device_type: str) -> bool:
    """Whether an op has a native kernel on a device; builds and loads the extension on the first call."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return loader.ensure_loaded(device_type) and has_kernel(f"lgn::{name}", device_type.upper())


def op(schema: str, fake: Callable[..., Any] | None = None) -> Callable[[Reference], Reference]:
    """Defines an op by its kernel in plain torch, its oracle in tests and the fallback without a native kernel.

    ``schema`` is name, arguments and results, as torch writes them. ``fake`` gives empty results in the memory format
    of the native kernels; if not given, it is the reference's.
    """
    name = schema.split("(", 1)[0]
    types = [str(argument.type) for argument in torch._C.parse_schema(f"lgn::{schema}").arguments]
    tensors = [i for i, type_ in enumerate(types) if type_ in ("Tensor", "Optional[Tensor]")]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]

    def of_reference(reference: Reference) -> Reference:
        def first_call(*args: Any) -> Any:
            arguments.check(name, *(args[i] if i < len(args) else None for i in tensors))
            device = args[tensors[0]].device.type
            if has_native(name, device):
                return getattr(torch.ops.lgn, name)(*args)
            if torch.is_autocast_enabled(device):
                # The kernel runs below autocast's dispatch key, but its calls would enter it again and lose precision.
                with torch.autocast(device, enabled=False):
                    return reference(*args)
            return reference(*args)

        LIBRARY.impl(name, first_call, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]

        def empty(*args: Any) -> Any:
            if len({tensor.device for tensor in _tensors(args)}) > 1:  # one is on the meta device
                raise RuntimeError(
                    f"{name}: tensors are on several devices; move the module and its input to one device"
                )
            return (fake or reference)(*args)

        torch.library.register_fake(f"lgn::{name}", empty, lib=LIBRARY)
        return reference

    return of_reference


def define_gradient(name: str, setup: Callable[..., None], formula: Callable[..., Any]) -> None:
    """Defines the gradient of an op: what is kept of a call, and the formula of the backward pass."""
    torch.library.register_autograd(f"lgn::{name}", formula, setup_context=setup, lib=LIBRARY)


def define_layer_gradient(name: str, arity: int, numbers: Sequence[int] = ()) -> None:
    """Defines the gradient of a layer, whose first inputs are x and its table, by the op ``name_backward``.

    That op takes the gradient, the tensors, those of the ``arity`` inputs that are ``numbers`` and whether the gradient
    of x is needed, and gives the gradients of x and of the table.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
        ctx.numbers = [inputs[i] for i in numbers]

    def formula(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        need_x, need_table = ctx.needs_input_grad[:2]
        grad_x, grad_table = backward(f"{name}_backward", grad, *ctx.saved_tensors, *ctx.numbers, need_x)
        return grad_x if need_x else None, grad_table if need_table else None, *(None,) * (arity - 2)

    define_gradient(name, setup, formula)


def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keeps all inputs of an op, which are tensors, for its backward pass."""
    ctx.save_for_backward(*inputs)


def backward(name: str, *args: Any) -> Any:
    """Calls the op ``name`` in a backward pass; an attempt to differentiate its results again is an error.

    All formulas call their op by this: torch would take a second derivative for zero, with a warning.
    """
    op = getattr(torch.ops.lgn, name)
    if not torch.is_grad_enabled():  # without create_graph=True
        return op(*args)
    with torch.no_grad():
        results = op(*args)
    roots = [tensor for tensor in _tensors(args) if tensor.requires_grad]
    return _marked(results, name.removesuffix("_backward"), roots)


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


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Gives the dtype in which values of ``dtype`` are summed: float32, and float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def feature_major(op: str, like: Tensor, features: int, dtype: torch.dtype, samples: int | None = None) -> Tensor:
    """An empty result of an op in the memory format of its kernel: natively, rows are padded to cache lines."""
    samples = like.shape[0] if samples is None else samples
    if not has_native(op, like.device.type):
        return like.new_empty((features, samples), dtype=dtype).t()
    line = 64 // dtype.itemsize
    pitch = (torch.sym_max(samples, 1) + line - 1) // line * line
    return like.new_empty_strided((samples, features), (1, pitch), dtype=dtype)


def empty_grad_x(op: str, x: Tensor, needed: bool) -> Tensor:
    """An empty gradient of ``x`` in the memory format of the op's kernel; of no elements if it is not needed."""
    if not needed:
        return x.new_empty((0,))
    return feature_major(op, x, math.prod(x.shape[1:]), x.dtype).view(x.shape)


def fake_layer_gradients(op: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """The fake kernel of a layer's backward op, see :func:`define_layer_gradient`."""
    return lambda grad, x, table, *rest: (empty_grad_x(op, x, rest[-1]), table.new_empty(table.shape))
