"""Checkpoints of nets that were not trained here."""

from pathlib import Path

import lightning.pytorch as pl
from torch import nn

from lgn_lightning.nn import GroupSum
from lgn_lightning.training.classifier import LogicClassifier


def save_net(net: nn.Module, path: str | Path) -> None:
    """Writes a checkpoint that `load_net`, ``lgn export``, ``verify``, ``predict`` and ``bench`` take.

    Args:
        net: A net that says how it was built: one of `lgn_lightning.models`.
        path: The ``.ckpt`` file.

    Raises:
        TrainingError: If weights are NaN or infinite.
    """
    classes = next(part.k for part in reversed(list(net.modules())) if isinstance(part, GroupSum))
    module = LogicClassifier(net, num_classes=classes)
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
