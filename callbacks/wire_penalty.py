"""A price on gates that are only wires or constants, added to the loss."""

import lightning.pytorch as pl
import torch
from torch import Tensor

from lgn_lightning.base.lightning_private import logs_this_step
from lgn_lightning.callbacks.training_length import progress, training_steps
from lgn_lightning.nn import GateLayer, logic_layers
from lgn_lightning.training.module import LogicModule

#: Name among the terms of the module's loss.
_NAME = "wire"


class WirePenalty(pl.Callback):
    """Makes gates that ignore an input (wires, constants) use all their inputs, unless the net needs them as they are.

    loss + λ · mean over all neurons of d, where d is how far the logits of a gate that ignores an input are from those
    of the nearest gate that depends on all of them, and 0 for gates that do. For ``sigmoid`` and ``walsh`` d is the
    smallest magnitude of the table's logits: if one entry of such a table flips, its number of ones becomes odd, and an
    odd table depends on every input. For ``softmax`` it is how much the largest logit exceeds that of the likeliest
    gate of two inputs. The gradient touches the entry that is nearest to its flip, and ends with the flip.

    The loss does not depend on most wires of a deep net. Those flip at any price, because Adam scales small gradients
    up, while a wire that the scores depend on stays. λ is 0 up to ``start`` and rises linearly to ``weight`` at
    ``until``. Meant for ``straight_through``, where gates are hard from the first step on.

    Works with every sampler, ``compile`` and ``cuda_graph``, which reads λ from memory. λ depends on the step alone, so
    a resumed run is exact. Logged as ``wire_penalty/weight`` (λ) and ``wire_penalty/distance`` (mean d); ``train/loss``
    includes λ·d.

    Args:
        weight: λ at ``until`` and after, loss per unit of logit.
        start: Share of the training, in [0, 1), up to which wires are free.
        until: Share of the training, in (``start``, 1], from which on λ is ``weight``.

    Raises:
        ValueError: If an argument is out of range, or when training starts, if the net has no gates, the module is no
            :class:`~lgn_lightning.LogicModule` or the length of the training is not known.
    """

    def __init__(self, weight: float = 0.1, start: float = 0.0, until: float = 0.9) -> None:
        if not 0 < weight <= torch.finfo(torch.float32).max:
            raise ValueError(f"WirePenalty(weight={weight}): must be a positive number that float32 holds")
        if not 0 <= start < until <= 1:
            raise ValueError(
                f"WirePenalty(start={start}, until={until}): shares of the training, 0 <= start < until <= 1"
            )
        self.weight = weight
        self.start = start
        self.until = until
        self._steps = 0.0
        self._factor = torch.zeros(())

    @staticmethod
    def measure(layers: list[GateLayer]) -> Tensor:
        """Mean of d over all neurons of these layers: a scalar, differentiable, float32 under autocast too."""
        with torch.autocast(layers[0].weights.device.type, enabled=False):
            sums = [layer.parametrization.distance_to_full(layer.weights).sum() for layer in layers]
        return torch.stack(sums).sum() / sum(layer.num_neurons for layer in layers)

    def factor(self, progress: float) -> float:
        """λ at a share of the training in [0, 1]."""
        return self.weight * min(max((progress - self.start) / (self.until - self.start), 0.0), 1.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        layers = list(logic_layers(pl_module).values())
        if not layers:
            raise ValueError("WirePenalty: the net has no layer of gates; leave the callback out")
        if not isinstance(pl_module, LogicModule):
            raise ValueError(f"WirePenalty adds to the loss of a LogicModule, and this is a {type(pl_module).__name__}")
        self._steps = training_steps(trainer, "WirePenalty")
        # A tensor, because a CUDA graph would keep the value of a Python number.
        self._factor = torch.zeros((), device=pl_module.device)
        pl_module.penalties[_NAME] = lambda: self._factor * self.measure(layers)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        factor = self.factor(progress(trainer, self._steps))
        self._factor.fill_(factor)
        if logs_this_step(trainer):
            with torch.no_grad():
                distance = self.measure(list(logic_layers(pl_module).values()))
            pl_module.log("wire_penalty/weight", factor, sync_dist=False)
            pl_module.log("wire_penalty/distance", distance, sync_dist=False)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if isinstance(pl_module, LogicModule):
            pl_module.penalties.pop(_NAME, None)
