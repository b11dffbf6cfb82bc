"""The callback: any Lightning callback will do."""

from __future__ import annotations

import lightning.pytorch as pl
import torch

from majority_gates.layer import MajorityLayer


class UndecidedInputs(pl.Callback):
    """Logs ``majority/undecided``: the share of inputs that are neither clearly straight nor clearly inverted.

    Args:
        margin: An input is undecided while its probability lies in ``(margin, 1 − margin)``.
    """

    def __init__(self, margin: float = 0.1) -> None:
        if not 0 < margin < 0.5:
            raise ValueError(f"UndecidedInputs(margin={margin}): must lie between 0 and 0.5")
        self.margin = margin

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measures all majority layers of the net."""
        layers = [module for module in pl_module.modules() if isinstance(module, MajorityLayer)]
        if layers:
            p = torch.cat([layer.probabilities().detach().flatten() for layer in layers])
            undecided = (p > self.margin) & (p < 1 - self.margin)
            pl_module.log("majority/undecided", undecided.float().mean())
