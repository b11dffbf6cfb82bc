"""How many threads a training on the CPU uses."""

import os

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_info

from lgn_lightning.nn import LogicTreeConv2d, logic_layers

#: Gate evaluations in a step (gates × batch) above which several threads are faster. A smaller step takes a few
#: milliseconds.
WORTH_THREADS = 1 << 22


def spare_threads(trainer: pl.Trainer, net: torch.nn.Module, batch_size: int) -> None:
    """Trains a small net on one thread, unless ``OMP_NUM_THREADS`` gives a number.

    An op ends when its slowest thread does. If another process occupies one of the cores, that takes milliseconds,
    however small the op, and training on two threads can become more than ten times slower.
    """
    alone = isinstance(trainer.strategy, SingleDeviceStrategy) and trainer.strategy.root_device.type == "cpu"
    if not alone or "OMP_NUM_THREADS" in os.environ or torch.get_num_threads() == 1:
        return
    layers = list(logic_layers(net).values())
    gates = sum(len(layer.weights) for layer in layers)
    if not layers or any(isinstance(layer, LogicTreeConv2d) for layer in layers) or gates * batch_size >= WORTH_THREADS:
        return
    torch.set_num_threads(1)
    rank_zero_info(
        f"Training on one thread: for {gates:,} gates and batches of {batch_size} more would cost more than they save; "
        "OMP_NUM_THREADS sets another number"
    )
