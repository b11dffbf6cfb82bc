import numpy as np
import pytest
import torch
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, Threshold
from lgn_lightning.circuit import Circuit
from lgn_lightning.nn import EdgeChannels


def test_a_bright_square() -> None:
    image = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    image[0, 0, 1:4, 1:4] = 200
    encode = nn.Sequential(Threshold(3, (1, 5, 5), flatten=False), EdgeChannels(3, (1, 5, 5), contrasts=(0, 2)))
    channels = encode(image)[0]
    assert channels.shape == (3 + 2 * 8, 5, 5) == encode[1].out_shape
    above_left, above_right = channels[3], channels[4]
    assert above_left.nonzero().tolist() == [[1, 1], [2, 1], [3, 1]]
    assert above_right.nonzero().tolist() == [[1, 3], [2, 3], [3, 3]]
    assert channels[5].nonzero().tolist() == [[1, 1], [1, 2], [1, 3]]  # above the upper neighbour
    assert channels[7:11].sum() == 0  # a square of three has neither ridge nor valley
    assert torch.equal(channels[3:7], channels[11:15])  # three steps are more than two


def test_ridge_and_valley() -> None:
    image = torch.tensor([0, 255, 0, 0, 255, 0, 255], dtype=torch.uint8).view(1, 1, 1, 7)
    encode = nn.Sequential(Threshold(1, (1, 1, 7), flatten=False), EdgeChannels(1, (1, 1, 7)))
    ridge, valley, ridge_vertical, valley_vertical = encode(image)[0, 5:, 0]
    assert ridge.tolist() == [0, 1, 0, 0, 1, 0, 0]  # at the border the image goes on
    assert valley.tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert not ridge_vertical.any()
    assert not valley_vertical.any()


def test_against_the_definition_on_noise() -> None:
    image = torch.randint(256, (3, 2, 6, 4), dtype=torch.uint8)
    encoder = Threshold(7, (2, 6, 4), flatten=False)
    steps = (image[:, None] > encoder.levels.view(1, -1, 1, 1, 1)).sum(1)
    padded = nn.functional.pad(steps.double(), (1, 1, 1, 1), mode="replicate")
    near = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:], padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    expected = [steps - n > 3 for n in near]
    expected += [f(s * (steps - n) for n in near[i : i + 2]) for i in (0, 2) for s in (1, -1) for f in (_both,)]
    got = EdgeChannels(7, (2, 6, 4), contrasts=(3,))(encoder(image))
    assert torch.equal(got[:, 14:], torch.cat(expected, 1).float())
    assert got.stride(0) == 1


def _both(differences: object) -> torch.Tensor:
    left, right = differences  # type: ignore[misc]
    return (left > 3) & (right > 3)


@pytest.mark.parametrize("curvature", [True, False])
def test_circuit_agrees_with_the_net(curvature: bool) -> None:
    edges = EdgeChannels(5, (2, 4, 3), contrasts=(0, 2, 4), curvature=curvature)
    width = int(np.prod(edges.out_shape))
    net = nn.Sequential(
        Threshold(5, (2, 4, 3), flatten=False), edges, nn.Flatten(), LogicLayer(width, width), GroupSum(2)
    ).eval()
    circuit = Circuit.from_module(net)
    images = torch.randint(256, (400, 2, 4, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = net(images).round().int().numpy()
    assert np.array_equal(circuit.scores(images), expected)
    assert np.array_equal(circuit.optimize().scores(images), expected)


def test_circuit_agrees_where_trained_thresholds_have_crossed() -> None:
    threshold = Threshold([0.2, 0.6], (1, 3, 4), flatten=False, learnable=True)
    threshold.weights.data = threshold.weights.data.flip(0)
    net = nn.Sequential(threshold, EdgeChannels(2, (1, 3, 4), (0, 1)), nn.Flatten(), GroupSum(2)).eval()
    images = torch.randint(256, (200, 1, 3, 4), dtype=torch.uint8)
    with torch.no_grad():
        assert np.array_equal(Circuit.from_module(net).scores(images), net(images).round().int().numpy())


def test_a_gradient_reaches_the_bits_and_no_further() -> None:
    bits = torch.rand(3, 4, 5, 5).round().requires_grad_()
    y = EdgeChannels(2, (2, 5, 5))(bits)
    weights = torch.rand_like(y)
    (y * weights).sum().backward()
    assert torch.equal(bits.grad, weights[:, :4])  # type: ignore[arg-type]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"contrasts=\[3\].* 0 … 2"):
        EdgeChannels(3, (1, 4, 4), contrasts=(3,))
    with pytest.raises(ValueError, match="contrasts"):
        EdgeChannels(3, (1, 4, 4), contrasts=(1, 1))
    with pytest.raises(ValueError, match=r"takes \[batch, 3, 4, 4\], got \[2, 3, 4, 5\]"):
        EdgeChannels(3, (1, 4, 4))(torch.zeros(2, 3, 4, 5))
