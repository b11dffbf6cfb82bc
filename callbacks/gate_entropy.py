"""Logs how decided the gates are, and which gates they settle on."""

from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor, nn

from lgn_lightning.gates import NUM_GATES
from lgn_lightning.nn import logic_layers
from lgn_lightning.nn.parametrization import inputs_used


class GateEntropy(pl.Callback):
    """Logs at the end of a training epoch how decided the gates are, and which gates they settle on.

    - ``gate_entropy/layer_1`` … (1-based): mean entropy of the layer's gate distributions, in bits: 4 for 16 equally
      likely gates (2^k with k inputs), 0 for a decided gate. ``gate_entropy/mean`` is the mean over all neurons.
    - ``gates/pass_through`` and ``gates/constant``, in all and ``…_layer_1`` …: share, in [0, 1], of neurons whose most
      likely gate copies or negates one input (A, B, not A, not B), or ignores them all.
    - ``gates/chosen_layer_1`` …: histogram of the 16 gates, in layers of two-input gates, for wandb and TensorBoard.

    Nothing is logged for nets without logic layers.

    Args:
        every_n_epochs: Log at the end of each *n*-th training epoch.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"GateEntropy(every_n_epochs={every_n_epochs}): must be at least 1")
        self.every_n_epochs = every_n_epochs

    @staticmethod
    def summary(net: nn.Module) -> dict[str, float]:
        """The values that the callback logs, for any net; empty if it has no logic layers."""
        layers = list(logic_layers(net).values())
        if not layers:
            return {}
        entropies = [layer.entropy() for layer in layers]
        values = _mean_by_layer(entropies, "gate_entropy/mean", "gate_entropy/layer_")
        used = [inputs_used(layer.hard_table()) for layer in layers]
        for kind, count in (("pass_through", 1), ("constant", 0)):
            values |= _mean_by_layer([(u == count).double() for u in used], f"gates/{kind}", f"gates/{kind}_layer_")
        return values

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs scalars to every logger, and histograms to those that show them."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        # The parameters are equal on all ranks, so every rank logs the same numbers.
        pl_module.log_dict(self.summary(pl_module), sync_dist=False)
        if trainer.is_global_zero:
            self._log_histograms(trainer, pl_module)

    def _log_histograms(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, (TensorBoardLogger, WandbLogger))]
        if not loggers:
            return
        edges = np.arange(NUM_GATES + 1) - 0.5
        chosen = {f"gates/chosen_layer_{i}": gates.cpu() for i, gates in _chosen(pl_module).items()}
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                import wandb  # an extra, which is there if its logger is

                histograms: dict[str, Any] = {
                    name: wandb.Histogram(np_histogram=np.histogram(gates.numpy(), bins=edges))
                    for name, gates in chosen.items()
                }
                logger.log_metrics(histograms, step=trainer.global_step)
            else:
                for name, gates in chosen.items():
                    logger.experiment.add_histogram(name, gates.numpy(), trainer.global_step, bins=edges)


def _chosen(net: nn.Module) -> dict[int, Tensor]:
    """Gate ids of the layers of two-input gates, by the layer's number, counted from 1."""
    layers = enumerate(logic_layers(net).values(), 1)
    return {number: layer.gates() for number, layer in layers if layer.arity == 2}


def _mean_by_layer(layers: list[Tensor], whole: str, prefix: str) -> dict[str, float]:
    sums, counts = [float(layer.sum()) for layer in layers], [layer.numel() for layer in layers]
    values = {f"{prefix}{i}": s / n for i, (s, n) in enumerate(zip(sums, counts, strict=True), 1)}
    return {whole: sum(sums) / sum(counts)} | values
