import itertools

import pytest
import torch

from lgn_lightning.nn.connections import CONNECTIONS, random_connections, unique_connections


@pytest.mark.parametrize("kind", ["random", "unique"])
@pytest.mark.parametrize(("in_dim", "out_dim"), [(2, 1), (7, 9), (10, 5), (16, 100)])
def test_indices_are_int32_and_in_range(kind: str, in_dim: int, out_dim: int) -> None:
    a, b = CONNECTIONS[kind](in_dim, out_dim)
    assert a.shape == b.shape == (out_dim,)
    assert a.dtype == b.dtype == torch.int32
    assert min(a.min(), b.min()) >= 0
    assert max(a.max(), b.max()) < in_dim


@pytest.mark.parametrize(("in_dim", "out_dim"), [(1, 1), (7, 4), (10, 5), (16, 100), (9, 14)])
def test_random_uses_every_input_equally_often(in_dim: int, out_dim: int) -> None:
    uses = torch.bincount(torch.cat(random_connections(in_dim, out_dim)), minlength=in_dim)
    assert uses.min() >= 1
    assert uses.max() - uses.min() <= 1


@pytest.mark.parametrize("in_dim", [2, 3, 6, 7, 12])
def test_unique_pairs_are_distinct_up_to_all_there_are(in_dim: int) -> None:
    everything = set(itertools.combinations(range(in_dim), 2))
    for out_dim in range(1, len(everything) + 1):
        pairs = {tuple(p) for p in torch.stack(unique_connections(in_dim, out_dim), 1).tolist()}
        assert len(pairs) == out_dim
        assert pairs <= everything


def test_unique_takes_neighbours_first() -> None:
    pairs = torch.stack(unique_connections(6, 3), 1).tolist()
    assert sorted(pairs) == [[0, 1], [2, 3], [4, 5]]
    pairs = torch.stack(unique_connections(6, 5), 1).tolist()
    assert sorted(pairs) == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]


@pytest.mark.parametrize(("in_dim", "out_dim", "pairs"), [(1, 1, 0), (4, 7, 6)])
def test_unique_refuses_more_gates_than_pairs(in_dim: int, out_dim: int, pairs: int) -> None:
    with pytest.raises(ValueError, match=f"{out_dim} gates .* {in_dim} inputs have only {pairs}; use connections="):
        unique_connections(in_dim, out_dim)


@pytest.mark.parametrize("kind", ["random", "unique"])
def test_a_seed_fixes_the_wires(kind: str) -> None:
    make = {"random": random_connections, "unique": unique_connections}[kind]
    first, again, other = (make(20, 60, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))
