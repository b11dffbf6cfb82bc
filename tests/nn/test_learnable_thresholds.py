"""Thresholds that train with the net: gradient, levels, export."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lgn_lightning import Circuit, Threshold
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import GroupSum, recommended_tau

THREE = (0.1, 0.4, 0.7)


def images(count: int, channels: int = 2) -> torch.Tensor:
    return torch.randint(256, (count, channels, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spacing", ["uniform", "quantile"])
@pytest.mark.parametrize("flatten", [True, False])
def test_bits_are_those_of_fixed_thresholds(spacing: str, flatten: bool) -> None:
    fixed = Threshold(3, (2, 3, 4), spacing=spacing, flatten=flatten)
    learned = Threshold(3, (2, 3, 4), spacing=spacing, flatten=flatten, learnable=True)
    histogram = torch.randint(100, (2, 256))
    if spacing == "quantile":
        fixed.fit_levels(histogram)
        learned.fit_levels(histogram)
    assert torch.equal(learned.current_levels(), fixed.levels)
    assert learned.out_dim == fixed.out_dim
    for x in (images(9), images(9).float() / 255):
        assert torch.equal(learned(x), fixed(x))
        assert torch.equal(learned.eval()(x), fixed(x))
        learned.train()
    assert [name for name, _ in learned.named_parameters()] == ["weights"]


def test_every_level_survives_the_weights() -> None:
    for softness in (0.01, 0.05, 0.3):
        encoder = Threshold(254, (1, 1, 1), learnable=True, softness=softness)
        assert torch.equal(encoder.current_levels(), Threshold(254, (1, 1, 1)).levels)


def test_gradient_is_that_of_the_sigmoid() -> None:
    encoder = Threshold(THREE, (2, 3, 4), learnable=True, softness=0.1)
    x, upper = images(5), torch.randn(5, 72)
    (grad,) = torch.autograd.grad(encoder(x), encoder.weights, upper)
    thresholds = (encoder.weights.detach() * 0.1).requires_grad_()
    intensities = (x.float() / 255)[:, None]
    soft = torch.sigmoid((intensities - thresholds.view(1, 3, 1, 1, 1)) / 0.1)
    (expected,) = torch.autograd.grad(soft.flatten(1), thresholds, upper)
    torch.testing.assert_close(grad, expected * 0.1, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_a_wrong_threshold_is_learned_and_exported(sampler: str) -> None:
    torch.manual_seed(0)
    net = LogicMLP(
        (1, 3, 4), 2, 40, 2, tau="auto", thresholds=(0.2,), parametrization="sigmoid", init="residual", sampler=sampler,
        learnable_thresholds=True, connections="random"
    )  # fmt: skip
    x = images(512, 1)
    y = (x[:, 0, 1, 1] > 140).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    first = int(net[0].current_levels())
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    level = int(net[0].current_levels())
    assert abs(level - 140) < abs(first - 140) / 2
    circuit = Circuit.from_module(net.eval())
    assert circuit.levels is not None
    assert circuit.levels.tolist() == [level]
    expected = (net(x) * net[-1].tau).round().int().numpy()
    assert np.array_equal(circuit.scores(x.numpy()), expected)


def test_learned_levels_may_cross_meet_and_leave_the_range() -> None:
    net = torch.nn.Sequential(Threshold((0.1, 0.4, 0.5, 0.7), (2, 3, 4), learnable=True), GroupSum(4))
    with torch.no_grad():
        net[0].weights.copy_(torch.tensor([200.5, 90.5, 200.2, 999.0]) / (255 * 0.05))
    assert net[0].current_levels().tolist() == [200, 90, 200, 254]
    x = images(50)
    scores = Circuit.from_module(net.eval()).scores(x.numpy())
    assert np.array_equal(scores, net(x).int().numpy())
    assert scores[:, 0].tolist() == [(image > 200).sum().item() for image in x]
    other = Threshold((0.1, 0.4, 0.5, 0.7), (2, 3, 4), learnable=True)
    other.load_state_dict(net[0].state_dict())
    assert torch.equal(other.current_levels(), net[0].current_levels())


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="grey_in_training feeds no bits"):
        Threshold((0.5,), (1, 2, 2), grey_in_training=True, learnable=True)
    with pytest.raises(ValueError, match="softness=0: it is a difference"):
        Threshold((0.5,), (1, 2, 2), learnable=True, softness=0)


def test_recommended_tau_keeps_the_spread_of_fresh_scores() -> None:
    for gates in (50, 800, 6400):
        scores = (torch.rand(400, gates) < 0.5).float().sum(1) / recommended_tau(gates)
        assert scores.std().item() == pytest.approx(1 / 0.7, rel=0.15)
    assert recommended_tau(800) == pytest.approx(10, rel=0.05)
    assert recommended_tau(400) == pytest.approx(7, rel=0.01)
    assert LogicMLP((1, 4, 4), 2, 800, 2, tau="auto", connections="random")[-1].tau == recommended_tau(400)
    with pytest.raises(ValueError, match="at least 1 gate"):
        recommended_tau(0)
