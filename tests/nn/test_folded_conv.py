"""Convolutions over lines and volumes, and trees of more inputs and of groups, against look-ups place by place."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning.circuit import Circuit, LoopedCircuit
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.nn import (
    GroupSum,
    LogicSequential,
    LogicTreeConv1d,
    LogicTreeConv2d,
    LogicTreeConv3d,
    OrPool1d,
    OrPool3d,
)


def hard_by_formula(layer: LogicTreeConv2d, leaves: Tensor, x: Tensor, padding: int, stride: int) -> Tensor:
    """Trees of hard tables, looked up; leaves ``[1 + axes, trees, leaves]`` are channel and places in the kernel."""
    axes = x.ndim - 2
    padded = nn.functional.pad(x, (padding, padding) * axes)
    kernel = {1: (3,), 2: (3, 3), 3: (2, 3, 3)}[axes]
    sizes = [(n - k) // stride + 1 for n, k in zip(padded.shape[2:], kernel, strict=True)]
    arity = layer.arity
    tables = layer.hard_table().view(layer.out_channels, -1, 2**arity).float()
    y = torch.empty(len(x), layer.out_channels, *sizes)
    for place in product(*map(range, sizes)):
        corner = [p * stride for p in place]
        for tree in range(layer.out_channels):
            nodes = []
            for channel, *offset in leaves[:, tree].t().tolist():
                at = tuple(c + o for c, o in zip(corner, offset, strict=True))
                nodes.append(padded[(slice(None), channel, *at)])
            for table in tables[tree]:
                inputs, nodes = nodes[:arity], nodes[arity:]
                address = sum(bit.long() << (arity - 1 - i) for i, bit in enumerate(inputs))
                nodes.append(table[address])
            y[(slice(None), tree, *place)] = nodes[0]
    return y


def leaves_of(layer: LogicTreeConv2d, x: Tensor) -> Tensor:
    channel, row, column = layer.settled_leaves()
    if x.ndim == 3:
        return torch.stack((channel, column))
    if x.ndim == 4:
        return torch.stack((channel, row, column))
    return torch.stack((channel // 2, channel % 2, row, column))  # planes are folded into channels


KINDS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "1d": (LogicTreeConv1d, (5, 4, 9)),
    "2d": (LogicTreeConv2d, (5, 4, 5, 6)),
    "3d": (LogicTreeConv3d, (5, 4, 4, 5, 3)),
}
OPTIONS = [
    {},
    {"groups": 2},
    {"connections": "learned", "num_candidates": 3},
    {"connections": "mixture", "num_candidates": 3, "groups": 2},
    {"arity": 3},
    {"arity": 4, "tree_depth": 1},
    {"arity": 3, "connections": "learned", "num_candidates": 3},
    {"parametrization": "warp"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_hard_trees_circuit_and_straight_through_training_agree(kind: str, options: dict[str, Any]) -> None:
    make, shape = KINDS[kind]
    kernel = (2, 3, 3) if kind == "3d" else 3
    arguments = {"parametrization": "sigmoid", "sampler": "straight_through", "tree_depth": 2, "init": "gaussian"}
    layer = make(4, 6, kernel, padding=1, stride=1, **(arguments | options))
    x = torch.rand(shape).round()
    leaves = leaves_of(layer, x)
    if "groups" in options:
        of_group = leaves[0] // 2
        assert torch.equal(of_group, (torch.arange(6) // 3)[:, None].expand_as(of_group).int())
    expected = hard_by_formula(layer, leaves, x, 1, 1)
    y = layer(x)
    if options.get("connections") != "mixture":
        torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())
    layer.eval()
    assert torch.equal(layer(x), expected)
    net = LogicSequential(layer, nn.Flatten(), GroupSum(2))
    for form in (Circuit, LoopedCircuit):
        circuit = circuit_of(form, net, shape[1:])
        scores = circuit.scores(x.bool().flatten(1).numpy())
        assert torch.equal(torch.from_numpy(scores).float(), net(x))


def circuit_of(form: Any, net: nn.Module, shape: tuple[int, ...]) -> Any:
    class Inputs(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

        def add_to_circuit(self, builder: Any, wires: Any) -> Any:
            return builder.inputs(int(torch.tensor(shape).prod())).reshape(shape)

    return form.from_module(nn.Sequential(Inputs(), *net).eval())


@pytest.mark.parametrize("stride", [1, 2])
def test_soft_trees_of_a_volume_have_the_gradient_of_their_places(stride: int) -> None:
    """By two-dimensional trees on the unfolded planes, one depth after the other."""
    layer = LogicTreeConv3d(2, 3, (2, 3, 3), 2, padding=(1, 0, 1), stride=(stride, 1, 1), init="gaussian")
    x = torch.rand(4, 2, 5, 4, 5, requires_grad=True)
    y = layer(x)
    padded = nn.functional.pad(x, (0, 0, 0, 0, 1, 1))
    flat = LogicTreeConv2d(4, 3, 3, 2, padding=(0, 1), init="gaussian")
    flat.load_state_dict(layer.state_dict())
    planes = [flat(padded[:, :, d : d + 2].flatten(1, 2)) for d in range(0, padded.shape[2] - 1, stride)]
    expected = torch.stack(planes, dim=2)
    torch.testing.assert_close(y, expected)
    upper = torch.rand(y.shape)
    wanted = torch.autograd.grad(expected, (x, flat.weights), upper)
    torch.testing.assert_close(torch.autograd.grad(y, (x, layer.weights), upper), wanted)


@pytest.mark.parametrize("padding", [0, 1])
def test_pooling_of_lines_and_volumes_is_that_of_torch(padding: int) -> None:
    line, volume = torch.rand(2, 3, 9), torch.rand(2, 3, 5, 6, 7)
    torch.testing.assert_close(OrPool1d(3, 2, padding)(line), nn.functional.max_pool1d(line, 3, 2, padding))
    expected = nn.functional.max_pool3d(volume, (2, 3, 3), (2, 1, 2), (padding, padding, padding))
    torch.testing.assert_close(OrPool3d((2, 3, 3), (2, 1, 2), padding)(volume), expected)
    for pool, x in ((OrPool1d(3, 2, padding), line), (OrPool3d((2, 3, 3), (2, 1, 2), padding), volume)):
        bits = x.round()
        net = LogicSequential(pool, nn.Flatten(), GroupSum(3))
        circuit = circuit_of(Circuit, net, tuple(x.shape[1:]))
        scores = torch.from_numpy(circuit.scores(bits.bool().flatten(1).numpy()))
        assert torch.equal(scores.float(), net(bits))


def test_grad_factor_scales_what_flows_to_the_inputs() -> None:
    for sampler in ("soft", "straight_through"):
        layers = [LogicTreeConv2d(2, 4, 3, 2, sampler=sampler, grad_factor=factor) for factor in (1.0, 2.5)]
        layers[1].load_state_dict(layers[0].state_dict())
        x = torch.rand(3, 2, 6, 6).round().requires_grad_()
        nets = [LogicSequential(layer, nn.Flatten(), GroupSum(4)) for layer in layers]
        one, other = (torch.autograd.grad(net(x).square().sum(), (x, net[0].weights)) for net in nets)
        torch.testing.assert_close(other[0], 2.5 * one[0])
        torch.testing.assert_close(other[1], one[1])


def test_a_net_of_trees_of_lookup_tables_with_groups() -> None:
    net = LogicTreeNet(
        (2, 8, 8),
        2,
        [8, 8],
        [40, 20],
        tree_depth=1,
        arity=4,
        groups=[1, 4],
        grad_factor=1.5,
        parametrization="sigmoid",
        sampler="finite_difference",
        tau=5.0,
    )
    x = torch.randint(256, (20, 2, 8, 8), dtype=torch.uint8)
    net(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    net.eval()
    circuit = Circuit.from_module(net)
    assert torch.equal(torch.from_numpy(circuit.scores(x.numpy())).float(), net(x) * 5.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 3}, "groups=3 do not divide"),
        ({"arity": 7}, "2 to 6 inputs"),
        ({"arity": 4}, "for 2 inputs only"),
        ({"grad_factor": float("nan")}, "not a finite number"),
        ({"connections": "balanced"}, "'random', 'learned', 'mixture'"),
        ({"channels_per_tree": 3, "groups": 2}, "there are 2 in a group"),
        ({"tree_depth": 21}, "at most"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogicTreeConv2d(4, 4, 3, **{"tree_depth": 2, **arguments})


def test_bad_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes \[batch, 4, length\]"):
        LogicTreeConv1d(4, 4, 3, 2)(torch.rand(2, 4, 5, 5))
    with pytest.raises(ValueError, match=r"takes \[batch, 4, depth, height, width\]"):
        LogicTreeConv3d(4, 4, 2, 2)(torch.rand(2, 8, 5, 5, 5))
    with pytest.raises(ValueError, match="a kernel of 6 planes does not fit into 5"):
        LogicTreeConv3d(4, 4, (6, 2, 2), 2)(torch.rand(2, 4, 5, 5, 5))
    with pytest.raises(ValueError, match="groups=3 do not divide"):
        LogicTreeNet((1, 8, 8), 2, [9, 8], [40, 20], groups=[1, 3])
