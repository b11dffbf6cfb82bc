"""The order of gates that is good for speed: neighbours share an input, and the net stays the same net."""

import torch

from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential
from lgn_lightning.nn.gate_order import order_gates, trail_order


def test_order_is_a_permutation_whose_neighbours_share_an_input() -> None:
    torch.manual_seed(0)
    layer = LogicLayer(200, 200)
    a, b = layer.indices
    order = trail_order(a, b, 200)
    assert torch.equal(order.sort().values, torch.arange(200))
    pairs = torch.stack((a, b), 1)[order]
    shared = (pairs[1:, :, None] == pairs[:-1, None, :]).flatten(1).any(1)
    assert shared.float().mean() > 0.9  # a new trail starts at a handful of places


def test_order_is_kept_when_asked_again() -> None:
    layer = LogicLayer(50, 120)
    a, b = layer.indices
    order = trail_order(a, b, 50)
    assert torch.equal(trail_order(a[order], b[order], 50), torch.arange(120))


def test_gates_with_one_input_twice_and_unused_inputs() -> None:
    a, b = torch.tensor([3, 3, 0], dtype=torch.int32), torch.tensor([3, 0, 0], dtype=torch.int32)
    assert sorted(trail_order(a, b, 6).tolist()) == [0, 1, 2]


def test_net_computes_the_same() -> None:
    torch.manual_seed(1)
    layers = [LogicLayer(20, 60), LogicLayer(60, 80), LogicLayer(80, 45)]
    net = LogicSequential(*layers, GroupSum(3, 2.0))
    x = torch.rand(9, 20)
    before, hard = net(x), net.eval()(x.round())
    order_gates(layers)
    assert torch.equal(net(x.round()), hard)
    torch.testing.assert_close(net.train()(x), before)
