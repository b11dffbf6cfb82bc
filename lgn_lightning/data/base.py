"""What all data modules share: splits, loaders, and the seeds that make a run repeatable."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lgn_lightning.base.columns import Column
from lgn_lightning.base.errors import DataError
from lgn_lightning.base.lightning_private import shards_data
from lgn_lightning.data.augment import Augmentation
from lgn_lightning.data.known import data_root
from lgn_lightning.data.loader import TensorLoader
from lgn_lightning.data.sampler import EpochBatchSampler

#: Samples ``[N, …]`` and labels ``[N, …]`` in memory, such as an `ImageSet`.
Samples: TypeAlias = tuple[Tensor, Tensor]


class Split(NamedTuple):
    """Part of a data set: the samples whose indices, int64 ``[n]``, it has, or all of them."""

    data: Samples
    indices: Tensor | None = None


class SampleDataModule(LightningDataModule, ABC):
    """Base of all data modules: everything in memory, batches of samples and labels.

    The validation split is a seeded random share of the training samples. The shuffle order is a function of the seed
    and the epoch, equal on all ranks; the seed is saved in checkpoints, so a resumed run sees the order that the
    interrupted one would have seen, also from within an epoch.

    Args:
        root: Folder of the data sets; ``None`` means the environment variable ``LGN_DATA_ROOT``, else ``data``.
        batch_size: Training samples per batch and process.
        eval_batch_size: Samples per batch and process in validation, test and prediction.
        val_fraction: Share of the training samples to validate on, 0 for no validation.
        split_seed: Seed of the train/validation split.
        drop_last: Whether training leaves out an incomplete last batch.
        shuffle_seed: Seed of training order and augmentation; ``None`` means the one of ``seed_everything``, else 0.
        folds: Parts of the training samples for a cross-validation; 0 for none.
        fold: The part, from 0 on, that is the test split; the others train and validate.
        resident: Whether the samples stay in the memory of the trainer's device, where batches are then gathered: no
            copy to the GPU at any step.
    """

    #: Arguments of which settings inside a checkpoint do not count, see `lgn_lightning.base.trust`: places are the
    #: user's to name.
    not_from_files: ClassVar[dict[str, Any]] = {"root": None}
    #: What a sample is called in messages.
    noun: ClassVar = "samples"
    #: Whether each of several processes trains on a part of the samples of its own, the same in all epochs: it then
    #: reads no others, and draws an order of its own part alone.
    fixed_shards: ClassVar[bool] = False
    #: Augmentation of the training samples.
    augment: Augmentation | None = None

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 1000,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        drop_last: bool = True,
        shuffle_seed: int | None = None,
        resident: bool = False,
        folds: int = 0,
        fold: int = 0,
    ) -> None:
        super().__init__()
        if folds < 0 or folds == 1 or not 0 <= fold < max(1, folds):
            raise ValueError(f"folds={folds}, fold={fold}: give 2 folds or more, and a fold below them")
        self.folds, self.fold = folds, fold
        #: Training samples that are not in the fold which is tested; None without folds.
        self.rows_but_fold: Tensor | None = None
        if batch_size < 1 or eval_batch_size < 1:
            raise ValueError(f"batch_size and eval_batch_size must be 1 or more, got {batch_size}, {eval_batch_size}")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction must be in [0, 1), got {val_fraction}")
        self.root = data_root(root)
        self.batch_size, self.eval_batch_size, self.val_fraction = batch_size, eval_batch_size, val_fraction
        self.split_seed, self.drop_last = split_seed, drop_last
        self.resident = resident
        self.__shuffle_seed = shuffle_seed
        self.__splits: dict[str, Split] = {}
        self.__residents: dict[str, Samples] = {}

    # What a subclass says.

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names of the classes; label *i* is ``class_names[i]``."""

    @property
    def has_test(self) -> bool:
        """Whether there is a test split; ``lgn fit``, which ends with a test, asks before it trains."""
        return True

    @abstractmethod
    def _load_train(self) -> Samples:
        """All training samples, the validation split included."""

    @abstractmethod
    def _load_test(self) -> Samples:
        """All test samples."""

    def _load_val(self) -> Samples | None:
        """Validation samples of their own, if the data set has them; ``None`` splits the training samples."""
        return None

    def _split_train(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Seeded random train and validation indices, each in ascending order, disjoint and complete."""
        count = round(len(labels) * self.val_fraction)
        if self.val_fraction > 0:
            count = max(count, 1)
        if count >= len(labels):
            raise DataError(
                f"{type(self).__name__}: val_fraction={self.val_fraction} leaves none of the {len(labels)} {self.noun} "
                "to train on; use a smaller val_fraction"
            )
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.split_seed))
        return order[count:].sort().values, order[:count].sort().values

    def _fold_of(self, labels: Tensor) -> Tensor:
        """The fold of each training sample, int64 ``[N]``: seeded, of every class alike; -1 is in none."""
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.split_seed))
        if labels.dtype == torch.int64 and labels.ndim == 1:
            order = order[labels[order].sort(stable=True).indices]
        folds = torch.empty(len(labels), dtype=torch.int64)
        folds[order] = torch.arange(len(labels)) % self.folds
        return folds

    def _check_samples(self, data: Samples) -> Samples:
        """Refuses samples and labels that do not belong together."""
        samples, labels = data
        if len(samples) != len(labels):
            raise DataError(f"{type(self).__name__}: {len(samples)} {self.noun} and {len(labels)} labels")
        return samples.contiguous(), labels.contiguous()

    def check_columns(self, columns: Sequence[Column]) -> None:
        """Refuses a net on tables, whose columns these are; of a table, one that was trained on other columns."""
        raise DataError(f"{type(self).__name__} has no rows for a net on tables")

    # What Lightning and users call.

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shuffle_seed(self) -> int:
        """Seed of the training order."""
        if self.__shuffle_seed is None:
            # read once: a later seed_everything must not change the order of a module in use
            self.__shuffle_seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        return self.__shuffle_seed

    def setup(self, stage: str | None = None) -> None:
        """Loads the samples that the stage (None for all) needs, once; downloads nothing.

        ``fit`` loads the test samples, too, if there are some: a fault in them must not show after hours of training. A
        DataError if the data set is missing, corrupt or too small for the split.
        """
        if stage in ("fit", "validate", None) and "train" not in self.__splits:
            train, used = self.__load_train()
            own_val = self._load_val()
            if own_val is None:
                kept, held_out = self._split_train(train[1] if used is None else train[1][used])
                kept, held_out = (kept, held_out) if used is None else (used[kept], used[held_out])
                self.__splits |= {"train": Split(train, kept), "val": Split(train, held_out)}
            else:
                self.__splits |= {"train": Split(train, used), "val": Split(self._check_samples(own_val))}
        needs_test = stage in ("test", "predict") or (stage in ("fit", None) and (self.has_test or self.folds > 0))
        if needs_test and "test" not in self.__splits:
            if not self.folds:
                self.__splits["test"] = Split(self._check_samples(self._load_test()))
            else:
                self.__load_train()

    def __load_train(self) -> tuple[Samples, Tensor | None]:
        """All training samples, and those that are in no fold which is tested, if there are folds."""
        train = self._check_samples(self._load_train())
        if not self.folds:
            return train, None
        folds = self._fold_of(train[1])
        tested = folds == self.fold
        self.rows_but_fold = (~tested & (folds >= 0)).nonzero()[:, 0]
        for rows, purpose in ((tested.sum(), "test"), (self.rows_but_fold.numel(), "train")):
            if not rows:
                raise DataError(
                    f"{type(self).__name__}: fold {self.fold} of {self.folds} leaves none of the {len(tested)} "
                    f"{self.noun} to {purpose} on: give fewer folds"
                )
        self.__splits["test"] = Split((train[0][tested], train[1][tested]))
        return train, self.rows_but_fold

    def teardown(self, stage: str) -> None:
        self.__residents.clear()

    def train_dataloader(self) -> TensorLoader:
        """Shuffled training batches of this rank; a DataError if the split does not fill a single one."""
        overfit = bool(getattr(self.trainer, "overfit_batches", 0))  # Lightning: the same batches in every epoch
        loader = self.__loader("train", self.batch_size, shuffle=not overfit, drop_last=self.drop_last)
        loader.augment = None if overfit else self.augment
        if len(loader) == 0:
            ranks = loader.batch_sampler.world_size
            raise DataError(
                f"{type(self).__name__}: {loader.num_samples} training {self.noun} do not fill one batch of "
                f"{self.batch_size} on {ranks} process(es); use a smaller batch_size or drop_last=false"
            )
        return loader

    def val_dataloader(self) -> TensorLoader | list[TensorLoader]:
        """Validation batches of this rank, in a fixed order; an empty list if ``val_fraction`` is 0."""
        indices = self.__loaded("val").indices
        return [] if indices is not None and len(indices) == 0 else self.__loader("val", self.eval_batch_size)

    def test_dataloader(self) -> TensorLoader:
        """Test batches of this rank, in file order (rank *r* of *w* gets samples *r*, *r + w*, …)."""
        return self.__loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> TensorLoader:
        return self.test_dataloader()

    def training_samples(self) -> Samples:
        """What trains, as it is stored and in that order: samples and labels."""
        (samples, labels), indices = self.__loaded("train")
        return (samples, labels) if indices is None else (samples[indices], labels[indices])

    @property
    def training_size(self) -> int:
        """Number of samples that train."""
        (_, labels), indices = self.__loaded("train")
        return len(labels) if indices is None else len(indices)

    def training_labels(self) -> Tensor:
        """The labels of what trains."""
        (_, labels), indices = self.__loaded("train")
        return labels if indices is None else labels[indices]

    def test_samples(self) -> Samples:
        """All test samples and labels in file order, whatever share this rank's :meth:`test_dataloader` gives."""
        return self.__loaded("test").data

    def state_dict(self) -> dict[str, Any]:
        """The shuffle seed: a resumed run keeps its order whatever seed it is started with."""
        return {"shuffle_seed": self.shuffle_seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the shuffle seed of the checkpoint."""
        self.__shuffle_seed = int(state_dict["shuffle_seed"])

    # Parts. With two underscores, as the attributes: a subclass may use the same names for its own.

    def __loaded(self, split: str) -> Split:
        if split not in self.__splits:
            self.setup({"train": "fit", "val": "validate", "test": "test"}[split])
        return self.__splits[split]

    def __loader(self, split: str, batch_size: int, shuffle: bool = False, drop_last: bool = False) -> TensorLoader:
        rank, world_size = self.__rank_and_world_size()
        device = self.__device()
        (samples, labels), indices = self.__loaded(split)
        if device.type != "cpu":
            (samples, labels), indices = self.__make_resident(split, device), None
        length = len(labels) if indices is None else len(indices)
        if self.fixed_shards and shuffle and world_size > 1:
            length //= world_size
            mine = slice(rank * length, (rank + 1) * length)
            indices = torch.arange(mine.start, mine.stop, device=device) if indices is None else indices[mine]
            rank, world_size = 0, 1
        options: dict[str, Any] = {"shuffle": shuffle, "drop_last": drop_last, "rank": rank, "world_size": world_size}
        sampler = EpochBatchSampler(length, batch_size, seed=self.shuffle_seed, device=device, **options)
        return TensorLoader(samples, labels, sampler, indices)

    def __device(self) -> torch.device:
        """Where batches are gathered."""
        if not self.resident or self.trainer is None:
            return torch.device("cpu")
        return self.trainer.strategy.root_device

    def __make_resident(self, split: str, device: torch.device) -> Samples:
        """The samples of a split alone, on the device."""
        kept = self.__residents.get(split)
        if kept is None or kept[1].device != device:
            (samples, labels), indices = self.__loaded(split)
            if indices is not None:
                samples, labels = samples[indices], labels[indices]
            try:
                kept = samples.to(device), labels.to(device)
            except torch.OutOfMemoryError:
                size = samples.numel() * samples.element_size() / 1e9
                raise DataError(
                    f"{type(self).__name__}: {size:.1f} GB of {self.noun} do not fit into the memory of "
                    f"{device}; use resident=false"
                ) from None
            self.__residents[split] = kept
        return kept

    def __rank_and_world_size(self) -> tuple[int, int]:
        """The share of the data that this process gets: the strategy knows, as with Lightning's own samplers."""
        trainer = self.trainer
        if trainer is None or not shards_data(trainer):
            return 0, 1
        share = trainer.distributed_sampler_kwargs
        return (0, 1) if not share else (int(share["rank"]), int(share["num_replicas"]))
