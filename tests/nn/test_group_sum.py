import math

import numpy as np
import pytest
import torch
from torch import nn

from lgn_lightning import Circuit, GroupSum, LogicLayer, PackBitsTensor
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import LogicSequential, recommended_tau


@pytest.mark.parametrize("shape", [(12,), (5, 12), (0, 12), (2, 3, 12), (2, 0, 4, 12)])
def test_sums_groups_of_neighbours_of_the_last_dimension(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, dtype=torch.float64)
    expected = torch.stack([x[..., 4 * i : 4 * i + 4].sum(-1) for i in range(3)], -1) / 2.5
    torch.testing.assert_close(GroupSum(k=3, tau=2.5)(x), expected)


def test_transposed_input_of_three_dimensions() -> None:
    x = torch.rand(12, 3, 2).permute(2, 1, 0)
    torch.testing.assert_close(GroupSum(3)(x), GroupSum(3)(x.contiguous()))


def test_gradient_is_one_over_tau() -> None:
    x = torch.rand(2, 3, 12, requires_grad=True)
    GroupSum(3, 2.0)(x)[..., 1].sum().backward()
    expected = torch.zeros(12)
    expected[4:8] = 0.5
    assert x.grad is not None
    assert torch.equal(x.grad, expected.expand(2, 3, 12))


def test_counts_booleans() -> None:
    x = torch.rand(5, 12) > 0.5
    assert torch.equal(GroupSum(3, 2.0)(x), GroupSum(3, 2.0)(x.float()))


def test_packed_input_gives_counts() -> None:
    x = torch.rand(70, 12) > 0.5
    counts = GroupSum(3, 2.0)(PackBitsTensor(x, 16))
    assert counts.dtype == torch.int32
    assert counts.tolist() == x.view(70, 3, 4).sum(2).tolist()


def test_takes_the_originals_device_argument() -> None:
    assert repr(GroupSum(k=10, tau=30, device="cuda")) == "GroupSum(k=10, tau=30)"


@pytest.mark.parametrize(("k", "tau", "match"), [(0, 1.0, "k=0"), (3, 0.0, "tau=0.0"), (3, float("nan"), "tau=nan")])
def test_bad_arguments(k: int, tau: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        GroupSum(k, tau)


def test_groups_must_divide() -> None:
    with pytest.raises(ValueError, match=r"12 features .* k = 5"):
        GroupSum(5)(torch.rand(2, 12))
    with pytest.raises(ValueError, match=r"12 features .* k = 5"):
        GroupSum(5)(PackBitsTensor(torch.rand(2, 12) > 0.5))


def test_recommended_tau_keeps_the_spread_of_fresh_scores() -> None:
    for gates in (50, 800, 6400):
        scores = (torch.rand(400, gates) < 0.5).float().sum(1) / recommended_tau(gates)
        assert scores.std().item() == pytest.approx(1 / 0.7, rel=0.15)
    assert recommended_tau(800) == pytest.approx(10, rel=0.05)
    assert recommended_tau(400) == pytest.approx(7, rel=0.01)
    assert LogicMLP((1, 4, 4), 2, 800, 2, tau="auto", connections="random")[-1].tau == recommended_tau(400)
    with pytest.raises(ValueError, match="at least 1 gate"):
        recommended_tau(0)


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_offset_and_learned_temperature(sampler: str) -> None:
    torch.manual_seed(0)
    parametrization = "softmax" if sampler == "soft" else "sigmoid"
    layer = LogicLayer(12, 20, sampler=sampler, parametrization=parametrization, init="gaussian")
    head = GroupSum(4, tau=2.5, beta=3, learn_tau=True)
    bits = torch.rand(80, 12) < 0.5
    x = bits.float()
    found = []
    for net in (LogicSequential(layer, head), nn.Sequential(layer, head)):
        net.zero_grad()
        scores = net.train()(x)
        (scores * torch.arange(4.0)).sum().backward()
        found.append([scores.detach(), layer.weights.grad, head.log_tau.grad])
        assert not scores.isnan().any()
    torch.testing.assert_close(found[0], found[1])
    plain = nn.Sequential(layer, GroupSum(4))(x)
    torch.testing.assert_close(found[0][0], (plain.detach() + 3) / 2.5)
    with torch.no_grad():
        head.log_tau.fill_(0.7)
    net = nn.Sequential(layer, head).eval()
    circuit = Circuit.from_module(net)
    assert circuit.tau == pytest.approx(math.exp(0.7))
    counts = (net(x) * circuit.tau).round().int()
    assert np.array_equal(circuit.scores(bits), counts.numpy())
    assert torch.equal(net(PackBitsTensor(bits)), counts)
    assert np.array_equal(circuit.optimize().scores(bits), counts.numpy())


@pytest.mark.parametrize("beta", [-1, 0.5, math.inf])
def test_refuses_offsets_that_no_gates_have(beta: float) -> None:
    with pytest.raises(ValueError, match="a circuit counts bits"):
        GroupSum(2, beta=beta)
