"""Which images make up batch *i* of an epoch on a rank: a pure function of (seed, epoch, rank), so that runs resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lgn_lightning.base.errors import DataError

#: What the batches of an epoch depend on, besides its number and the seed.
_ORDER = ("length", "batch_size", "world_size", "shuffle")


def epoch_permutation(length: int, seed: int, epoch: int) -> Tensor:
    """The shuffle order of an epoch (from 0), equal on all ranks and in every run of a seed: int64 ``[length]``."""
    # The seed of a generator has 64 bits and torch mixes neighbouring seeds well; seed + epoch would give run s, epoch
    # e + 1 the order of run s + 1, epoch e.
    generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + epoch) % 2**63)
    return torch.randperm(length, generator=generator)


def num_batches(length: int, batch_size: int, world_size: int = 1, drop_last: bool = False) -> int:
    """Batches per epoch of one rank, the same number on every rank; ``length`` counts the samples of all of them."""
    if drop_last:
        return length // (world_size * batch_size)
    return -(-length // (world_size * batch_size))


def shard_batches(
    order: Tensor, batch_size: int, rank: int = 0, world_size: int = 1, drop_last: bool = False
) -> list[Tensor]:
    """Deals an order of samples, int64 ``[n]``, to the ranks and cuts one rank's share into batches.

    Rank *r* gets every ``world_size``-th sample, so the ranks' *i*-th batches together are the *i*-th batch that one
    process with ``world_size`` times the batch size would see. Without ``drop_last`` every sample is dealt exactly
    once (nothing is repeated to even out the ranks, so metrics are exact) and all ranks still take the same number of
    steps: a rank that is one sample short may hold one sample fewer in its last but one batch.

    Returns contiguous int64 vectors of one to ``batch_size`` samples; a DataError if a rank's batch would be empty:
    fewer samples than ranks, or batches of one sample that the ranks cannot share evenly.
    """
    steps = num_batches(len(order), batch_size, world_size, drop_last)
    if drop_last:
        local = order[: steps * world_size * batch_size][rank::world_size].contiguous()
        return list(torch.split(local, batch_size)) if steps else []
    if world_size > 1 and len(order) % world_size and (batch_size == 1 or len(order) < world_size):
        raise DataError(
            f"{len(order)} images cannot be shared by {world_size} processes in batches of {batch_size} without an "
            f"empty batch; use a batch size of 2 or more and no more processes than images"
        )
    local = order[rank::world_size].contiguous()
    if not steps:
        return []
    last = min((steps - 1) * batch_size, len(local) - 1)
    return [*(torch.split(local[:last], batch_size) if last else ()), local[last:]]


class EpochBatchSampler:
    """Yields the index vectors of this rank's batches, and can stop and continue in the middle of an epoch.

    Iterating does not advance the epoch: call :meth:`set_epoch`, as with ``DistributedSampler`` (Lightning does).

    Args:
        length: Number of samples of all ranks together.
        batch_size: Samples per batch of one rank.
        shuffle: Whether to permute the samples anew in each epoch.
        seed: Shuffle seed; must be the same on all ranks.
        drop_last: Whether incomplete batches are left out.
        rank: This rank.
        world_size: Number of ranks.
        device: Where the index vectors lie; an epoch's order is drawn on the CPU, the same for every device, and
            copied there at once.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0 … {world_size - 1}, got {rank}")
        self.length, self.batch_size, self.shuffle, self.seed = length, batch_size, shuffle, seed
        self.drop_last, self.rank, self.world_size = drop_last, rank, world_size
        self.device = torch.device(device)
        self.epoch = 0
        self._position = 0  # batches of this epoch that were handed out
        self._resume_at = 0  # where the next iteration starts

    @property
    def sampler(self) -> EpochBatchSampler:
        """This object: Lightning announces an epoch to ``loader.batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration; a resumed position stays only if it belongs to this epoch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._position = self._resume_at = 0

    def __len__(self) -> int:
        """Batches in a whole epoch, also while a resumed iteration yields fewer: Lightning counts the earlier ones."""
        return num_batches(self.length, self.batch_size, self.world_size, self.drop_last)

    def __iter__(self) -> Iterator[Tensor]:
        """Yields int64 index vectors ``[≤ batch_size]``."""
        # A generator: nothing here runs before the first batch is asked for. Lightning makes an iterator before it
        # announces the epoch, and sometimes one that it never uses; neither may consume the resumed position.
        order = epoch_permutation(self.length, self.seed, self.epoch) if self.shuffle else torch.arange(self.length)
        batches = shard_batches(order.to(self.device), self.batch_size, self.rank, self.world_size, self.drop_last)
        start, self._resume_at = self._resume_at, 0
        for self._position in range(start + 1, len(batches) + 1):
            yield batches[self._position - 1]

    def state_dict(self) -> dict[str, Any]:
        """The position in the epoch and all that the order depends on; the same on all ranks."""
        order = {name: getattr(self, name) for name in _ORDER}
        return {"epoch": self.epoch, "batch": self._position, "seed": self.seed, **order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues after the last batch that was handed out when the state was saved.

        Warns if the data, the batch size, the number of processes or shuffling differ from the saved ones: the run
        then continues at the same batch number, with other images in the batches.
        """
        self.seed = state["seed"]
        changed = [
            f"{name} {state[name]} → {getattr(self, name)}" for name in _ORDER if state[name] != getattr(self, name)
        ]
        if changed:
            rank_zero_warn(
                f"resuming with other batches than the checkpoint's ({', '.join(changed)}): the rest of this epoch "
                "repeats or leaves out some images; keep these settings for an exact continuation"
            )
        self.epoch = state["epoch"]
        self._position = self._resume_at = min(state["batch"], len(self))
