"""State over the steps of sequences, as the report draws it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lgn_lightning.models import LogicRNN
from lgn_lightning.nn.states import states_of
from lgn_lightning.report.states import state_curves


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_curves_over_the_steps(sampler: str) -> None:
    torch.manual_seed(0)
    net = LogicRNN(2, in_bits=3, state=8, width=16, out=4, layers=2, sampler=sampler).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x = np.random.default_rng(0).integers(0, 2, (30, 5, 3)).astype(np.uint8)
    curves = state_curves(net, x)
    pairs = [(hard, soft) for _, hard, soft in states_of(net, torch.from_numpy(x))]
    hard, soft = (torch.cat(parts, 2) for parts in zip(*pairs, strict=True))
    steps, changes = curves["share that changes"]
    assert steps == [2, 3, 4, 5]
    assert changes == pytest.approx((hard[:, 1:] != hard[:, :-1]).float().mean((0, 2)).tolist())
    assert ("gap, soft to hard" in curves) == (sampler == "soft")
    if sampler == "soft":
        assert curves["gap, soft to hard"][1] == pytest.approx((hard - soft).abs().mean((0, 2)).tolist())
    assert state_curves(nn.Identity(), x) == {}
