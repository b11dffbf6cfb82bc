"""A loader over tensors in memory, or in a GPU's: one gather per batch and nothing per sample."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lgn_lightning.data.augment import Augmentation, epoch_draws
from lgn_lightning.data.sampler import EpochBatchSampler


class TensorLoader:
    """Iterates over batches of samples and labels, gathered by index vector.

    About 20 µs per batch of 100 MNIST images; a ``DataLoader`` adds 7 to 12 µs to the same gather. Lightning takes
    any iterable but injects its distributed sampler into ``DataLoader`` objects only, so sharding is the batch
    sampler's work; Lightning still announces epochs to it, and saves and restores :meth:`state_dict`.

    Args:
        images: Samples ``[N, …]``, images or others, on any device; batches are gathered there.
        labels: ``[N, …]``, on the same device.
        batch_sampler: Yields positions in ``indices`` (or in ``images``), on the same device.
        indices: int64 ``[n]``, the samples of this split; all of them if ``None``. They are not copied.
        augment: Changes the images of a batch at random: a function of the sampler's seed and epoch and of an image's
            number in the split, so the same in a resumed run and on any number of ranks.

    Raises:
        ValueError: If images, labels, indices and the sampler are not on one device.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_sampler: EpochBatchSampler,
        indices: Tensor | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        devices = {images.device, labels.device, batch_sampler.device, (labels if indices is None else indices).device}
        if len(devices) != 1:
            raise ValueError(f"images, labels, indices and sampler lie on {', '.join(sorted(map(str, devices)))}")
        self.images, self.labels, self.indices, self.batch_sampler = images, labels, indices, batch_sampler
        self.augment = augment

    @property
    def batch_size(self) -> int:
        """Samples per batch of this process."""
        return self.batch_sampler.batch_size

    @property
    def num_samples(self) -> int:
        """Samples of this split, of all processes together."""
        return len(self.labels) if self.indices is None else len(self.indices)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields samples ``[batch, …]`` and labels ``[batch, …]``; always copies, never views of the data set."""
        gather = _take if self.images.device.type == "cpu" else torch.index_select
        draws: Tensor | None = None
        for batch in self.batch_sampler:
            index = batch if self.indices is None else gather(self.indices, 0, batch)
            images = gather(self.images, 0, index)
            if self.augment is not None:
                if draws is None:  # not before the loop: the sampler knows its epoch once it gives a batch
                    draws = self._epoch_draws(self.augment)
                images = self.augment(images, gather(draws, 0, batch))
            yield images, gather(self.labels, 0, index)

    def _epoch_draws(self, augment: Augmentation) -> Tensor:
        sampler = self.batch_sampler
        return epoch_draws(sampler.length, augment.num_draws, sampler.seed, sampler.epoch).to(sampler.device)

    def state_dict(self) -> dict[str, Any]:
        return self.batch_sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batch_sampler.load_state_dict(state)


def _take(source: Tensor, dim: int, index: Tensor) -> Tensor:
    """``torch.index_select`` on the CPU by numpy, which is as fast on one thread.

    torch starts a thread team for some ten µs of copying, which waits for milliseconds where other processes share the
    cores; source[index] is slower still.
    """
    return torch.from_numpy(source.numpy().take(index.numpy(), axis=dim))
