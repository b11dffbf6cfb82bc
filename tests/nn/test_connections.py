import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.nn.connections import (
    CONNECTIONS,
    LUT_CONNECTIONS,
    balanced_connections,
    balanced_lut_connections,
    distinct_candidates,
    draw_leaves,
    random_connections,
    redraw_repeated,
    unique_connections,
    unique_lut_connections,
)


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

    def wires(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(seed)
        return make(20, 60)

    first, again, other = map(wires, (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["random", "unique"]), st.integers(2, 6), st.integers(0, 30), st.integers(1, 60), st.integers(0, 99)
)
def test_lut_connections(kind: str, arity: int, more: int, out_dim: int, seed: int) -> None:
    in_dim = arity + more
    sets = set(itertools.combinations(range(in_dim), arity)) if kind == "unique" and in_dim < 9 else None
    if sets is not None:
        out_dim = min(out_dim, len(sets))
    elif kind == "unique":
        in_dim += 10
    make = LUT_CONNECTIONS[kind]
    torch.manual_seed(seed)
    indices = make(in_dim, out_dim, arity)
    assert indices.shape == (arity, out_dim)
    assert indices.dtype == torch.int32
    assert all(len(set(column)) == arity for column in indices.t().tolist())
    assert indices.min() >= 0
    assert indices.max() < in_dim
    if kind == "unique":
        assert len({tuple(sorted(column)) for column in indices.t().tolist()}) == out_dim
    else:
        uses = torch.bincount(indices.flatten(), minlength=in_dim)
        assert uses.max() - uses.min() <= 1
    if out_dim * arity >= in_dim:
        assert len(indices.unique()) == in_dim
    torch.manual_seed(seed)
    assert torch.equal(indices, make(in_dim, out_dim, arity))


def test_every_set_of_inputs_there_is_and_not_one_more() -> None:
    indices = unique_lut_connections(7, 35, 3)
    assert {tuple(sorted(c)) for c in indices.t().tolist()} == set(itertools.combinations(range(7), 3))
    with pytest.raises(ValueError, match=r"36 gates .* 7 inputs have only 35"):
        unique_lut_connections(7, 36, 3)


@given(
    st.integers(1, 6), st.integers(1, 9), st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(1, 4),
    st.integers(1, 3), st.integers(0, 99),
)  # fmt: skip
def test_leaves_are_balanced_and_distinct(
    channels: int, trees: int, kernel: tuple[int, int], depth: int, per_tree: int, seed: int
) -> None:
    torch.manual_seed(seed)
    per_tree = min(per_tree, channels, 2**depth)
    leaves = draw_leaves(channels, trees, kernel, 2**depth, per_tree)
    assert leaves.shape == (3, trees, 2**depth)
    assert leaves.dtype == torch.int32
    for part, limit in zip(leaves, (channels, *kernel), strict=True):
        assert part.min() >= 0
        assert part.max() < limit
    for tree in leaves.permute(1, 2, 0):
        assert len(tree[:, 0].unique()) == per_tree
        used = tree[:, 0].bincount()
        assert used.max() - used[used > 0].min() <= 1
        if used.max() <= kernel[0] * kernel[1]:
            assert len(tree.unique(dim=0)) == len(tree)


def test_all_channels_are_used_equally_often() -> None:
    used = torch.stack([tree.unique() for tree in draw_leaves(8, 12, (3, 3), 8, 2)[0]]).flatten().bincount()
    assert used.tolist() == [3] * 8


@pytest.mark.parametrize(("in_dim", "count"), [(17, 8), (16, 8), (17, 9), (9, 8), (8, 8), (300, 8), (5, 3)])
def test_candidates_are_distinct(in_dim: int, count: int) -> None:
    draws = [torch.stack(random_connections(in_dim, 120), dim=1) for _ in range(count)]
    candidates = distinct_candidates(draws, in_dim, 240)
    assert candidates.shape == (120, 2, count)
    assert candidates.dtype == torch.int32
    assert all(len(set(row)) == count for row in candidates.flatten(0, 1).tolist())
    assert 0 <= int(candidates.min()) <= int(candidates.max()) < in_dim
    if 2 * count <= in_dim:  # each draw is what it was, in another order
        assert all(
            torch.equal(c.flatten().sort()[0], d.flatten().sort()[0])
            for c, d in zip(candidates.unbind(2), draws, strict=True)
        )


def test_as_many_candidates_as_inputs_are_all_inputs() -> None:
    draws = [torch.stack(random_connections(5, 20), dim=1) for _ in range(8)]
    candidates = distinct_candidates(draws, 5, 40)
    assert torch.equal(candidates.sort(2).values, torch.arange(5, dtype=torch.int32).expand(20, 2, 5))


def test_only_what_is_there_twice_is_redrawn() -> None:
    candidates = torch.tensor([[[1, 2, 3], [1, 1, 4]], [[5, 5, 5], [0, 7, 0]]], dtype=torch.int32)
    before = candidates.clone()
    redraw_repeated(candidates, torch.arange(8, dtype=torch.int32))
    assert all(len(set(row)) == 3 for row in candidates.flatten(0, 1).tolist())
    kept = torch.tensor([[[True, True, True], [True, False, True]], [[True, False, False], [True, True, False]]])
    assert torch.equal(candidates[kept], before[kept])
    redraw_repeated(before, torch.arange(2, dtype=torch.int32))  # fewer sources than candidates: nothing can be done
    assert before[1, 0].tolist() == [5, 5, 5]


def test_shapes_of_candidates_without_values() -> None:
    with torch.device("meta"):
        for in_dim, count in ((40, 8), (17, 9), (5, 8)):
            draws = [torch.stack(random_connections(in_dim, 20), dim=1) for _ in range(count)]
            assert distinct_candidates(draws, in_dim, 40).shape == (20, 2, min(count, in_dim))


@pytest.mark.parametrize(("inputs", "gates", "arity"), [(12, 36, 2), (12, 12, 3), (7, 16, 2), (50, 50, 6), (9, 5, 2)])
def test_balanced_connections_cover_inputs_and_neighbours_equally(inputs: int, gates: int, arity: int) -> None:
    indices = balanced_lut_connections(inputs, gates, arity).long()
    assert torch.equal(indices, balanced_lut_connections(inputs, gates, arity).long())  # fixed
    assert ((indices[1:] - indices[:-1]) % inputs == 1).all()  # neighbours
    of_sets = torch.bincount(indices[0], minlength=inputs)
    of_inputs = torch.bincount(indices.flatten(), minlength=inputs)
    assert of_sets.max() - of_sets.min() <= (gates % inputs > 0)
    assert of_inputs.max() - of_inputs.min() <= (arity if gates % inputs else 0)


def test_balanced_connections_of_the_next_layer_join_distant_inputs() -> None:
    firsts = balanced_connections(100, 1000)[0].long()
    apart = (firsts[1:] - firsts[:-1]).abs()
    assert torch.minimum(apart, 100 - apart).float().mean() > 5
