"""Freezes layers whose gates and wires are chosen together, one after the other, once they have converged."""

from typing import Any

import lightning.pytorch as pl

from lgn_lightning.base.lightning_private import logs_this_step
from lgn_lightning.callbacks.net_state import NetState
from lgn_lightning.callbacks.resample_slots import normalised_entropy, slot_layers
from lgn_lightning.callbacks.training_length import begins_step
from lgn_lightning.nn import SlotLayer


class FreezeSlots(NetState):
    """Prunes the slots of converged layers to one a neuron (CompactLogic, arXiv 2602.05830, by its code).

    Of the first layer that is not frozen the mean entropy of its neurons, divided by the log of their slots, is
    followed. Once it has stayed within ``tolerance`` of its mean over time for ``patience`` steps, the layer is frozen:
    from then on its neurons are the slots they have settled on, in training, too, so the layers behind it train on
    bits, and a step takes less time. The last layer trains to the end. Logged as ``frozen/layers``.

    Args:
        decay: Of the mean over time, in [0, 1).
        tolerance: Of the entropy, from 0 to 1.
        patience: Steps.

    Raises:
        ValueError: If an argument is out of range; when training starts, if the net has fewer than two layers of slots,
            or several processes train it, which expect gradients of all layers.
    """

    def __init__(self, decay: float = 0.99, tolerance: float = 5e-4, patience: int = 200) -> None:
        if not (0 <= decay < 1 and tolerance > 0 and patience >= 1):
            raise ValueError(
                f"FreezeSlots(decay={decay}, tolerance={tolerance}, patience={patience}): decay in [0, 1), a positive "
                "tolerance, at least one step"
            )
        self.decay, self.tolerance, self.patience = decay, tolerance, patience
        self.begin()

    def begin(self) -> None:
        """No layer is frozen."""
        self.frozen = 0
        self._mean: float | None = None
        self._steady = 0

    def state_dict(self) -> dict[str, Any]:
        """How many layers are frozen, and what is followed of the next one."""
        return {"frozen": self.frozen, "mean": self._mean, "steady": self._steady}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.frozen, self._mean, self._steady = (state_dict[name] for name in ("frozen", "mean", "steady"))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        layers = slot_layers(pl_module)
        if len(layers) < 2:
            raise ValueError(
                f"FreezeSlots freezes all layers of slots but the last, and this net has {len(layers)}; choose "
                "connections: slots or leave the callback out"
            )
        if trainer.world_size > 1:
            raise ValueError("FreezeSlots is for one process: several wait for the gradients of frozen layers")
        for number, layer in enumerate(layers):
            layer.weights.requires_grad_(number >= self.frozen)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        layers = slot_layers(pl_module)
        if self.frozen < len(layers) - 1 and begins_step(trainer, batch_idx):
            self._follow(layers[self.frozen])
        if logs_this_step(trainer):
            pl_module.log("frozen/layers", float(self.frozen), sync_dist=False)

    def _follow(self, layer: SlotLayer) -> None:
        entropy = float(normalised_entropy(layer).mean())
        if self._mean is None:
            self._mean = entropy
            return
        self._steady = self._steady + 1 if abs(entropy - self._mean) < self.tolerance else 0
        self._mean = self.decay * self._mean + (1 - self.decay) * entropy
        if self._steady >= self.patience:
            layer.weights.requires_grad_(False)
            self.frozen, self._mean, self._steady = self.frozen + 1, None, 0
