"""Exchanges the slots that have lost in layers whose gates and wires are chosen together."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lgn_lightning.base.lightning_private import logs_this_step
from lgn_lightning.callbacks.net_state import NetState
from lgn_lightning.callbacks.redrawing import forget_moments, seed_of_run, seeded_generator
from lgn_lightning.callbacks.training_length import begins_step, training_steps
from lgn_lightning.gates import NUM_GATES
from lgn_lightning.nn import SlotLayer


class ResampleSlots(NetState):
    """Gives neurons that have decided new slots to choose among (CompactLogic, arXiv 2602.05830, by its code).

    At every step the mean over time of each neuron's entropy is followed. A neuron whose entropy, divided by the log of
    its slots, has stayed within ``tolerance`` of its mean for ``patience`` steps has converged. If its best slot has a
    share above ``decided``, the others get gates and wires drawn anew and a weight of 0, while the best one keeps its
    share. Their moments in the optimizer become 0.

    The draws depend on seed, step and layer: a resumed run is exact, and all ranks draw the same. Logged as
    ``resampled/neurons``, the number of times that a neuron got new slots.

    Args:
        decay: Of the mean, in [0, 1).
        tolerance: Of the entropy, from 0 to 1.
        patience: Steps.
        decided: Share of the best slot.
        until: Share of the training, in (0, 1], after which slots stay.
        seed: Of the draws; ``None`` means the one of ``seed_everything``, else 0.

    Raises:
        ValueError: If an argument is out of range; when training starts, if the net has no slots.
    """

    def __init__(
        self,
        decay: float = 0.99,
        tolerance: float = 5e-4,
        patience: int = 200,
        decided: float = 0.95,
        until: float = 0.8,
        seed: int | None = None,
    ) -> None:
        if not (0 <= decay < 1 and tolerance > 0 and patience >= 1 and 0 < decided < 1 and 0 < until <= 1):
            raise ValueError(
                f"ResampleSlots(decay={decay}, tolerance={tolerance}, patience={patience}, decided={decided}, "
                f"until={until}): decay in [0, 1), a positive tolerance, at least one step, shares in (0, 1)"
            )
        self.decay, self.tolerance, self.patience = decay, tolerance, patience
        self.decided, self.until, self.seed = decided, until, seed
        self._steps = 0.0
        self.begin()

    def begin(self) -> None:
        """Nothing is followed yet."""
        self._means: list[Tensor] = []
        self._steady: list[Tensor] = []
        self._resampled = 0

    def state_dict(self) -> dict[str, Any]:
        """Means, counts, and the number of neurons resampled."""
        means, steady = ([part.cpu() for part in parts] for parts in (self._means, self._steady))
        return {"means": means, "steady": steady, "resampled": self._resampled}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores them."""
        self._means, self._steady = list(state_dict["means"]), list(state_dict["steady"])
        self._resampled = state_dict["resampled"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        layers = slot_layers(pl_module)
        if not layers:
            raise ValueError(
                "ResampleSlots is for layers of slots, and this net has none; choose connections: slots or leave the "
                "callback out"
            )
        self._steps = training_steps(trainer, "ResampleSlots")
        entropies = [normalised_entropy(layer) for layer in layers]
        if [len(mean) for mean in self._means] != [len(entropy) for entropy in entropies]:
            self._means = entropies
            self._steady = [torch.zeros_like(entropy, dtype=torch.int32) for entropy in entropies]
        self._means, self._steady = (
            [part.to(entropy.device) for part, entropy in zip(parts, entropies, strict=True)]
            for parts in (self._means, self._steady)
        )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if 0 < step <= self.until * self._steps and begins_step(trainer, batch_idx):
            for number, layer in enumerate(slot_layers(pl_module)):
                if layer.frozen:
                    continue
                entropy, mean = normalised_entropy(layer), self._means[number]
                steady = torch.where((entropy - mean).abs() < self.tolerance, self._steady[number] + 1, 0)
                self._means[number] = self.decay * mean + (1 - self.decay) * entropy
                converged = steady >= self.patience
                rows = resample(layer, converged, self.decided, seeded_generator(seed_of_run(self.seed), step, number))
                self._steady[number] = steady.masked_fill(converged, 0)
                for optimizer in trainer.optimizers:
                    forget_moments(optimizer, layer.weights, rows)
                self._resampled += int(rows.any(1).sum())
        if logs_this_step(trainer):
            pl_module.log("resampled/neurons", float(self._resampled), sync_dist=False)


def slot_layers(module: pl.LightningModule) -> list[SlotLayer]:
    """Layers of slots, the first one first."""
    return [part for part in module.modules() if isinstance(part, SlotLayer)]


@torch.no_grad()
def normalised_entropy(layer: SlotLayer) -> Tensor:
    """Entropy of each neuron's choice, over the log of its slots: ``[out_dim]``, from 0 to 1."""
    log_shares = torch.log_softmax(layer.weights.detach().float(), dim=1)
    return -(log_shares.exp() * log_shares).sum(1) / torch.tensor(float(layer.weights.shape[1])).log()


@torch.no_grad()
def resample(layer: SlotLayer, neurons: Tensor, decided: float, generator: torch.Generator) -> Tensor:
    """Draws the losing slots of decided neurons, of those given ``[n]``, anew; says which: bool ``[n, slots]``."""
    shares = torch.softmax(layer.weights, dim=1)
    best, winner = shares.max(1)
    rows = (neurons & (best > decided))[:, None].expand_as(shares).clone()
    kept = rows[:, 0].clone()
    rows.scatter_(1, winner[:, None], False)
    count = int(rows.sum())
    if count:
        best = best.clamp(1e-6, 1 - 1e-6)
        layer.weights[kept] = 0.0
        layer.weights[kept, winner[kept]] = torch.log(best[kept] * (shares.shape[1] - 1) / (1 - best[kept]))
        gates = torch.randint(NUM_GATES, (count,), generator=generator)
        layer.slot_gates[rows] = gates.to(layer.slot_gates)
        for wires in (layer.slot_a, layer.slot_b):
            wires[rows] = torch.randint(layer.in_dim, (count,), generator=generator).to(wires)
    return rows
