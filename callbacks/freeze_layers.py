"""Layers that become hard while the ones behind them still learn."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lgn_lightning.callbacks.training_length import logs_this_step, training_steps
from lgn_lightning.nn import GateLayer, logic_layers
from lgn_lightning.nn.encoders import Threshold
from lgn_lightning.nn.parametrizations import Parametrization
from lgn_lightning.nn.samplers import GateSample, Sampler
from lgn_lightning.training.classifier import LogicClassifier


class FreezeLayers(pl.Callback):
    """Makes the layers of gates hard one after the other, from the input on, so that later ones learn on real bits.

    The schedule of CompactLogic (Wang et al., arXiv 2602.05830; its code freezes layers at equal distances and leaves
    the last one free). The first layer is frozen at the step that is the share ``start`` of the training, the last but
    ``free`` at ``until``, the others at equal distances between.

    A frozen layer computes with the gates that its weights settle on, its parameters get no gradient, and its weights
    become those of the hard tables, so that checkpoints, entropies and the soft accuracy see a decided layer, up to
    1e-7. Which layers are frozen depends on the step alone: a resumed run goes on exactly. Works with every sampler
    (straight-through layers lose their noise), ``compile`` (each freeze compiles once more) and ``cuda_graph``.

    Logged as ``frozen/layers``, the number of frozen layers.

    Args:
        start: Share of the training, in [0, 1], at which the first layer is frozen.
        until: Share of the training, in [``start``, 1], at which the last one is.
        free: Layers before the output that are never frozen, at least 1: something has to learn.

    Raises:
        ValueError: If an argument is out of range, or when training starts, if the net has too few layers, trains on
            grey values, or shares gradients by a DDP that must not leave parameters out.
    """

    def __init__(self, start: float = 0.5, until: float = 0.9, free: int = 1) -> None:
        if not 0 <= start <= until <= 1:
            raise ValueError(
                f"FreezeLayers(start={start}, until={until}): shares of the training, 0 <= start <= until <= 1"
            )
        if free < 1:
            raise ValueError(f"FreezeLayers(free={free}): at least one layer has to go on learning")
        self.start = start
        self.until = until
        self.free = free
        self._layers: list[GateLayer] = []
        self._steps = 0.0
        self._frozen: list[tuple[GateLayer, Sampler]] = []

    def frozen_at(self, progress: float, layers: int) -> int:
        """How many of a net's layers are frozen at a share of the training in [0, 1]."""
        count = layers - self.free
        distance = (self.until - self.start) / max(count - 1, 1)
        return sum(progress >= self.start + i * distance - 1e-9 for i in range(count))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at the net; freezes nothing yet."""
        self._layers = list(logic_layers(pl_module).values())
        if len(self._layers) <= self.free:
            raise ValueError(
                f"FreezeLayers(free={self.free}): the net has {len(self._layers)} layers of gates, and none is left "
                "to freeze"
            )
        if any(isinstance(m, Threshold) and m.grey_in_training for m in pl_module.modules()):
            raise ValueError(
                "FreezeLayers: the net trains on grey values (grey_in_training: true), between which hard gates are "
                "no gates; set it to false"
            )
        check_strategy(trainer, "FreezeLayers")
        self._steps = training_steps(trainer, "FreezeLayers")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Freezes the layers whose time has come."""
        count = self.frozen_at(min(trainer.global_step / max(self._steps - 1, 1), 1.0), len(self._layers))
        while len(self._frozen) < count:
            layer = self._layers[len(self._frozen)]
            self._frozen.append((layer, layer.sampler))
            _freeze(layer)
            if isinstance(pl_module, LogicClassifier):
                pl_module.reset_cuda_graph()
            rank_zero_info(
                f"FreezeLayers: layer {len(self._frozen)} of {len(self._layers)} is hard from step "
                f"{trainer.global_step} on"
            )
        if logs_this_step(trainer):
            pl_module.log("frozen/layers", float(len(self._frozen)), sync_dist=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the layers their samplers and gradients back; their weights stay decided."""
        self._release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The same after a training that failed."""
        self._release()

    def _release(self) -> None:
        for layer, sampler in self._frozen:
            layer.sampler = sampler
            layer.requires_grad_(True)
        self._frozen = []


def check_strategy(trainer: pl.Trainer, who: str) -> None:
    """Refuses a DDP that waits for the gradients of all parameters.

    Args:
        trainer: The trainer, in a fit.
        who: Names what leaves parameters without gradients in the error.

    Raises:
        ValueError: If the strategy is such a DDP.
    """
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters"):
        raise ValueError(
            f"{who} leaves parameters without gradients: give --trainer.strategy=ddp_find_unused_parameters_true"
        )


def _freeze(layer: GateLayer) -> None:
    with torch.no_grad():
        table = layer.parametrization.hard_table(layer.weights).to(layer.weights.dtype)
        layer.weights.copy_(layer.parametrization.from_table(table))
    layer.sampler = HardGates(layer.sampler.hard)
    # The optimizer leaves out what has no gradient, with its momentum.
    layer.requires_grad_(False)
    for parameter in layer.parameters():
        parameter.grad = None


class HardGates(Sampler):
    """The gates that the weights settle on, and no gradient for the weights.

    Args:
        hard: Whether the layer runs on bits, as straight-through layers do, or on hard tables.
    """

    name = "hard"

    def __init__(self, hard: bool) -> None:
        super().__init__()
        self._hard = hard

    @property
    def hard(self) -> bool:
        """As given."""
        return self._hard

    def __call__(self, parametrization: Parametrization, weights: Tensor, plain: bool = False) -> GateSample:
        """Gives hard tables, and the gates where the layer runs on bits."""
        logits = parametrization.logits(weights.detach())
        table = parametrization.hard_table_of_logits(logits).to(logits.dtype)
        return GateSample(table, parametrization.gates_of_logits(logits) if self._hard else None)

    def without_noise(self) -> Sampler:
        """Itself: it has none."""
        return self
