"""CAGE: the temperature of the backward pass follows how decided the gates are."""

from typing import Any

import lightning.pytorch as pl
import torch

from lgn_lightning.base.lightning_private import logs_this_step
from lgn_lightning.callbacks.net_state import NetState
from lgn_lightning.callbacks.training_length import begins_step
from lgn_lightning.nn import GateLayer, logic_layers
from lgn_lightning.nn.samplers import Gumbel, StraightThrough


class ConfidenceTemperature(NetState):
    """Adapts the temperature of straight-through samplers (CAGE: Kim, arXiv 2603.14157).

    The forward pass is hard whatever the temperature, so there is no gap; the backward pass is soft while gates are
    undecided, which keeps gradients flowing, and sharp once they have decided:

        C ← decay · C + (1 − decay) · mean_n max_i p_ni
        temperature = highest − (highest − lowest) · (C − 1/K) / (1 − 1/K)

    with p_n the distribution over gates of neuron n and K the number of gates, 16. C starts as 1/K. The equations are
    those of other implementations, as the paper itself could not be read here. Logged as ``sampler/confidence`` and
    ``sampler/temperature``.

    Args:
        highest: Temperature of gates of which every one is as likely.
        lowest: Temperature of gates that have decided.
        decay: Of the mean at a step, in [0, 1).
        every_n_steps: Steps between two looks at all gates; the mean then moves by 1 − decayⁿ.

    Raises:
        ValueError: If an argument is out of range; when training starts, if the net has no straight-through sampler.
    """

    def __init__(self, highest: float = 3.0, lowest: float = 0.5, decay: float = 0.99, every_n_steps: int = 10) -> None:
        if not (0 < lowest <= highest and 0 <= decay < 1 and every_n_steps >= 1):
            raise ValueError(
                f"ConfidenceTemperature(highest={highest}, lowest={lowest}, decay={decay}, every_n_steps="
                f"{every_n_steps}): 0 < lowest ≤ highest, decay in [0, 1), at least one step"
            )
        self.highest, self.lowest, self.decay, self.every_n_steps = highest, lowest, decay, every_n_steps
        self._layers: list[GateLayer] = []
        self.begin()

    def begin(self) -> None:
        """Gates are all as likely."""
        #: Share of the way from gates that are all as likely to decided ones, 0 to 1.
        self.decided = 0.0

    def state_dict(self) -> dict[str, Any]:
        """How far the gates have decided."""
        return {"decided": self.decided}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.decided = float(state_dict["decided"])

    @property
    def temperature(self) -> float:
        """Of the backward pass."""
        return self.highest - (self.highest - self.lowest) * self.decided

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        layers = list(logic_layers(pl_module).values())
        self._layers = [layer for layer in layers if isinstance(layer.sampler, (StraightThrough, Gumbel))]
        self._layers = [layer for layer in self._layers if layer.sampler.hard]
        if not self._layers:
            kinds = ", ".join(sorted({layer.sampler.name for layer in layers})) or "none"
            raise ValueError(
                "ConfidenceTemperature changes the backward pass of straight-through samplers alone, and this net has "
                f"none (there are: {kinds}); set sampler: straight_through"
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0 and begins_step(trainer, batch_idx):
            kept = self.decay**self.every_n_steps if trainer.global_step else self.decay
            self.decided = kept * self.decided + (1 - kept) * self._share()
        for layer in self._layers:
            layer.sampler.temperature = self.temperature
        if logs_this_step(trainer):
            pl_module.log_dict({"sampler/confidence": self.decided, "sampler/temperature": self.temperature})

    @torch.no_grad()
    def _share(self) -> float:
        """Mean over all gates of how far each has decided: the confidence, mapped from [1/K, 1] to [0, 1]."""
        total, count = 0.0, 0
        for layer in self._layers:
            least = layer.parametrization.least_confidence(layer.arity)
            confidence = layer.parametrization.confidence(layer.weights.detach().float())
            total += float(((confidence - least) / (1 - least)).sum())
            count += len(confidence)
        return total / count
