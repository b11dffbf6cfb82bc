"""Sums of bits in a forward pass: scores, which stay sums, and counts that are compared, which become gates."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from lgn_lightning.circuit.build.counting import function_of_count
from lgn_lightning.circuit.build.traced import BATCH, Bits, Correction, Counts, Space, Traced

#: Bits that one element may depend on before gates are made of it: those of `NetlistBuilder.luts`.
MOST_OPERANDS: Final = 6


def named(names: str, what: Any) -> dict[str, Any]:
    """The same for many names."""
    return dict.fromkeys(names.split(), what)


#: Functions that keep the values and their order: of inputs before the encoder, and of scores.
KEEP: Final = named(
    "view reshape flatten unflatten squeeze unsqueeze contiguous clone detach float double half bfloat16 to type "
    "type_as cpu cuda byte bool",
    True,
)


def leaves(*parts: Any) -> list[Traced]:
    """All values among arguments."""
    return [part for part in tree_leaves(parts) if isinstance(part, Traced)]


def on_ids(func: Any, swapped: dict[int, Tensor], args: Any, kwargs: Any) -> Any:
    """What a function gives of ids in the place of values."""

    def swap(part: Any) -> Any:
        return swapped.get(id(part), part.cpu()) if isinstance(part, Tensor) else part

    out = func(*tree_map(swap, args), **tree_map(swap, kwargs))
    return list(out) if isinstance(out, (list, tuple)) else out


def move_counts(space: Space, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Functions that move sums."""
    values = leaves(args, kwargs)
    counts = [value.value for value in values if isinstance(value.value, Counts)]
    if len(counts) != len(values):
        raise ValueError("it joins sums with bits: scores can only be joined with scores")
    alike = space.alike(counts)
    if len({part.offset for part in alike}) > 1:
        raise ValueError("it joins sums with different offsets, which a circuit's scores have not")
    swapped = {id(value): part.ids for value, part in zip(values, alike, strict=True)}

    def wrapped(ids: Tensor) -> Traced:
        return space.make(replace(alike[0], ids=ids), ids.shape)

    return tree_map(wrapped, on_ids(func, swapped, args, kwargs))


def operands_of(values: list[Traced]) -> list[Tensor]:
    """The bits that numbers depend on."""
    found: dict[int, Tensor] = {}
    for value in values:
        assert isinstance(value.value, Bits)
        found |= {id(operand): operand for operand in value.value.operands}
    return list(found.values())


def number_of(part: Any) -> float | None:
    """A number that is no value; None of anything else."""
    if isinstance(part, Tensor):
        return float(part) if part.numel() == 1 and not isinstance(part, Traced) else None
    return float(part) if isinstance(part, (int, float)) else None


def on_counts(space: Space, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced | None:
    """Sums of scores, and scores times, over, plus and minus a number; None of anything else."""
    name = name.removeprefix("r") if name in ("radd", "rmul") else name
    if name in KEEP and name not in ("bool", "byte"):
        return space.make(args[0].value, args[0].shape, args[0].dtype)
    if len(args) != 2 or kwargs:
        return None
    left, right = args if isinstance(args[0], Traced) else args[::-1]
    number, one = number_of(right), left.value
    if isinstance(right, Traced):
        two = right.value
        if name == "sub" and isinstance(one, Bits) and isinstance(two, Counts) and left.shape == right.shape:
            return space.make(Correction(one, two), left.shape)
        one, two = (two, one) if isinstance(one, Correction) else (one, two)
        if name == "add" and isinstance(one, Counts) and isinstance(two, Correction) and _equal(one, two.counts):
            return space.make(two.bits, left.shape)
        if name == "add" and isinstance(one, Counts) and isinstance(two, Counts):
            one, two = space.alike([one, two])
            value = Counts(space.combined([one.ids, two.ids]), one.tau, one.offset + two.offset)
            return space.make(value, value.ids.shape)
    if isinstance(one, Counts) and number is not None and math.isfinite(number):
        if name in ("add", "sub") and (left is args[0] or name == "add"):
            number = number if name == "add" else -number
            return space.make(replace(one, offset=one.offset + number * one.tau), left.shape)
        if (name == "mul" or (name in ("div", "truediv") and left is args[0])) and number > 0:
            return space.make(replace(one, tau=one.tau / number if name == "mul" else one.tau * number), left.shape)
    return None


def _equal(one: Counts, two: Counts) -> bool:
    return one.tau == two.tau and one.offset == two.offset and torch.equal(one.ids, two.ids)


def few(space: Space, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Arguments with sums of a few bits as the numbers that they are; None if they depend on too many."""
    values = leaves(args, kwargs)
    if any(isinstance(value.value, Correction) or space.size(value) > MOST_OPERANDS for value in values):
        return None
    numbers: tuple[Any, Any] = tree_map(space.numbers, (args, kwargs))
    return numbers if len(operands_of(leaves(numbers))) <= MOST_OPERANDS else None


def of_count(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Comparisons of sums with numbers, and whatever else makes a bit of a count."""
    x = leaves(args, kwargs)[0]
    value = x.value
    tensors = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor) and part is not x]
    others = [part for part in tensors if isinstance(part, Traced) or part.numel() != 1]
    refused = ValueError(
        f"{name} of sums has no gates: scores can be added, and scaled by or compared with a number; return the scores "
        "themselves, as the loss takes them"
    )
    if others or not isinstance(value, Counts):
        raise refused
    numbers, place = torch.unique(value.ids // BATCH, return_inverse=True)
    sums = [space.sums[number] for number in numbers.tolist()]
    most = max(len(nodes) for nodes in sums)
    possible = (torch.arange(most + 1).to(x.dtype) + value.offset) / value.tau

    def known(part: Any) -> Any:
        return possible if part is x else part.cpu().reshape(()) if isinstance(part, Tensor) else part

    result = func(*tree_map(known, args), **tree_map(known, kwargs)).cpu()
    if result.shape != possible.shape or not ((result == 0) | (result == 1)).all():
        raise refused
    zero = space.builder.constant(False) if min(len(nodes) for nodes in sums) < most else 0
    nodes = np.stack([np.pad(nodes, (0, most - len(nodes)), constant_values=zero) for nodes in sums])
    made = torch.from_numpy(function_of_count(space.builder, nodes, result.bool().tolist())).long()
    return space.of_ids(made[place] * BATCH + value.ids % BATCH, torch.tensor([0, 1]).to(result.dtype))


def arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Traced, Any, bool]:
    """The value, the dimensions and keepdim of a reduction."""
    given = dict(zip(("input", "dim", "keepdim"), args, strict=False)) | kwargs
    given["dim"] = given.pop("axis", given.get("dim"))
    return given["input"], given["dim"], bool(given.get("keepdim", False))


def rows_over(ids: Tensor, dim: Any) -> tuple[Tensor, list[int]]:
    """Ids with the reduced dimensions as the last one, and these dimensions."""
    dims = list(range(ids.ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    dims = [place % ids.ndim for place in dims]
    rest = [place for place in range(ids.ndim) if place not in dims]
    return ids.permute(*rest, *dims).flatten(len(rest)), dims


def kept(shape: torch.Size, dims: list[int], keep: bool) -> list[int]:
    return [1 if place in dims else size for place, size in enumerate(shape) if keep or place not in dims]


def sum_over(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Sums and means: of bits they are scores, of scores those of an ensemble."""
    x, dim, keep = arguments(args, kwargs)
    counted = isinstance(x.value, Counts)
    rows, dims = rows_over(x.value.ids if isinstance(x.value, Counts) else space.ids(x), dim)
    ids = space.combined(rows.unbind(-1)) if counted else space.summed(rows, space.nodes)
    shape, size = kept(torch.Size(x.shape), dims, keep), rows.shape[-1]
    before = x.value if isinstance(x.value, Counts) else Counts(ids)
    tau = before.tau * (size if name == "mean" else 1)
    return space.make(Counts(ids.reshape(shape), tau, before.offset * size), shape)
