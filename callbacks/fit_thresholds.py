"""Sets thresholds by quantile of the training set."""

from typing import Any

import lightning.pytorch as pl

from lgn_lightning.data.images import ImageDataModule
from lgn_lightning.nn import Threshold


class FitThresholds(pl.Callback):
    """Sets the levels of encoders with ``spacing="quantile"`` from the training images, before training starts.

    They are computed without the validation split and before any augmentation. Levels are part of the checkpoint: a
    resumed or tested net keeps those of its training.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Counts the pixels of the training images of an ``ImageDataModule`` and sets the levels on all ranks."""
        encoders = [m for m in pl_module.modules() if isinstance(m, Threshold) and m.spacing == "quantile"]
        # A checkpoint is restored after setup, so a resumed run gets its levels back.
        if stage != "fit" or not encoders:
            return
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(data, ImageDataModule):
            raise ValueError(
                f"FitThresholds counts the pixels of an ImageDataModule, and got {type(data).__name__}; call "
                "encoder.fit_levels(histogram) before training and leave the callback out"
            )
        histogram = data.pixel_histogram()
        for encoder in encoders:
            encoder.fit_levels(histogram.to(encoder.current_levels().device))
