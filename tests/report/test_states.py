"""State over the steps of sequences and the grids of automata, as the report draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lgn_lightning.models import LogicCA, LogicMLP, LogicRNN
from lgn_lightning.nn.states import states_of
from lgn_lightning.report.states import automaton_grids, state_curves


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


def test_grids_of_an_automaton_are_those_of_each_step() -> None:
    torch.manual_seed(0)
    net = LogicCA((2, 5, 6), width=20, depth=1, votes=10, steps=3, visible=1).eval()
    samples = np.random.default_rng(0).integers(0, 256, (4, 2, 5, 6), dtype=np.uint8)
    grids = automaton_grids(net, samples)
    assert grids is not None
    assert grids.shape == (4, 5, 6)
    assert np.array_equal(grids[0], samples[0, 0] > 127)
    assert np.array_equal(grids[3].ravel(), net(torch.from_numpy(samples[:1]))[0].numpy() > 0)
    single = LogicCA((1, 5, 6), width=20, depth=1, votes=10).eval()
    assert len(automaton_grids(single, samples[:, :1])) == 25  # a rule of single steps goes on
    assert automaton_grids(LogicMLP((1, 5, 6), 2, width=60, depth=1).eval(), samples[:, :1]) is None
