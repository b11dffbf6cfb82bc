"""Forward passes as users write them become circuits that give the scores of the hard net."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lgn_lightning.circuit import Circuit, LoopedCircuit
from lgn_lightning.nn.deferred import computed
from lgn_lightning.nn.sequential import fused_layers
from tests.circuit.build.own_nets import BITS, OF_IMAGES, SHAPE, TwoImages, TwoInputs

HARD: dict[str, Any] = {"sampler": "straight_through", "parametrization": "sigmoid"}


def counts(net: nn.Module, circuit: Circuit, *inputs: Tensor) -> np.ndarray:
    with torch.no_grad():
        return (net(*inputs).double() * circuit.tau).round().int().numpy()


@pytest.mark.parametrize("kind", OF_IMAGES, ids=lambda kind: kind.__name__)
def test_nets_of_images(kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    net = kind(init="gaussian").eval()
    circuit = Circuit.from_module(net)
    x = torch.randint(0, 256, (300, *SHAPE), dtype=torch.uint8)
    expected = counts(net, circuit, x)
    assert (circuit.num_classes, circuit.image_shape, circuit.num_inputs) == (10, SHAPE, BITS)
    assert len(np.unique(expected, axis=0)) > 100
    assert np.array_equal(circuit.scores(x.numpy()), expected)
    assert np.array_equal(circuit.optimize().scores(x.numpy()), expected)
    assert LoopedCircuit.from_module(net).unroll().verify(circuit)


def test_two_inputs() -> None:
    torch.manual_seed(1)
    net = TwoInputs().eval()
    circuit = Circuit.from_module(net)
    left, right = torch.rand(200, 30) < 0.5, torch.rand(200, 20) < 0.5
    expected = counts(net, circuit, left.float(), right.float())
    assert np.array_equal(circuit.scores(torch.cat([left, right], 1)), expected)
    assert Circuit.from_module(net, input_shape=[(30,), (20,)]) == circuit


def test_two_images() -> None:
    torch.manual_seed(1)
    net = TwoImages().eval()
    circuit = Circuit.from_module(net)
    one, two = torch.randint(0, 256, (2, 200, *SHAPE), dtype=torch.uint8)
    assert circuit.image_shape == (2, 8, 8)
    assert np.array_equal(circuit.scores(torch.cat([one, two], 1)), counts(net, circuit, one, two))
    assert Circuit.from_module(net, input_shape=[SHAPE, SHAPE]) == circuit


@pytest.mark.parametrize("kind", OF_IMAGES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("options", [HARD, {}], ids=["straight through", "soft"])
def test_training_with_fused_layers_gives_the_same_gradients(kind: type[nn.Module], options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    net = kind(**options)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    x = torch.randint(0, 256, (70, *SHAPE), dtype=torch.uint8)
    found = []
    for context, own in ((nullcontext(), copy.deepcopy(net)), (fused_layers(), copy.deepcopy(net))):
        with context:
            scores = computed(own(x))
        (scores * torch.linspace(-1, 1, scores.numel()).view_as(scores)).sum().backward()
        found.append([scores.detach(), *(parameter.grad for parameter in own.parameters())])
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)
