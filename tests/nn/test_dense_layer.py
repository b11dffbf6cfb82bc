"""What holds for both dense layers of gates: widths, inputs, packed bits, the factor on the gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, LutLayer, PackBitsTensor, Threshold
from lgn_lightning.circuit import Circuit, CircuitError
from lgn_lightning.nn import LogicSequential

BOTH = pytest.mark.parametrize("kind", [LogicLayer, LutLayer])


@BOTH
@pytest.mark.parametrize("shape", [(3, 9), (9,), (2, 3, 9), (2, 10, 3), ()])
def test_input_of_another_shape(kind: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(10, 20.* takes \[\.\.\., 10\]"):
        kind(10, 20)(torch.rand(shape))


@BOTH
@pytest.mark.parametrize("options", [{}, {"implementation": "python"}, {"sampler": "straight_through"}])
@pytest.mark.parametrize("shape", [(10,), (1, 10), (2, 5, 10), (2, 3, 4, 10), (0, 10), (3, 0, 10)])
def test_leading_dimensions_as_linear_layers_take_them(kind: Any, options: Any, shape: tuple[int, ...]) -> None:
    net = LogicSequential(kind(10, 24, **options), kind(24, 20, **options), GroupSum(4, 2.0))
    for training in (True, False):
        net.train(training)
        x = torch.rand(shape).round().requires_grad_()
        y = net(x)
        assert y.shape == (*shape[:-1], 4)
        rows = net(x.reshape(-1, 10) if x.numel() else x.new_zeros(0, 10))
        torch.testing.assert_close(y.reshape(-1, 4), rows)
        if training:
            grads = [torch.autograd.grad(part.square().sum(), net[0].weights)[0] for part in (y, rows)]
            torch.testing.assert_close(*grads)
    assert net[0](x).shape == (*shape[:-1], 24)


@BOTH
def test_packed_bits_cannot_train_or_have_another_width(kind: Any) -> None:
    layer = kind(10, 20)
    with pytest.raises(TypeError, match="cannot train"):
        layer(PackBitsTensor(torch.rand(7, 10) > 0.5))
    with pytest.raises(ValueError, match=r"\[7, 9\]"):
        layer.eval()(PackBitsTensor(torch.rand(7, 9) > 0.5))


@BOTH
def test_packed_bits_are_the_hard_values(kind: Any) -> None:
    layer, x = kind(10, 20, init="gaussian").eval(), torch.rand(77, 10) > 0.5
    assert torch.equal(layer(PackBitsTensor(x)).unpack().float(), layer(x))


@BOTH
@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_grad_factor_scales_the_gradient_of_the_input_only(kind: Any, sampler: str) -> None:
    layer, x = kind(10, 20, init="gaussian", sampler=sampler), torch.rand(7, 10, requires_grad=True)
    results = []
    for layer.grad_factor in (1.0, 1.5):
        y = layer(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, layer.weights])))
    (y, grad_x, grad_weights), scaled = results
    assert torch.equal(scaled[0], y)
    torch.testing.assert_close(scaled[1], 1.5 * grad_x)
    assert torch.equal(scaled[2], grad_weights)


@BOTH
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"in_dim": 0}, "at least 1"),
        ({"out_dim": 0}, "at least 1"),
        ({"in_dim": 41, "out_dim": 10}, "cannot use all 41; make the layer at least"),
        ({"connections": "dense"}, "connections='dense'.* 'random', 'unique'"),
        ({"grad_factor": "foo"}, "grad_factor='foo'"),
        ({"grad_factor": float("nan")}, "grad_factor=nan"),
    ],
)
def test_bad_arguments(kind: Any, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        kind(**{"in_dim": 10, "out_dim": 10, **arguments})


@BOTH
def test_images_are_flattened_before_they_become_gates(kind: Any) -> None:
    image = Threshold([0.5], (1, 2, 5), flatten=False)
    with pytest.raises(CircuitError, match=r"takes wires \[10\], got \[1, 2, 5\]; add a Flatten"):
        Circuit.from_module(nn.Sequential(image, kind(10, 20)))
    assert Circuit.from_module(nn.Sequential(image, nn.Flatten(), kind(10, 20))).num_inputs == 10
