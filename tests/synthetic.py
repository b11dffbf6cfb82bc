"""Stand-ins that recipes of the tests name by class path."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lgn_lightning.data import Augmentation, ImageDataModule
from lgn_lightning.data.images import ImageSet


def write_table(path: Path, rows: int = 120) -> Path:
    """A table of all types, of which the column ``kind`` has three classes; some values are missing."""
    import pandas as pd

    generator = np.random.default_rng(0)
    size = generator.normal(size=rows).astype(np.float32)
    frame = pd.DataFrame(
        {
            "size": size,
            "count": pd.array(generator.integers(-50, 50, rows), "Int64"),
            "key": 2**60 + generator.integers(0, 9, rows),
            "when": 1.7e9 + np.arange(rows) / 1000,
            "is big": size > 1,
            "colour": generator.choice(["red", "grün", "blue"], rows),
            "kind": np.array(["a", "b", "c"])[np.digitize(size, [-0.4, 0.4])],
        }
    )
    for name in ("size", "count", "colour"):
        frame.loc[generator.random(rows) < 0.1, name] = None
    frame.to_csv(path, index=False)
    return path


class SyntheticImages(ImageDataModule):
    """Noise with labels, of the shape a net asks for."""

    def __init__(
        self,
        shape: list[int],
        count: int = 40,
        batch_size: int = 10,
        root: str | None = None,
        augment: Augmentation | list[Augmentation] | None = None,
    ) -> None:
        if min(shape) < 1:
            raise ValueError(f"shape must be channels, height and width, not {shape}")
        super().__init__(root=root, batch_size=batch_size, val_fraction=0.25, augment=augment)
        self._shape = shape
        self._count = count

    @property
    def class_names(self) -> list[str]:
        return [f"class {i}" for i in range(10)]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        channels, height, width = self._shape
        return channels, height, width

    def _load_train(self) -> ImageSet:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (self._count, *self._shape), dtype=torch.uint8, generator=generator)
        return ImageSet(images, torch.arange(self._count) % 10)

    def _load_test(self) -> ImageSet:
        return self._load_train()


class RandomPixels(Callback):
    """Draws from every random number generator that a training step may use."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        images = batch[0]  # type: ignore[index]
        images[torch.rand(images.shape) < 0.1] = int(np.random.randint(256))  # noqa: NPY002 - the global one is meant
        images[random.randrange(len(images))] = 0


class InterruptAt(Callback):
    """Stands for a user who presses Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)
