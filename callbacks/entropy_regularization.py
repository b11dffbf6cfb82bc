"""A price on undecided gates, added to the loss."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import Tensor

from lgn_lightning.callbacks.training_length import logs_this_step, training_steps
from lgn_lightning.module import LogicClassifier
from lgn_lightning.nn import GateLayer, logic_layers


class EntropyRegularization(pl.Callback):
    """Adds the mean entropy of the gate distributions to the loss, so that gates decide before they are made hard.

    loss + λ · mean over all neurons of H, in bits: the minimum-entropy regularizer of Grandvalet and Bengio (NeurIPS
    2004, eq. 6), there of class probabilities and here of gates. H is that of the softmax over 16 gates, or the sum of
    the binary entropies of a table's entries for ``sigmoid`` and ``walsh``; samplers' temperature and noise are no part
    of it. λ is 0 up to ``start`` and rises linearly to ``weight`` at ``until``.

    Logged as ``entropy_penalty/weight`` (λ) and ``entropy_penalty/bits`` (mean H); ``train/loss`` includes λ·H. Works
    with every sampler, ``compile`` and ``cuda_graph``, which reads λ from memory. A resumed run goes on exactly: λ
    depends on the step alone.

    Args:
        weight: λ at ``until`` and after, loss a bit.
        start: Share of the training, in [0, 1), up to which gates may be undecided for free.
        until: Share of the training, in (``start``, 1], from which on λ is ``weight``.

    Raises:
        ValueError: If an argument is out of range, or when training starts, if there are no gates, the module is no
            :class:`~lgn_lightning.LogicClassifier` or the length of the training is not known.
    """

    def __init__(self, weight: float = 0.05, start: float = 0.0, until: float = 1.0) -> None:
        if not weight > 0:
            raise ValueError(f"EntropyRegularization(weight={weight}): must be positive")
        if not 0 <= start < until <= 1:
            raise ValueError(
                f"EntropyRegularization(start={start}, until={until}): shares of the training, 0 <= start < until <= 1"
            )
        self.weight = weight
        self.start = start
        self.until = until
        self._steps = 0.0
        self._factor = torch.zeros(())

    def factor(self, progress: float) -> float:
        """λ at a share of the training in [0, 1]."""
        return self.weight * min(max((progress - self.start) / (self.until - self.start), 0.0), 1.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the term to the module's loss."""
        layers = list(logic_layers(pl_module).values())
        if not layers:
            raise ValueError("EntropyRegularization: the net has no layer of gates, and so no gate to decide")
        if not isinstance(pl_module, LogicClassifier):
            raise ValueError(
                f"EntropyRegularization adds to the loss of a LogicClassifier, and this is a {type(pl_module).__name__}"
            )
        self._steps = training_steps(trainer, "EntropyRegularization")
        # A tensor, as a CUDA graph holds numbers of Python fast.
        self._factor = torch.zeros((), device=pl_module.device)
        pl_module.penalties["entropy"] = lambda: self._factor * mean_entropy(layers)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Sets λ of this step."""
        factor = self.factor(min(trainer.global_step / max(self._steps - 1, 1), 1.0))
        self._factor.fill_(factor)
        if logs_this_step(trainer):
            with torch.no_grad():
                bits = mean_entropy(list(logic_layers(pl_module).values()))
            pl_module.log_dict({"entropy_penalty/weight": factor, "entropy_penalty/bits": bits}, sync_dist=False)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Takes the term out of the loss."""
        if isinstance(pl_module, LogicClassifier):
            pl_module.penalties.pop("entropy", None)


def mean_entropy(layers: list[GateLayer]) -> Tensor:
    """Mean entropy of the neurons' distributions over gates, in bits: a scalar, differentiable."""
    with torch.autocast(layers[0].weights.device.type, enabled=False):
        entropies = [layer.parametrization.entropy(layer.weights).sum() for layer in layers]
    return torch.stack(entropies).sum() / sum(layer.num_neurons for layer in layers)
