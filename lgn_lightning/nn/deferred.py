"""Layers whose outputs wait for what comes next, so that nets of one's own run as fast as a `LogicSequential`.

Inside `deferring`, a layer gives a `Deferred` in place of its output. A following layer of gates joins it; a group sum
runs all of them at once, on packed bits if they can. Any function of torch computes it first, so every net is right.

A training step of ``sums(second(first(x)))``:

1. ``first`` and ``second`` call `defer`: nothing is computed, and the output of ``second`` has that of ``first`` as its
   source.
2. ``sums`` calls `finish`, which goes back through the sources and runs all three modules on ``x``. Gradients go the
   usual way through what that gives; the nodes of `_Waiting` are never reached.
3. If something else reads the output of ``first``, such as ``+`` or ``torch.cat``, `Deferred.__torch_function__`
   computes it, once, and hands on the plain tensor (`Deferred.computed`).
4. Another autograd function is handed the `Deferred` itself. What it does with it computes it as in 3, but its gradient
   comes to `_Waiting`, which computes the module anew and differentiates that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

Run = Callable[[Sequence[nn.Module], Any], Any]
_run: ContextVar[Run | None] = ContextVar("_run", default=None)
#: What is known of an output that is not computed.
_KNOWN = frozenset(("shape", "ndim", "dtype", "device", "size", "dim", "numel", "__len__", "is_cuda", "layout"))


@contextmanager
def deferring(run: Run | None) -> Iterator[None]:
    """Lets layers wait within the block; ``run`` runs modules that follow one another, None ends the waiting."""
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


def is_deferring() -> bool:
    """Whether layers wait."""
    return not torch.compiler.is_compiling() and _run.get() is not None


def hooked(*modules: nn.Module) -> bool:
    """Whether someone wants to see what goes through one of the modules."""
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules)


def defer(module: nn.Module, x: Any, shape: Callable[[], Sequence[int]], dtype: torch.dtype | None) -> Tensor | None:
    """The output of a module in training, of a shape, not computed yet; None where it is to be computed at once.

    Without a dtype it has that of ``x``, if it is floating point.
    """
    if torch.compiler.is_compiling() or not isinstance(x, Tensor) or not module.training or hooked(module):
        return None
    run = _run.get()
    if run is None or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return None  # what a checkpoint computes anew must be computed alike
    return Deferred.of(module, x, shape(), dtype or (x.dtype if x.dtype.is_floating_point else torch.float32), run)


def finish(module: nn.Module, x: Any) -> Tensor | None:
    """What a last module gives of a deferred output, run with all layers that wait; None if ``x`` is none of these."""
    if not isinstance(x, Deferred) or x.computed is not None or hooked(module):
        return None
    modules: list[nn.Module] = [module]
    source: Tensor = x
    while isinstance(source, Deferred) and source.computed is None:
        modules.insert(0, source.module)
        source = source.source
    with deferring(None):
        return cast(Tensor, x.run(modules, _value(source)))


class Deferred(Tensor):
    """The output of a module that is not computed yet, of its shape; its numbers mean nothing."""

    module: nn.Module
    source: Tensor
    run: Run
    computed: Tensor | None

    @classmethod
    def of(cls, module: nn.Module, x: Tensor, shape: Sequence[int], dtype: torch.dtype, run: Run) -> Deferred:
        """What a module would give of ``x``, which may be deferred itself."""
        blank = torch.zeros((), dtype=dtype, device=x.device).expand(tuple(shape))
        waiting = _Waiting.apply(run, module, x, blank, *module.parameters())
        deferred = cast(Deferred, waiting.as_subclass(cls))
        deferred.module, deferred.source, deferred.run, deferred.computed = module, x, run, None
        return deferred

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        name = func.__self__.__name__ if name == "__get__" else name
        if name in ("flatten", "view", "reshape") and isinstance(args[0], cls) and args[0].computed is None:
            flat = args[0].flattened(func, args, kwargs or {})
            if flat is not None:
                return flat
        if name not in _KNOWN:
            args, kwargs = tree_map(_value, args), tree_map(_value, kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs or {})

    def flattened(self, func: Any, args: Any, kwargs: Any) -> Tensor | None:
        """The output with all features of a sample in one dimension, deferred; None if ``func`` does another thing."""
        with torch._C.DisableTorchFunctionSubclass():
            shape, batch = func(*args, **kwargs).shape, len(self)
            if self.ndim <= 2 or tuple(shape) != (batch, self.numel() // max(batch, 1)):
                return None
        return Deferred.of(nn.Flatten(), self, shape, self.dtype, self.run)


def computed(x: Any) -> Any:
    """Tensors themselves, and deferred ones computed."""
    return tree_map(_value, x)


def _value(x: Any) -> Any:
    """The value itself, computed if it was not."""
    if not isinstance(x, Deferred):
        return x
    if x.computed is None:
        source = _value(x.source)
        with deferring(None), torch.enable_grad():
            x.computed = x.run([x.module], source)
    return x.computed


class _Waiting(torch.autograd.Function):
    """Node of a deferred output in the graph: what a custom autograd function, which no function mode sees, reads."""

    @staticmethod
    def forward(ctx: Any, run: Run, module: nn.Module, x: Tensor, blank: Tensor, *parameters: Tensor) -> Tensor:
        ctx.run, ctx.module, ctx.x, ctx.parameters = run, module, x, parameters
        return blank.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x = _value(ctx.x).detach()
        x = x.requires_grad_() if x.is_floating_point() else x
        wanted = [part for part in (x, *ctx.parameters) if part.requires_grad]
        with torch.enable_grad(), deferring(None):
            found = torch.autograd.grad(ctx.run([ctx.module], x), wanted, grads[0], allow_unused=True)
        given = dict(zip(map(id, wanted), found, strict=True))
        return None, None, given.get(id(x)), None, *(given.get(id(part)) for part in ctx.parameters)
