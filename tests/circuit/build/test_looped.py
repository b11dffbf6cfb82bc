"""Looped circuits are recorded as the net computes."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lgn_lightning import GroupSum, OrPool2d, Threshold
from lgn_lightning.circuit import LoopedCircuit
from lgn_lightning.nn import LogicSequential
from tests.circuit.random_conv_nets import hard_scores


def test_pooling_of_the_input_itself() -> None:
    net = LogicSequential(
        Threshold([0.5], (1, 6, 6), flatten=False), OrPool2d(2), OrPool2d((3, 1), (1, 1)), nn.Flatten()
    )
    net = net.append(GroupSum(3)).eval()
    images = torch.randint(256, (50, 1, 6, 6), dtype=torch.uint8) // 2
    for circuit in (looped := LoopedCircuit.from_module(net), looped.optimize()):
        assert np.array_equal(circuit.scores(images), hard_scores(net, images))
