"""How the inputs of gates with more than two inputs are chosen before training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

#: Rounds of swaps after which distinct sets of inputs are drawn from a list of all of them.
_ROUNDS = 200


def random_lut_connections(
    in_dim: int, out_dim: int, arity: int, generator: torch.Generator | None = None
) -> Tensor:
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
    indices = _balanced(in_dim, out_dim, arity, generator)
    while (bad := _repeats(indices)).any():
        _swap(indices, bad, generator)
    return indices.to(torch.int32)


def unique_lut_connections(
    in_dim: int, out_dim: int, arity: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draws another set of inputs for every gate, with each input used equally often where sets are plenty.

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
    indices = _balanced(in_dim, out_dim, arity, generator)
    for _ in range(_ROUNDS):
        if not (bad := _repeats(indices) | _seen_before(indices)).any():
            return indices.to(torch.int32)
        _swap(indices, bad, generator)
    # So many gates that swaps end nowhere: nearly all sets there are, which are then not too many to list.
    everything = torch.tensor(list(itertools.combinations(range(in_dim), arity))).t()
    chosen = everything[:, torch.randperm(sets, generator=generator)[:out_dim]]
    order = torch.rand(chosen.shape, generator=generator).argsort(0)
    return chosen.gather(0, order).to(torch.int32)


def _check(in_dim: int, arity: int) -> None:
    if in_dim < arity:
        raise ValueError(f"gates of {arity} inputs need a layer of at least {arity} inputs, not {in_dim}")


def _balanced(in_dim: int, out_dim: int, arity: int, generator: torch.Generator | None) -> Tensor:
    slots = torch.randperm(arity * out_dim, generator=generator) % in_dim
    return torch.randperm(in_dim, generator=generator)[slots].view(arity, out_dim)


def _repeats(indices: Tensor) -> Tensor:
    """Gates with an input twice: bool ``[out_dim]``."""
    ordered = indices.sort(0).values
    return (ordered[1:] == ordered[:-1]).any(0)


def _seen_before(indices: Tensor) -> Tensor:
    """Gates whose set of inputs an earlier gate has: bool ``[out_dim]``."""
    number = torch.unique(indices.sort(0).values, dim=1, return_inverse=True)[1]
    first = torch.full_like(number, len(number)).scatter_reduce_(0, number, torch.arange(len(number)), "amin")
    return first[number] != torch.arange(len(number))


def _swap(indices: Tensor, bad: Tensor, generator: torch.Generator | None) -> None:
    """Exchanges an input of each bad gate with others anywhere, which keeps how often each is used."""
    columns = bad.nonzero().flatten()
    rows = torch.randint(len(indices), columns.shape, generator=generator)
    others = torch.randint(indices.numel(), columns.shape, generator=generator)
    places = torch.unique(torch.cat([rows * indices.shape[1] + columns, others]))
    flat = indices.view(-1)
    flat[places] = flat[places[torch.randperm(len(places), generator=generator)]]


#: The choices of ``LutLayer(connections=…)``.
LUT_CONNECTIONS: dict[str, Callable[[int, int, int], Tensor]] = {
    "random": random_lut_connections,
    "unique": unique_lut_connections,
}
