from __future__ import annotations

import warnings

import pytest
import torch

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.sampler import EpochBatchSampler, epoch_permutation, num_batches, shard_batches


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("batch_size", [2, 3, 5, 16])
def test_without_drop_last_every_sample_is_dealt_exactly_once(world_size: int, batch_size: int) -> None:
    for length in range(world_size, 70):
        order = epoch_permutation(length, seed=3, epoch=1)
        ranks = [shard_batches(order, batch_size, rank, world_size) for rank in range(world_size)]
        assert {len(batches) for batches in ranks} == {num_batches(length, batch_size, world_size)}
        sizes = [len(batch) for batches in ranks for batch in batches]
        assert min(sizes) >= 1
        assert max(sizes) <= batch_size
        dealt = torch.cat([torch.cat(batches) for batches in ranks])
        assert torch.equal(dealt.sort().values, torch.arange(length))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_drop_last_gives_full_batches_and_disjoint_shards(world_size: int) -> None:
    for length in range(70):
        order = epoch_permutation(length, seed=0, epoch=0)
        ranks = [shard_batches(order, 4, rank, world_size, drop_last=True) for rank in range(world_size)]
        assert {len(batches) for batches in ranks} == {length // (4 * world_size)}
        dealt = [index for batches in ranks for batch in batches for index in batch.tolist()]
        assert len(set(dealt)) == len(dealt) == length // (4 * world_size) * 4 * world_size


def test_ranks_together_see_the_batches_of_one_process() -> None:
    order = epoch_permutation(48, seed=0, epoch=0)
    whole = shard_batches(order, 12)
    halves = [shard_batches(order, 6, rank, 2) for rank in range(2)]
    for index, batch in enumerate(whole):
        together = torch.cat([halves[0][index], halves[1][index]])
        assert torch.equal(together.sort().values, batch.sort().values)


@pytest.mark.parametrize(("length", "batch_size", "world_size"), [(2, 4, 3), (7, 1, 2)])
def test_a_rank_without_a_sample_is_an_error(length: int, batch_size: int, world_size: int) -> None:
    with pytest.raises(DataError, match=rf"{length} images .* {world_size} processes"):
        shard_batches(torch.arange(length), batch_size, 0, world_size)


def test_batches_of_one_are_fine_where_the_ranks_share_evenly() -> None:
    ranks = [shard_batches(torch.arange(6), 1, rank, 3) for rank in range(3)]
    assert [[int(batch) for batch in batches] for batches in ranks] == [[0, 3], [1, 4], [2, 5]]


def test_permutation_depends_on_seed_and_epoch_only() -> None:
    first = epoch_permutation(1000, 5, 2)
    torch.manual_seed(99)
    assert torch.equal(first, epoch_permutation(1000, 5, 2))
    assert torch.equal(first.sort().values, torch.arange(1000))
    others = [epoch_permutation(1000, seed, epoch) for seed, epoch in [(5, 3), (6, 1), (6, 2), (7, 0)]]
    assert not any(torch.equal(first, other) for other in others)


def sampler(**changes: object) -> EpochBatchSampler:
    settings: dict[str, object] = {"length": 50, "batch_size": 7, "shuffle": True, "seed": 11, "drop_last": True}
    return EpochBatchSampler(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("taken", [0, 1, 4, 7])
def test_resuming_inside_an_epoch_goes_on_with_the_same_batches(taken: int) -> None:
    saved = sampler()
    saved.set_epoch(3)
    expected = [batch.tolist() for batch in saved]
    iterator = iter(saved)
    for _ in range(taken):
        next(iterator)
    state = saved.state_dict() if taken else {**saved.state_dict(), "batch": 0}

    resumed = sampler(seed=0)  # the state's seed counts
    resumed.load_state_dict(state)
    iter(resumed)  # an iterator that is never used, as Lightning makes
    resumed.set_epoch(3)
    assert len(resumed) == 7
    assert resumed.state_dict() == state
    assert [batch.tolist() for batch in resumed] == expected[taken:]
    assert [batch.tolist() for batch in resumed] == expected  # once only


def test_the_next_epoch_starts_at_its_beginning() -> None:
    resumed = sampler()
    resumed.load_state_dict({**resumed.state_dict(), "epoch": 0, "batch": 7})
    resumed.set_epoch(1)
    fresh = sampler()
    fresh.set_epoch(1)
    assert [batch.tolist() for batch in resumed] == [batch.tolist() for batch in fresh]
    assert fresh.state_dict()["batch"] == 7


def test_resuming_with_other_batches_warns_and_names_the_change() -> None:
    state = {**sampler().state_dict(), "batch": 2}
    with pytest.warns(UserWarning, match=r"batch_size 7 → 10, world_size 1 → 2"):
        sampler(batch_size=10, world_size=2).load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler().load_state_dict(state)


def test_sequential_order_without_shuffle() -> None:
    batches = list(sampler(shuffle=False, drop_last=False))
    assert torch.equal(torch.cat(batches), torch.arange(50))
    assert [len(batch) for batch in batches] == [7] * 7 + [1]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        sampler(batch_size=0)
    with pytest.raises(ValueError, match=r"rank must be in 0 … 1, got 2"):
        sampler(rank=2, world_size=2)


def test_position_and_epoch_do_not_depend_on_the_device() -> None:
    def sampler(device: str) -> EpochBatchSampler:
        return EpochBatchSampler(23, 4, shuffle=True, rank=1, world_size=2, device=device)

    here, there = sampler("cpu"), sampler("meta")
    for made in (here, there):
        made.set_epoch(2)
        iterator = iter(made)
        next(iterator), next(iterator)
    assert here.state_dict() == there.state_dict()
    resumed = sampler("meta")
    resumed.load_state_dict(here.state_dict())
    assert [len(batch) for batch in resumed] == [len(batch) for batch in list(sampler("cpu"))[2:]]
