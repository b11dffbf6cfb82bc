"""Trees on unfolded images against the reference of the trees' own op, and against formulas."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning.circuit import Circuit
from lgn_lightning.nn import GroupSum, LogicSequential, LogicTreeConv2d, OrPool2d
from lgn_lightning.nn.unfolded import evaluate_trees
from lgn_lightning.ops import ConvGeometry


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
@pytest.mark.parametrize("connections", ["random", "learned"])
@pytest.mark.parametrize("plain", [True, False])
def test_trees_of_two_input_gates_are_those_of_their_op(plain: bool, connections: str, sampler: str) -> None:
    layer = LogicTreeConv2d(
        2, 5, (3, 2), 3, padding=(1, 0), stride=(1, 2), sampler=sampler, connections=connections, init="gaussian"
    )
    x = torch.rand(7, 2, 6, 5).round().requires_grad_()
    geometry = ConvGeometry((3, 2), (1, 2), (1, 0))
    parameters = list(layer.parameters())
    sample, leaves = layer.sample(), layer.settled_leaves()
    read = None if layer.learned is None else partial(layer.learned.read, noise=0.0, plain=plain)
    y = evaluate_trees(x, sample, layer.hard_of(sample), leaves, geometry, plain=plain, read=read)
    expected = layer(x)
    torch.testing.assert_close(y, expected)
    upper = torch.rand(y.shape)
    wanted = torch.autograd.grad(expected, (x, *parameters), upper)
    torch.testing.assert_close(torch.autograd.grad(y, (x, *parameters), upper), wanted)


def warp_by_formula(layer: LogicTreeConv2d, x: Tensor) -> Tensor:
    channel, row, column = layer.settled_leaves().long()
    height, width = layer.output_size(*x.shape[2:])
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    weights = layer.weights.view(layer.out_channels, -1, 4)
    maps = []
    for o in range(layer.out_channels):
        nodes = [
            padded[:, c, i : i + height, j : j + width] for c, i, j in zip(channel[o], row[o], column[o], strict=True)
        ]
        for w in weights[o]:
            u, v = 2 * nodes.pop(0) - 1, 2 * nodes.pop(0) - 1
            nodes.append(torch.sigmoid(w[0] + w[1] * v + w[2] * u + w[3] * u * v))
        maps += nodes
    return torch.stack(maps, 1)


@pytest.mark.parametrize("implementation", [None, "python"])
def test_warp_in_trees_is_the_formula_at_every_gate(implementation: str | None) -> None:
    layer = LogicTreeConv2d(2, 3, 3, 2, padding=1, parametrization="warp", implementation=implementation)
    nn.init.normal_(layer.weights)
    x = torch.rand(4, 2, 5, 6, requires_grad=True)
    y, expected = layer(x), warp_by_formula(layer, x)
    torch.testing.assert_close(y, expected)
    upper = torch.rand(y.shape)
    wanted = torch.autograd.grad(expected, (x, layer.weights), upper)
    torch.testing.assert_close(torch.autograd.grad(y, (x, layer.weights), upper), wanted)


@pytest.mark.parametrize("sampler", ["soft", "straight_through", "gumbel"])
@pytest.mark.parametrize("connections", ["random", "learned"])
def test_a_warp_net_trains_with_pooling_and_exports(connections: str, sampler: str) -> None:
    conv = LogicTreeConv2d(1, 8, 3, 2, padding=1, parametrization="warp", sampler=sampler, connections=connections)
    net = LogicSequential(conv, OrPool2d(2), nn.Flatten(), GroupSum(2, 4.0))
    x = torch.rand(64, 1, 6, 6).round()
    y = x[:, 0, 2, 2].long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    before = conv.weights.detach().clone()
    for _ in range(10):
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((conv.weights - before).abs() > 0.01).float().mean() > 0.1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    circuit = Circuit.from_module(net, input_shape=(1, 6, 6))
    scores = circuit.scores(x.bool().flatten(1).numpy())
    assert torch.equal(torch.from_numpy(scores).float(), net(x) * 4.0)
