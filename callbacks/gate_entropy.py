"""How decided the gates are, and which gates they settle on."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor, nn

from lgn_lightning.gates import CONSTANT_GATES, NUM_GATES, PASS_THROUGH_GATES
from lgn_lightning.nn import logic_layers


class GateEntropy(pl.Callback):
    """Logs at the end of a training epoch how decided the gates are, and which gates they settle on.

    - ``gate_entropy/layer_1`` … (1-based): mean entropy of the layer's gate distributions, in bits: 4 for 16 equally
      likely gates, 0 for a gate that is decided. ``gate_entropy/mean`` is the mean over all neurons of the net.
    - ``gates/pass_through`` and ``gates/constant``, in all and ``…_layer_1`` …: share, in [0, 1], of neurons whose most
      likely gate copies or negates one input (A, B, not A, not B), or ignores both.
    - ``gates/chosen_layer_1`` …: histogram of the 16 gates chosen, to wandb and TensorBoard, which can show one.

    Nothing is logged for nets without logic layers.

    Args:
        every_n_epochs: Log at the end of each *n*-th training epoch.

    Raises:
        ValueError: If it is below 1.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"GateEntropy(every_n_epochs={every_n_epochs}): must be at least 1")
        self.every_n_epochs = every_n_epochs

    @staticmethod
    def summary(net: nn.Module) -> dict[str, float]:
        """Gives the values that the callback logs, of any net; empty if it has no logic layers."""
        return gate_statistics(net)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs scalars to every logger, histograms where there is a place for them."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        # The parameters are equal on all ranks, so every rank logs the same numbers.
        pl_module.log_dict(gate_statistics(pl_module), sync_dist=False)
        if trainer.is_global_zero:
            self._log_histograms(trainer, pl_module)

    def _log_histograms(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, (TensorBoardLogger, WandbLogger))]
        if not loggers:
            return
        edges = np.arange(NUM_GATES + 1) - 0.5
        chosen = {f"gates/chosen_layer_{i}": gates.cpu() for i, gates in enumerate(_chosen(pl_module), 1)}
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                import wandb

                histograms: dict[str, Any] = {
                    name: wandb.Histogram(np_histogram=np.histogram(gates.numpy(), bins=edges))
                    for name, gates in chosen.items()
                }
                logger.log_metrics(histograms, step=trainer.global_step)
            else:
                for name, gates in chosen.items():
                    logger.experiment.add_histogram(name, gates.numpy(), trainer.global_step, bins=edges)


def gate_statistics(net: nn.Module) -> dict[str, float]:
    """Measures how decided the gates of a net are and which kinds they settle on.

    Args:
        net: Any module; its logic layers are looked at.

    Returns:
        The metrics of :class:`GateEntropy` by name; empty if there are no logic layers.
    """
    entropies = [_entropy_bits(layer.gate_probabilities()) for layer in logic_layers(net).values()]
    if not entropies:
        return {}
    values = _mean_by_layer(entropies, "gate_entropy/mean", "gate_entropy/layer_")
    chosen = _chosen(net)
    for kind, gates in (("pass_through", PASS_THROUGH_GATES), ("constant", CONSTANT_GATES)):
        members = [torch.isin(ids, torch.tensor(gates, dtype=ids.dtype, device=ids.device)) for ids in chosen]
        values |= _mean_by_layer([m.double() for m in members], f"gates/{kind}", f"gates/{kind}_layer_")
    return values


def gate_histogram(net: nn.Module) -> Tensor:
    """Counts the gates that each logic layer settles on.

    Returns:
        int64 ``[layers, 16]`` on the CPU, by gate id.
    """
    counts = [torch.bincount(gates.flatten().long(), minlength=NUM_GATES).cpu() for gates in _chosen(net)]
    return torch.stack(counts) if counts else torch.zeros(0, NUM_GATES, dtype=torch.int64)


def _chosen(net: nn.Module) -> list[Tensor]:
    return [layer.gates() for layer in logic_layers(net).values()]


def _entropy_bits(probabilities: Tensor) -> Tensor:
    # entr is −p·ln p with 0 at p = 0, where a product with a logarithm would be NaN.
    entropy: Tensor = torch.special.entr(probabilities).sum(-1).double() / math.log(2)
    return entropy


def _mean_by_layer(layers: list[Tensor], whole: str, prefix: str) -> dict[str, float]:
    sums, counts = [float(layer.sum()) for layer in layers], [layer.numel() for layer in layers]
    values = {f"{prefix}{i}": s / n for i, (s, n) in enumerate(zip(sums, counts, strict=True), 1)}
    return {whole: sum(sums) / sum(counts)} | values
