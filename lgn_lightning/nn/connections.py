"""How the inputs of gates are chosen before training: pairs, sets of more, leaves of trees."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Rounds in which candidates are exchanged; what is left after them, in small trees, is drawn anew.
_EXCHANGES = 64


def random_connections(in_dim: int, out_dim: int) -> tuple[Tensor, Tensor]:
    """Draws both inputs of gates, int32 ``[out_dim]`` each, all equally often (Petersen et al., 2022, sec. 3.1)."""
    slots = torch.randperm(2 * out_dim) % in_dim
    a, b = torch.randperm(in_dim)[slots].view(2, out_dim).to(torch.int32)
    return a, b


def unique_connections(in_dim: int, out_dim: int) -> tuple[Tensor, Tensor]:
    """Gives every gate another pair of inputs, nearest neighbours first, and shuffles the gates.

    The pairs are (0, 1), (2, 3), …, then (1, 2), (3, 4), …, then all pairs at distance 2, 3, … until there are enough,
    which is a ValueError if it cannot be. Returns first and second inputs, int32 ``[out_dim]`` each.
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
    order = torch.randperm(out_dim)
    return a[:out_dim][order].to(torch.int32), b[:out_dim][order].to(torch.int32)


def balanced_lut_connections(in_dim: int, out_dim: int, arity: int) -> Tensor:
    """Gives every gate ``arity`` neighbouring inputs, the first following the last: int32 ``[arity, out_dim]``.

    Every input, and every set of neighbours, is read equally often, as far as ``out_dim`` is a multiple of ``in_dim``.
    Nothing is drawn. From a gate to the next the inputs move on by a golden section of all inputs, so that neighbours
    in the next layer join distant ones.
    """
    _check_arity(in_dim, arity)
    golden = max(round(in_dim * (math.sqrt(5) - 1) / 2), 1)
    step = next(n for n in range(golden, golden + in_dim + 1) if math.gcd(n, in_dim) == 1)
    rest = out_dim % in_dim
    firsts = torch.cat((torch.arange(out_dim - rest) * step % in_dim, torch.arange(rest) * in_dim // max(rest, 1)))
    return ((firsts + torch.arange(arity)[:, None]) % in_dim).to(torch.int32)


def balanced_connections(in_dim: int, out_dim: int) -> tuple[Tensor, Tensor]:
    """The same of gates with two inputs, int32 ``[out_dim]`` each."""
    a, b = balanced_lut_connections(in_dim, out_dim, 2).unbind(0)
    return a, b


def random_lut_connections(in_dim: int, out_dim: int, arity: int) -> Tensor:
    """Draws all inputs of every gate, different ones, each used equally often: int32 ``[arity, out_dim]``."""
    _check_arity(in_dim, arity)
    return _dealt(in_dim, out_dim, arity).to(torch.int32)


def unique_lut_connections(in_dim: int, out_dim: int, arity: int) -> Tensor:
    """Draws another set of inputs for every gate, int32 ``[arity, out_dim]``; a ValueError if there are too few."""
    _check_arity(in_dim, arity)
    sets = math.comb(in_dim, arity)
    if out_dim > sets:
        raise ValueError(
            f"{out_dim} gates want distinct sets of {arity} inputs, but {in_dim} inputs have only {sets}; use "
            "connections='random' or fewer gates"
        )
    indices = _dealt(in_dim, out_dim, arity)
    if sets < 2 * out_dim:  # most sets are taken: the others are few enough to list
        again = _seen_before(indices)
        taken = {tuple(sorted(column)) for column in indices.t().tolist()}
        free = [columns for columns in itertools.combinations(range(in_dim), arity) if columns not in taken]
        chosen = torch.randperm(len(free))[: int(again.sum())]
        indices[:, again] = torch.tensor(free, dtype=torch.int64).view(-1, arity)[chosen].t()
    # A set that is there already leaves no input unused when it goes.
    while (again := _seen_before(indices)).any():
        keys = torch.rand(in_dim, int(again.sum()))
        indices[:, again] = keys.topk(arity, dim=0).indices
    return indices.to(torch.int32)


def _check_arity(in_dim: int, arity: int) -> None:
    if in_dim < arity:
        raise ValueError(f"gates of {arity} inputs need a layer of at least {arity} inputs, not {in_dim}")


def _dealt(in_dim: int, out_dim: int, arity: int) -> Tensor:
    """Deals the inputs out like cards, one shuffled pack after the other: int64 ``[arity, out_dim]``."""
    packs: list[Tensor] = []
    dealt = 0
    while dealt < arity * out_dim:
        pack = torch.randperm(in_dim)
        begun = dealt % arity  # inputs that the pack before gave to the gate whose turn it is
        if begun:
            # What this gate has already goes behind the others.
            has = torch.isin(pack, packs[-1][-begun:])
            pack = torch.cat([pack[~has], pack[has]])
            pack[arity - begun :] = pack[arity - begun :][torch.randperm(in_dim - arity + begun)]
        packs.append(pack)
        dealt += in_dim
    return torch.cat(packs)[: arity * out_dim].view(out_dim, arity).t().contiguous()


def _seen_before(indices: Tensor) -> Tensor:
    """Gates whose set of inputs an earlier gate has: bool ``[out_dim]``."""
    number = torch.unique(indices.sort(0).values, dim=1, return_inverse=True)[1]
    first = torch.full_like(number, len(number)).scatter_reduce_(0, number, torch.arange(len(number)), "amin")
    return first[number] != torch.arange(len(number))


def distinct_candidates(draws: list[Tensor], in_dim: int, group: int) -> Tensor:
    """Makes the candidates of learned connections of draws of fixed ones, none twice at an input of a gate.

    An input that would read the same in two draws, int32 ``[gates, 2]``, exchanges it within the later draw, with one
    of ``group`` neighbouring inputs of gates, so that it stays the draw it was. Returns int32 ``[gates, 2, K]``, all
    different along the last dimension; K is the number of draws or, where that is less, of inputs.
    """
    count = len(draws)
    if 2 * count > in_dim:  # few inputs: a shuffled pack each
        return torch.rand(*draws[0].shape, in_dim).argsort(2)[..., :count].to(torch.int32)
    candidates = torch.stack(draws, dim=2)
    if candidates.is_meta:  # shapes without values
        return candidates
    rows = candidates.view(-1, count)
    for k in range(1, count):
        for _ in range(_EXCHANGES):
            again = (rows[:, :k] == rows[:, k : k + 1]).any(1).nonzero().squeeze(1)
            if not len(again):
                break
            chosen = torch.unique(torch.cat((again, again // group * group + torch.randint(group, again.shape))))
            to, of = ((chosen // group + torch.rand(chosen.shape, dtype=torch.float64)).argsort() for _ in range(2))
            rows[chosen[to], k] = rows[chosen[of], k]
    redraw_repeated(candidates, torch.arange(in_dim, dtype=torch.int32))
    return candidates


def redraw_repeated(candidates: Tensor, sources: Tensor, generator: torch.Generator | None = None) -> None:
    """As `redraw`, of what an input of a gate has twice among ``[gates, 2, K]``; nothing if sources are too few."""
    rows = candidates.flatten(0, 1)
    if len(sources) >= rows.shape[1]:
        redraw(rows, _stands_before(rows), sources, generator)


def redraw(candidates: Tensor, again: Tensor, sources: Tensor, generator: torch.Generator | None = None) -> None:
    """Draws some candidates, int32 ``[n, K]``, anew, in place, so that none of these is in its row twice.

    ``again`` says which, bool ``[n, K]``; ``sources`` are what is drawn from, each as likely: K or more different ones.
    """
    rows = again.any(1).nonzero().squeeze(1)
    again = again[rows]
    while len(rows):
        part = candidates[rows]
        drawn = torch.randint(len(sources), (int(again.sum()),), generator=generator)
        part[again] = sources[drawn.to(sources.device)]
        candidates[rows] = part
        again = again & _stands_before(part, ~again)
        left = again.any(1)
        rows, again = rows[left], again[left]


def _stands_before(candidates: Tensor, kept: Tensor | None = None) -> Tensor:
    """Whether each candidate stands before in its row, of which the ``kept`` are first: bool ``[n, K]``."""
    kept = torch.zeros_like(candidates, dtype=torch.bool) if kept is None else kept
    first = kept.sort(dim=1, descending=True, stable=True).indices
    values, order = candidates.gather(1, first).sort(dim=1, stable=True)
    twice = torch.nn.functional.pad(values[:, 1:] == values[:, :-1], (1, 0))
    return torch.zeros_like(kept).scatter_(1, first.gather(1, order), twice)


def draw_leaves(
    in_channels: int, out_channels: int, kernel_size: Sequence[int], leaves: int, channels_per_tree: int
) -> Tensor:
    """Draws what the leaves of every tree read (Petersen et al., 2024, sec. 3.1).

    Every tree has its own set of ``channels_per_tree`` channels, at most ``in_channels`` and ``leaves``, all channels
    being used equally often up to one, and reads equally many leaves from each, at distinct positions as long as there
    are enough. Trees are sorted by channel: neighbours then read the same activations, and their order means nothing to
    the layers behind. Returns channel, row and column in the kernel, int32 ``[3, out_channels, leaves]``.
    """
    sets = in_channels // channels_per_tree
    rounds = -(-out_channels // sets)
    shuffled = torch.rand(rounds, in_channels).argsort(1)[:, : sets * channels_per_tree]
    channels = shuffled.reshape(-1, channels_per_tree)[:out_channels].sort(1).values
    channels = channels[channels[:, 0].argsort(stable=True)]
    slot = torch.arange(leaves) % channels_per_tree
    positions = kernel_size[0] * kernel_size[1]
    each = -(-leaves // channels_per_tree)
    drawn = torch.rand(out_channels, channels_per_tree, positions).argsort(2)
    drawn = drawn.repeat(1, 1, -(-each // positions))[:, :, :each]
    position = drawn[:, slot, torch.arange(leaves) // channels_per_tree]
    order = torch.rand(out_channels, leaves).argsort(1)
    position = position.gather(1, order)
    channel = channels[:, slot].gather(1, order)
    return torch.stack((channel, position // kernel_size[1], position % kernel_size[1])).to(torch.int32)


#: The choices of ``LogicLayer(connections=…)``.
CONNECTIONS: dict[str, Callable[[int, int], tuple[Tensor, Tensor]]] = {
    "random": random_connections,
    "unique": unique_connections,
    "balanced": balanced_connections,
}
#: The choices of ``LutLayer(connections=…)``.
LUT_CONNECTIONS: dict[str, Callable[[int, int, int], Tensor]] = {
    "random": random_lut_connections,
    "unique": unique_lut_connections,
    "balanced": balanced_lut_connections,
}
