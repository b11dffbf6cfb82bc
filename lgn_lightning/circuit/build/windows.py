"""Functions of torch over windows of an image, said by simpler ones: poolings, patches, and images made larger."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.utils._pytree import tree_map

from lgn_lightning.circuit.build.traced import FALSE, Bits, Space, Traced

_POOL = ("input", "kernel_size", "stride", "padding")
_MAX = (*_POOL, "dilation", "ceil_mode", "return_indices")
_AVERAGE = (*_POOL, "ceil_mode", "count_include_pad", "divisor_override")


def pool(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``F.max_pool2d`` and its kind: the OR of each window of bits, or its mean, which is a score."""
    rank, largest = int(name[-2]), name.startswith("max")
    given = dict(zip(_MAX if largest else _AVERAGE, args, strict=False)) | kwargs
    kernel, padding = (_sizes(given.get(part) or usual, rank) for part, usual in (("kernel_size", 1), ("padding", 0)))
    stride = _sizes(given["stride"], rank) if given.get("stride") else kernel
    odd = {key for key in ("ceil_mode", "return_indices", "divisor_override") if given.get(key)}
    if odd or set(_sizes(given.get("dilation", 1), rank)) != {1}:
        raise ValueError(f"{name} with {', '.join(sorted(odd)) or 'dilation'} has no gates")
    if not largest and any(padding) and not given.get("count_include_pad", True):
        raise ValueError(f"{name} with count_include_pad=False has no gates: windows at the border have other means")
    x = given["input"]
    if largest and rank == 2 and isinstance(x.value, Bits):
        pairs = [(one, two) for one, two in (kernel, stride, padding)]
        return space.of_wires(space.builder.or_windows(space.wires(x), *pairs))
    if any(padding):
        x = functional.pad(x, [size for size in reversed(padding) for _ in range(2)])
    first = x.ndim - rank
    for axis, (size, step) in enumerate(zip(kernel, stride, strict=True)):
        x = x.unfold(first + axis, size, step)  # the window becomes the last dimension
    return _reduced(x, largest, rank)


def adaptive_pool(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``F.adaptive_avg_pool2d`` and its kind: a given number of windows along each side."""
    rank, largest = int(name[-2]), "max" in name
    given = dict(zip(("input", "output_size", "return_indices"), args, strict=False)) | kwargs
    if given.get("return_indices"):
        raise ValueError(f"{name} with return_indices has no gates")
    x = given["input"]
    sides = x.shape[-rank:]
    asked = given["output_size"]
    each = [asked] * rank if isinstance(asked, int) or asked is None else list(asked)
    counts = [side if count is None else int(count) for count, side in zip(each, sides, strict=True)]
    places = [
        [slice(place * side // count, -(-(place + 1) * side // count)) for place in range(count)]
        for count, side in zip(counts, sides, strict=True)
    ]
    windows = [_reduced(x[(..., *window)], largest, rank) for window in itertools.product(*places)]
    return torch.stack(windows, -1).reshape(*x.shape[:-rank], *counts)


def _reduced(x: Tensor, largest: bool, rank: int) -> Tensor:
    dims = tuple(range(-rank, 0))
    return x.amax(dims) if largest else x.mean(dims)


def _sizes(value: Any, rank: int) -> tuple[int, ...]:
    sizes = (value,) * rank if isinstance(value, int) else tuple(int(size) for size in value)
    return sizes * rank if len(sizes) == 1 else sizes


def unfold(move: Callable[..., Any]) -> Callable[..., Any]:
    """``Tensor.unfold``, which ``move`` does, and ``F.unfold``."""

    def handler(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        own = func is functional.unfold or getattr(func, "__name__", "") == "im2col"
        return (on_floats if own else move)(space, func, name, args, kwargs)

    return handler


def on_floats(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Functions that move values, but of floating point only, and fill in zeros: they run on ids of that type."""
    mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest") if name == "interpolate" else "nearest"
    if mode not in ("nearest", "nearest-exact"):
        raise ValueError(f"{name} with mode={mode!r} has no gates: mode='nearest' has")

    def swap(part: Any) -> Any:
        return (space.ids(part) - FALSE).double() if isinstance(part, Traced) else part

    out = func(*tree_map(swap, args), **tree_map(swap, kwargs))
    return space.of_ids(out.long() + FALSE)
