"""How the inputs of gates with more than two inputs are chosen before training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor


def random_lut_connections(in_dim: int, out_dim: int, arity: int, generator: torch.Generator | None = None) -> Tensor:
    """Draws the inputs of every gate at random: each input used equally often, all inputs of a gate different.

    Args:
        in_dim: Number of inputs, at least ``arity``.
        out_dim: Number of gates.
        arity: Inputs of a gate.
        generator: Source of randomness; torch's default generator if not given.

    Returns:
        Indices, int32 ``[arity, out_dim]``.

    Raises:
        ValueError: If there are fewer inputs than a gate has.
    """
    _check(in_dim, arity)
    return _dealt(in_dim, out_dim, arity, generator).to(torch.int32)


def unique_lut_connections(in_dim: int, out_dim: int, arity: int, generator: torch.Generator | None = None) -> Tensor:
    """Draws another set of inputs for every gate; inputs are used equally often where sets are plenty.

    Args:
        in_dim: Number of inputs.
        out_dim: Number of gates, at most the number of sets.
        arity: Inputs of a gate.
        generator: Source of randomness; torch's default generator if not given.

    Returns:
        Indices, int32 ``[arity, out_dim]``.

    Raises:
        ValueError: If there are fewer inputs than a gate has, or fewer sets than gates.
    """
    _check(in_dim, arity)
    sets = math.comb(in_dim, arity)
    if out_dim > sets:
        raise ValueError(
            f"{out_dim} gates want distinct sets of {arity} inputs, but {in_dim} inputs have only {sets}; use "
            "connections='random' or fewer gates"
        )
    indices = _dealt(in_dim, out_dim, arity, generator)
    if sets < 2 * out_dim:  # most sets are taken: the others are few enough to list
        again = _seen_before(indices)
        taken = {tuple(sorted(column)) for column in indices.t().tolist()}
        free = [columns for columns in itertools.combinations(range(in_dim), arity) if columns not in taken]
        chosen = torch.randperm(len(free), generator=generator)[: int(again.sum())]
        indices[:, again] = torch.tensor(free, dtype=torch.int64).view(-1, arity)[chosen].t()
    # A set that is there already leaves no input unused when it goes.
    while (again := _seen_before(indices)).any():
        keys = torch.rand(in_dim, int(again.sum()), generator=generator)
        indices[:, again] = keys.topk(arity, dim=0).indices
    return indices.to(torch.int32)


def _check(in_dim: int, arity: int) -> None:
    if in_dim < arity:
        raise ValueError(f"gates of {arity} inputs need a layer of at least {arity} inputs, not {in_dim}")


def _dealt(in_dim: int, out_dim: int, arity: int, generator: torch.Generator | None) -> Tensor:
    """Deals the inputs out like cards, one shuffled pack after the other: int64 ``[arity, out_dim]``."""
    packs: list[Tensor] = []
    dealt = 0
    while dealt < arity * out_dim:
        pack = torch.randperm(in_dim, generator=generator)
        begun = dealt % arity  # inputs that the pack before gave to the gate whose turn it is
        if begun:
            # What this gate has already goes behind the others.
            has = torch.isin(pack, packs[-1][-begun:])
            pack = torch.cat([pack[~has], pack[has]])
            pack[arity - begun :] = pack[arity - begun :][torch.randperm(in_dim - arity + begun, generator=generator)]
        packs.append(pack)
        dealt += in_dim
    return torch.cat(packs)[: arity * out_dim].view(out_dim, arity).t().contiguous()


def _seen_before(indices: Tensor) -> Tensor:
    """Gates whose set of inputs an earlier gate has: bool ``[out_dim]``."""
    number = torch.unique(indices.sort(0).values, dim=1, return_inverse=True)[1]
    first = torch.full_like(number, len(number)).scatter_reduce_(0, number, torch.arange(len(number)), "amin")
    return first[number] != torch.arange(len(number))


#: The choices of ``LutLayer(connections=…)``.
LUT_CONNECTIONS: dict[str, Callable[[int, int, int], Tensor]] = {
    "random": random_lut_connections,
    "unique": unique_lut_connections,
}
