"""How the inputs of a layer's gates are chosen before training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def random_connections(in_dim: int, out_dim: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draws both inputs of every gate at random, each input used equally often (Petersen et al., 2022, sec. 3.1).

    Args:
        in_dim: Number of inputs.
        out_dim: Number of gates.
        generator: Source of randomness; torch's default generator if not given.

    Returns:
        Indices of the first and of the second inputs, int32 ``[out_dim]`` each.
    """
    slots = torch.randperm(2 * out_dim, generator=generator) % in_dim
    a, b = torch.randperm(in_dim, generator=generator)[slots].view(2, out_dim).to(torch.int32)
    return a, b


def unique_connections(in_dim: int, out_dim: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Gives every gate another pair of inputs, nearest neighbours first, and shuffles the gates.

    The pairs are (0, 1), (2, 3), …, then (1, 2), (3, 4), …, then all pairs at distance 2, 3, … until there are enough.

    Args:
        in_dim: Number of inputs.
        out_dim: Number of gates, at most the number of pairs.
        generator: Source of randomness; torch's default generator if not given.

    Returns:
        Indices of the first and of the second inputs, int32 ``[out_dim]`` each.

    Raises:
        ValueError: If there are fewer pairs than gates.
    """
    pairs = in_dim * (in_dim - 1) // 2
    if out_dim > pairs:
        raise ValueError(
            f"{out_dim} gates want distinct input pairs, but {in_dim} inputs have only {pairs}; "
            "use connections='random' or fewer gates"
        )
    firsts, distances, total = [torch.arange(0, in_dim - 1, 2), torch.arange(1, in_dim - 1, 2)], [1, 1], in_dim - 1
    while total < out_dim:
        distance = distances[-1] + 1
        firsts.append(torch.arange(in_dim - distance))
        distances.append(distance)
        total += in_dim - distance
    a = torch.cat(firsts)
    b = torch.cat([first + distance for first, distance in zip(firsts, distances, strict=True)])
    order = torch.randperm(out_dim, generator=generator)
    return a[:out_dim][order].to(torch.int32), b[:out_dim][order].to(torch.int32)


#: The choices of ``LogicLayer(connections=…)``.
CONNECTIONS: dict[str, Callable[[int, int], tuple[Tensor, Tensor]]] = {
    "random": random_connections,
    "unique": unique_connections,
}
