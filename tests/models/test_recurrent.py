"""The recurrent net that recipes name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lgn_lightning.circuit import SequentialCircuit
from lgn_lightning.models import LogicRNN
from lgn_lightning.nn import LogicLayer


@pytest.mark.parametrize("connections", ["random", "learned"])
@pytest.mark.parametrize("depth", [1, 3])
def test_state_begins_as_kept(depth: int, connections: str) -> None:
    torch.manual_seed(0)
    net = LogicRNN(2, in_bits=3, state=10, width=20, depth=depth, out=4, connections=connections, sampler="soft").eval()
    cell = net[1].cell
    state = torch.randint(2, (50, 10)).float()
    for _ in range(3):
        _, following = cell(torch.randint(2, (50, 3)).float(), state)
        assert torch.equal(following, state)


def test_half_of_it_may_be_kept() -> None:
    torch.manual_seed(0)
    cell = LogicRNN(2, in_bits=3, state=10, width=20, out=4, keep=0.5).eval()[1].cell
    state = torch.randint(2, (50, 10)).float()
    _, following = cell(torch.randint(2, (50, 3)).float(), state)
    assert torch.equal(following[:, 5:], state[:, 5:])
    assert not torch.equal(following, state)


def test_it_trains_on_packed_bits() -> None:
    net = LogicRNN(2, in_bits=3, state=10, width=20, out=4, layers=2)
    for recurrent in (net[1], net[2]):
        assert recurrent._bit_layers(torch.zeros(4, 5, recurrent.in_dim)) is not None
    net(torch.randint(2, (8, 5, 3)).bool()).sum().backward()
    layers = [module for module in net.modules() if isinstance(module, LogicLayer)]
    assert all(layer.weights.grad is not None for layer in layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of num_bits"),
        ({"in_bits": 3, "num_bits": 3}, "one of num_bits"),
        ({"in_bits": 3, "out": 5}, "does not divide into 2 classes"),
        ({"in_bits": 3, "layers": 0}, "at least one cell"),
        ({"in_bits": 3, "keep": 1.5}, "keep=1.5"),
        ({"in_bits": 3, "memory": "lose"}, "memory='lose'"),
        ({"in_bits": 3, "state": 4, "width": 100}, "cannot use all"),
        ({"in_bits": 3, "depth": 0}, "depth=0"),
        ({"in_bits": 3, "connections": ["random"]}, "layers of a cell"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogicRNN(2, **options)


@pytest.mark.parametrize("connections", ["random", "learned"])
def test_scores_of_every_step(connections: str) -> None:
    torch.manual_seed(0)
    net = LogicRNN(3, in_bits=3, state=12, width=20, out=9, readout="every", connections=connections)
    x = torch.randint(2, (6, 5, 3)).to(torch.uint8)
    x[0, 3:] = 255
    x[1, 1:] = 255
    y = net.eval()(x)
    assert y.shape == (6, 3, 5)
    for t in range(5):  # as those of the last step of shorter sequences, and behind the end as at the end
        assert torch.equal(y[:, :, t], net(x[:, : t + 1])[:, :, -1])
    assert torch.equal(y[0, :, 3:], y[0, :, 2:3].expand(-1, 2))
    circuit = SequentialCircuit.from_module(net)
    counts = torch.from_numpy(circuit.every_step(x[2:].numpy() == 1)).transpose(1, 2)
    assert torch.equal((y[2:] * circuit.tau).round().int(), counts)
    assert torch.equal((y[:, :, -1] * circuit.tau).round().int(), torch.from_numpy(circuit.scores(x.numpy())))
    labels = torch.randint(3, (6, 5))
    labels[0, 3:] = labels[1, 1:] = -100
    torch.nn.functional.cross_entropy(net.train()(x), labels).backward()
    weights = [module.weights.grad for module in net.modules() if isinstance(module, LogicLayer)]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in weights)
