"""Facts of the layers."""

from pathlib import Path

import numpy as np
import torch

from lgn_lightning.data import Digits
from lgn_lightning.report.layers import layer_facts
from lgn_lightning.training.checkpoint import load_net


def test_nets_of_other_shapes_are_measured_on_plain_tensors(run: Path, page: str) -> None:
    net = load_net(run / "checkpoints" / "best.ckpt")
    images = torch.cat([x for x, _ in Digits().test_dataloader()]).numpy()
    packed, count = layer_facts(net, images)
    plain, same = layer_facts(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Sequential(*net)), images)
    assert count == same == 360
    for left, right in zip(packed, plain, strict=True):
        assert np.array_equal(left.on, right.on)
