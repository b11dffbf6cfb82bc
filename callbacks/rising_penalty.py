"""What the terms of the loss share whose price rises while the net trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor

from lgn_lightning.callbacks.training_length import logs_this_step, training_steps
from lgn_lightning.nn import GateLayer, logic_layers
from lgn_lightning.training.classifier import LogicClassifier


class RisingPenalty(pl.Callback, ABC):
    """Adds λ · the mean of :meth:`of_neurons` to the loss; λ is 0 up to ``start`` and rises linearly to ``weight``.

    Works with every sampler, ``compile`` and ``cuda_graph``, which reads λ from memory. A resumed run goes on exactly:
    λ depends on the step alone.

    Args:
        weight: λ at ``until`` and after.
        start: Share of the training, in [0, 1), up to which λ is 0.
        until: Share of the training, in (``start``, 1], from which on λ is ``weight``.

    Raises:
        ValueError: If an argument is out of range, or when training starts, if there are no gates, the module is no
            :class:`~lgn_lightning.LogicClassifier` or the length of the training is not known.
    """

    #: Name among the module's penalties; metrics are logged as ``<name>_penalty/…``.
    name: ClassVar[str]
    #: Name of the metric that is the measure.
    unit: ClassVar[str]

    def __init__(self, weight: float, start: float, until: float) -> None:
        if not weight > 0:
            raise ValueError(f"{type(self).__name__}(weight={weight}): must be positive")
        if not 0 <= start < until <= 1:
            raise ValueError(
                f"{type(self).__name__}(start={start}, until={until}): shares of the training, 0 <= start < until <= 1"
            )
        self.weight = weight
        self.start = start
        self.until = until
        self._steps = 0.0
        self._factor = torch.zeros(())

    @staticmethod
    @abstractmethod
    def of_neurons(layer: GateLayer) -> Tensor:
        """What has a price, of each neuron of a layer: ``[num_neurons]``, differentiable."""

    @classmethod
    def measure(cls, layers: list[GateLayer]) -> Tensor:
        """Its mean over all neurons of these layers: a scalar, differentiable, float32 under autocast too."""
        with torch.autocast(layers[0].weights.device.type, enabled=False):
            sums = [cls.of_neurons(layer).sum() for layer in layers]
        return torch.stack(sums).sum() / sum(layer.num_neurons for layer in layers)

    def factor(self, progress: float) -> float:
        """λ at a share of the training in [0, 1]."""
        return self.weight * min(max((progress - self.start) / (self.until - self.start), 0.0), 1.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the term to the module's loss."""
        who = type(self).__name__
        layers = list(logic_layers(pl_module).values())
        if not layers:
            raise ValueError(f"{who}: the net has no layer of gates, and so no gate to decide")
        if not isinstance(pl_module, LogicClassifier):
            raise ValueError(f"{who} adds to the loss of a LogicClassifier, and this is a {type(pl_module).__name__}")
        self._steps = training_steps(trainer, who)
        # A tensor, as a CUDA graph holds numbers of Python fast.
        self._factor = torch.zeros((), device=pl_module.device)
        pl_module.penalties[self.name] = lambda: self._factor * self.measure(layers)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Sets λ of this step."""
        factor = self.factor(min(trainer.global_step / max(self._steps - 1, 1), 1.0))
        self._factor.fill_(factor)
        if logs_this_step(trainer):
            with torch.no_grad():
                measured = self.measure(list(logic_layers(pl_module).values()))
            pl_module.log(f"{self.name}_penalty/weight", factor, sync_dist=False)
            pl_module.log(f"{self.name}_penalty/{self.unit}", measured, sync_dist=False)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the term out of the loss."""
        if isinstance(pl_module, LogicClassifier):
            pl_module.penalties.pop(self.name, None)
