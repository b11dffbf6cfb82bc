"""Warns when the scores of the group sum saturate the softmax, because its temperature is too small."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import functional

from lgn_lightning.nn import GroupSum
from lgn_lightning.training.targets import Classes

#: Probability of a class above which a sample is saturated: its gradient is less than a thousandth.
SATURATED = 0.999
#: Share of saturated samples below which there is no warning.
_NOTICEABLE = 0.1
_TEMPERATURES = torch.logspace(-4, 4, 65, base=2.0)


class ScoreSaturation(pl.Callback):
    """Logs, on validation batches, how far the scores saturate the softmax, and warns once if tau is too small.

    - ``scores/saturated``: share, in [0, 1], of samples whose most likely class has a probability above 0.999.
    - ``scores/temperature``: the divisor T of the scores that gives the lowest cross-entropy (temperature scaling, Guo
      et al., ICML 2017, arXiv 1706.04599), between 1/16 and 16. Above 1 the net is overconfident, and tau · T would be
      a better tau.

    It costs one hard forward pass over ``max_batches`` batches per validation, and nothing in a training step. Nothing
    is logged for nets without a group sum.

    Args:
        limit: Temperature above which there is a warning, if at least a tenth of the samples are saturated.
        max_batches: Batches per validation and process to measure on.

    Raises:
        ValueError: If ``limit`` is not above 1 or ``max_batches`` below 1.
    """

    def __init__(self, limit: float = 2.0, max_batches: int = 4) -> None:
        if not limit > 1:
            raise ValueError(f"ScoreSaturation(limit={limit}): at a temperature of 1 scores are as they should be")
        if max_batches < 1:
            raise ValueError(f"ScoreSaturation(max_batches={max_batches}): must be at least 1")
        self.limit = limit
        self.max_batches = max_batches
        self._warned = False
        # Samples, saturated ones, and the sum of the loss at each temperature.
        self._sums: Tensor | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._warned = False

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sums = None
        classes = isinstance(getattr(pl_module, "target", None), Classes | None)  # one score has no softmax
        sums = any(isinstance(module, GroupSum) for module in pl_module.modules())
        if not trainer.sanity_checking and classes and sums:
            self._sums = torch.zeros(2 + len(_TEMPERATURES), device=pl_module.device)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if self._sums is None or batch_idx >= self.max_batches:
            return
        x, y = batch
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            self._sums += _measure(pl_module(x).float(), y)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._sums is None:
            return
        # Every rank takes part, also one without a batch.
        sums = trainer.strategy.reduce(self._sums, reduce_op="sum")
        self._sums = None
        assert isinstance(sums, Tensor)
        samples, confident, *losses = sums.tolist()
        if not samples:
            return
        temperature = float(_TEMPERATURES[losses.index(min(losses))])
        share = confident / samples
        values = {"scores/saturated": share, "scores/temperature": temperature}
        pl_module.log_dict(values, sync_dist=False)
        # An untrained net is overconfident, too, but its scores are far from saturated.
        saturated = temperature > self.limit and share >= _NOTICEABLE
        if saturated and not self._warned and trainer.state.fn == TrainerFn.FITTING:
            self._warned = True
            tau = next(module.tau for module in pl_module.modules() if isinstance(module, GroupSum))
            rank_zero_warn(
                f"the scores saturate: {share:.0%} of the validation samples have a class of probability above "
                f"{SATURATED}, and dividing the scores by {temperature:.1f} would lower the loss; try tau="
                f"{tau * temperature:.3g} instead of {tau:.3g}"
            )


def _measure(scores: Tensor, labels: Tensor) -> Tensor:
    """Number of samples, of saturated ones, and the sum of the cross-entropy at each temperature."""
    saturated = (torch.softmax(scores, 1).amax(1) > SATURATED).sum()
    losses = [functional.cross_entropy(scores / t, labels, reduction="sum") for t in _TEMPERATURES.tolist()]
    return torch.stack([saturated.new_tensor(len(labels)).float(), saturated.float(), *losses])
