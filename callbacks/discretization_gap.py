"""Compares the soft and the hard net layer by layer, where the discretization gap opens."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lgn_lightning.nn import GateLayer, logic_layers, soft_gates
from lgn_lightning.nn.watching import watching


class DiscretizationGap(pl.Callback):
    """Logs, on validation batches, how far the hard net departs from the soft one, layer by layer.

    :class:`~lgn_lightning.LogicClassifier` logs soft and hard accuracy and their difference. This callback adds:

    - ``gap/layer_1`` … (1-based, in the order of the net): the share, in [0, 1], of (neuron, sample) pairs of that
      logic layer whose hard value differs from the rounded soft value. Each net computes on its own activations, from
      the same encoded input, so the share of a layer includes the differences of the layers before it.
    - ``gap/loss``: hard minus soft loss on those batches; positive where discretization costs.

    It costs one hard and one soft forward pass per batch. Nothing is logged for nets without logic layers.

    Args:
        every_n_epochs: Measure in each *n*-th training epoch's validation (always in ``trainer.validate``).
        max_batches: Batches per validation and process to measure on; None for all of them.
    """

    def __init__(self, every_n_epochs: int = 1, max_batches: int | None = 10) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"DiscretizationGap(every_n_epochs={every_n_epochs}): must be at least 1")
        if max_batches is not None and max_batches < 1:
            raise ValueError(f"DiscretizationGap(max_batches={max_batches}): must be at least 1, or None for all")
        self.every_n_epochs = every_n_epochs
        self.max_batches = max_batches
        self._tally: _Tally | None = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tally = None
        due = trainer.state.fn != TrainerFn.FITTING or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and not trainer.sanity_checking and logic_layers(pl_module):
            self._tally = _Tally(len(logic_layers(pl_module)), pl_module.device)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if self._tally is None or self._tally.batches == self.max_batches:
            return
        x, y = batch
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            self._tally.add(pl_module, x, y)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._tally is None:
            return
        tally, self._tally = self._tally, None
        # Every rank takes part, also one without a batch. Sums of counts are right for uneven ranks.
        values = tally.values(lambda t: trainer.strategy.reduce(t, reduce_op="sum"))
        pl_module.log_dict(values, sync_dist=False)


class _Tally:
    """Counts on the device: a batch does not wait for it."""

    def __init__(self, layers: int, device: torch.device) -> None:
        self.batches = 0
        self._differing = torch.zeros(layers, dtype=torch.int64, device=device)
        self._pairs = torch.zeros(layers, dtype=torch.int64, device=device)
        self._loss = torch.zeros(2, device=device)  # sums over samples of hard minus soft loss; samples

    def add(self, module: pl.LightningModule, x: Any, y: Tensor) -> None:
        layers = dict(enumerate(logic_layers(module).values()))
        hard: list[list[Tensor]] = [[] for _ in layers]

        def keep(index: int, _: Any, output: Tensor) -> None:
            if _is_of_gates(layers[index], output):
                hard[index].append(output > 0.5)

        def compare(index: int, _: Any, output: Tensor) -> None:
            if _is_of_gates(layers[index], output):
                differing = (output > 0.5) != hard[index].pop(0)
                self._differing[index] += differing.sum()
                self._pairs[index] += differing.numel()

        with watching(layers, keep):
            scores_hard = module(x)
        with watching(layers, compare), soft_gates(module):
            scores_soft = module(x)
        loss = getattr(module, "loss_of", getattr(module, "loss", None))
        if callable(loss):
            self._loss[0] += (loss(scores_hard, y) - loss(scores_soft, y)).float() * len(y)
            self._loss[1] += len(y)
        self.batches += 1

    def values(self, reduce: Any) -> dict[str, Tensor]:
        differing, pairs, loss = reduce(self._differing), reduce(self._pairs), reduce(self._loss)
        values = {}
        for index, (count, total) in enumerate(zip(differing.tolist(), pairs.tolist(), strict=True), 1):
            if total:
                values[f"gap/layer_{index}"] = torch.tensor(count / total)
        if loss[1] > 0:
            values["gap/loss"] = (loss[0] / loss[1]).cpu()
        return values


def _is_of_gates(layer: GateLayer, output: Tensor) -> bool:
    """Whether it is no group sum's scores, which are fewer, that a user's net fused into the layer."""
    return output.shape[1:2] == (layer.out_dim,)
