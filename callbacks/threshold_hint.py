"""Tells who trains a net on images whose thresholds keep little of what the pixels say."""

from __future__ import annotations

from typing import Any, Final

import lightning.pytorch as pl

from lgn_lightning.base.errors import note
from lgn_lightning.base.lightning_private import is_rehearsal
from lgn_lightning.data.images import ImageDataModule
from lgn_lightning.data.levels import COUNTS, PixelSample, choose_levels
from lgn_lightning.nn import Threshold

#: Share of what single pixels say of the class below which thresholds keep little.
_LITTLE: Final = 0.75
#: Thresholds that images of nearly two levels, such as written digits, are served with.
_FEW: Final = 3


class ThresholdHint(pl.Callback):
    """Says before training, in one line, if images want more thresholds than the net has.

    It compares what the bits of a single pixel say of the class with what the pixel itself says, on some pixels of the
    images that train; ``lgn fit`` has it by default. Images that three thresholds suffice for, such as written digits,
    get no hint.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at the images, on one rank."""
        data: Any = getattr(trainer, "datamodule", None)
        encoders = [module for module in pl_module.modules() if isinstance(module, Threshold)]
        known = trainer.is_global_zero and isinstance(data, ImageDataModule) and not is_rehearsal(trainer)
        if not known or len(encoders) != 1 or encoders[0].spacing == "quantile":
            return
        encoder, images = encoders[0], data.training_samples()
        if images[1].ndim != 1:
            return  # more than one label an image
        sample = PixelSample(*images)
        own = sample.code(sorted(set(encoder.current_levels().flatten().tolist())))[0]
        most = sample.code(sample.spread(COUNTS[-1]))[0] if len(sample.found) > 1 else 0.0
        if own >= _LITTLE * most:
            return
        levels, has = choose_levels(*images), encoder.num_thresholds
        wanted = len(levels.chosen)
        if wanted > max(_FEW, has):
            note(
                f"the net's thresholds, {has} a pixel, keep {own / most:.0%} of what single pixels of these images say "
                f"of the class; --model.net.thresholds=auto takes {wanted}, which keep {levels.share(wanted):.0%}"
            )
