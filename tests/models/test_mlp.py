from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, Threshold, soft_gates
from lgn_lightning.circuit import Circuit
from lgn_lightning.models import MLP, LogicMLP
from lgn_lightning.nn import EdgeChannels, LogicSequential, logic_layers


def images(batch: int = 6, shape: tuple[int, ...] = (3, 4, 5)) -> torch.Tensor:
    return torch.randint(256, (batch, *shape), dtype=torch.uint8)


def test_logic_mlp_is_encoder_layers_and_group_sum() -> None:
    net = LogicMLP((3, 4, 5), 4, width=80, depth=3, tau=2.5, thresholds=[0.25, 0.75], connections="random")
    assert [type(m) for m in net] == [Threshold, LogicLayer, LogicLayer, LogicLayer, GroupSum]
    assert [(m.in_dim, m.out_dim) for m in logic_layers(net).values()] == [(120, 80), (80, 80), (80, 80)]
    assert {m.connections for m in logic_layers(net).values()} == {"random"}
    assert (net[-1].k, net[-1].tau) == (4, 2.5)
    assert isinstance(net, LogicSequential)
    plain = nn.Sequential(*net)
    x = images()
    for mode in (True, False):
        torch.testing.assert_close(net.train(mode)(x), plain.train(mode)(x))
        assert torch.equal(net(x), net(x.float() / 255))


def test_arguments_reach_every_layer() -> None:
    net = LogicMLP(
        (1, 4, 4), 2, [20, 30, 20], init="residual", connections="random", grad_factor=1.5, implementation="python"
    )
    for layer, (in_dim, out_dim) in zip(logic_layers(net).values(), pairwise([16, 20, 30, 20]), strict=True):
        assert (layer.in_dim, layer.out_dim) == (in_dim, out_dim)
        assert (layer.init, layer.connections, layer.grad_factor) == ("residual", "random", 1.5)
        assert layer.implementation == "python"


def test_grey_in_training_is_for_the_train_mode_only() -> None:
    net = LogicMLP((1, 4, 4), 2, 20, 2, grey_in_training=True)
    x = images(shape=(1, 4, 4))
    grey = net(x)
    net.eval()
    with soft_gates(net):
        on_bits = net(x)
    assert not torch.equal(grey, on_bits)
    rounded = (x > 127).byte() * 255
    assert torch.equal(net.train()(rounded), on_bits)


def test_edges_stand_before_the_first_layer() -> None:
    net = LogicMLP(
        (2, 4, 5),
        4,
        [400, 200],
        thresholds=[0.2, 0.5, 0.8],
        edges=[0, 1],
        connections="random",
        sampler="straight_through",
    )
    assert [type(m) for m in net] == [Threshold, EdgeChannels, nn.Flatten, LogicLayer, LogicLayer, GroupSum]
    assert net[3].in_dim == (3 + 2 * 8) * 2 * 4 * 5
    x = images(shape=(2, 4, 5))
    hard = net.eval()(x)
    assert torch.equal(net.train()(x).detach(), hard)
    circuit = Circuit.from_module(net)
    assert circuit.num_inputs == 3 * 2 * 4 * 5
    assert np.array_equal(circuit.scores(x.numpy()), (hard * net[-1].tau).round().numpy())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"width": 80, "depth": 2, "edges": [0], "grey_in_training": True}, r"edges=\[0\].*leave grey_in_training out"),
        ({"width": 80, "depth": 2, "edges": [0], "learnable_thresholds": True}, "leave learnable_thresholds out"),
        ({"width": 400, "depth": 2, "edges": [1]}, r"contrasts=\[1\]"),
        ({"width": 80}, "depth=None: give the number of layers"),
        ({"width": 80, "depth": 0}, "depth=0"),
        ({"width": [80, 80], "depth": 3}, r"depth=3 .*\[80, 80\]"),
        ({"width": []}, "0 widths"),
        ({"width": 82, "depth": 2}, r"82 .* 4 classes; take 84"),
        ({"width": [80, 81]}, r"81 .* 4 classes; take 84"),
        ({"width": [20, 80]}, r"LogicLayer\(60, 20\).*at least 30 wide"),
        ({"width": 80, "depth": 2, "num_classes": 0}, "num_classes=0"),
        ({"width": 80, "depth": 2, "thresholds": [0.5, 0.2]}, "thresholds must be increasing"),
        ({"width": 80, "depth": 2, "tau": 0.0}, "tau must be a positive number"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        LogicMLP(**{"in_shape": (3, 4, 5), "num_classes": 4, **arguments})


def test_mlp() -> None:
    net = MLP((3, 4, 5), 4, width=16, depth=3)
    assert [type(m).__name__ for m in net] == ["Intensity", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert [(m.in_features, m.out_features) for m in net if isinstance(m, nn.Linear)] == [(60, 16), (16, 16), (16, 4)]
    x = images()
    assert torch.equal(net(x), net(x.float() / 255))
    with pytest.raises(ValueError, match="depth=1"):
        MLP((3, 4, 5), 4, 16, 1)
