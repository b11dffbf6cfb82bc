"""All labels of a training, before its first step."""

from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.data import sized_len
from torch import Tensor

from lgn_lightning.base.errors import DataError
from lgn_lightning.base.lightning_private import datamodule_of
from lgn_lightning.training.target import Target


def training_labels(trainer: pl.Trainer, target: Target) -> Tensor:
    """Labels of the training on all ranks, from the data module or by one pass over the loader.

    A DataError if the loader does not know its length: it may have no end, or give its samples only once.
    """
    module = trainer.lightning_module
    data = datamodule_of(module)
    if hasattr(data, "training_labels"):
        return cast(Tensor, data.training_labels())
    loader = cast(Any, trainer.train_dataloader)
    if sized_len(loader) is None:
        kind = type(target).__name__
        raise DataError(
            f"the target {kind} looks at all labels before the first step, and the training loader has no length, so "
            "that it may have no end: call module.target.fit(labels) before, with those of some thousand samples"
        )
    mine = torch.cat([y for _, y in loader])
    if trainer.world_size == 1:
        return mine
    return cast(Tensor, module.all_gather(mine.to(module.device))).flatten(0, 1)
