"""Slots: a gate and its wires chosen together."""

import pytest
import torch

from lgn_lightning.callbacks.redrawing import seeded_generator
from lgn_lightning.callbacks.resample_slots import resample
from lgn_lightning.circuit import Circuit
from lgn_lightning.gates import TRUTH_TABLES
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import PackBitsTensor, SlotLayer, soft_gates
from lgn_lightning.nn.samplers import Gumbel, Soft, StraightThrough

TABLES = torch.tensor(TRUTH_TABLES).float()


def slots_of(layer: SlotLayer, x: torch.Tensor) -> torch.Tensor:
    """Every slot of every neuron: ``[batch, n, slots]``."""
    u, v = x[:, layer.slot_a.long()], x[:, layer.slot_b.long()]
    t00, t01, t10, t11 = TABLES[layer.slot_gates.long()].unbind(2)
    return t00 * (1 - u) * (1 - v) + t01 * (1 - u) * v + t10 * u * (1 - v) + t11 * u * v


@pytest.mark.parametrize("implementation", [None, "python"])
def test_training_is_the_mixture_of_slots_and_evaluation_the_largest(implementation: str | None) -> None:
    layer = SlotLayer(9, 20, num_candidates=18, implementation=implementation, sampler=Soft(0.7))
    assert torch.equal(layer.slot_gates[3], (torch.arange(18) % 16).byte())
    x = torch.rand(7, 9, requires_grad=True)
    expected = (slots_of(layer, x) * torch.softmax(layer.weights / 0.7, 1)).sum(2)
    y, upper = layer(x), torch.rand(7, 20)
    torch.testing.assert_close(y, expected)
    wanted = torch.autograd.grad(expected, (x, layer.weights), upper)
    torch.testing.assert_close(torch.autograd.grad(y, (x, layer.weights), upper), wanted)
    bits = (torch.rand(70, 9) > 0.5).float()
    hard = slots_of(layer, bits)[:, torch.arange(20), layer.weights.argmax(1)]
    assert torch.equal(layer.eval()(bits), hard)
    assert torch.equal(layer(PackBitsTensor(bits.bool())).unpack(), hard.bool())
    torch.testing.assert_close(layer.gate_probabilities().sum(1), torch.ones(20))
    assert torch.equal(layer.hard_table().float(), TABLES[layer.gates().long()])


@pytest.mark.parametrize("sampler", ["soft", Gumbel(straight_through=True)])
def test_a_net_trains_exports_and_comes_back(sampler: str | Gumbel) -> None:
    arguments = {"connections": ["slots", "slots", "random"], "num_candidates": 6, "init": "residual"}
    net = LogicMLP((1, 4, 4), 2, 20, 3, sampler=sampler, **arguments)  # type: ignore[arg-type]
    x = torch.randint(256, (50, 1, 4, 4), dtype=torch.uint8)
    y = (x[:, 0, 0, 0] > 127).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())
    net.eval()
    hard = net(x)
    circuit = Circuit.from_module(net)
    assert torch.equal(torch.from_numpy(circuit.scores(x.numpy())).float(), hard)
    with soft_gates(net):
        assert net(x).isfinite().all()
    other = LogicMLP((1, 4, 4), 2, 20, 3, **arguments).eval()  # type: ignore[arg-type]
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), hard)


def test_resampling_keeps_the_best_slot_of_decided_neurons_alone() -> None:
    torch.manual_seed(0)
    layer = SlotLayer(40, 100, num_candidates=8).eval()
    with torch.no_grad():
        layer.weights[:60, 2] = 9.0  # decided
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    shares = torch.softmax(layer.weights.detach(), 1)
    bits = (torch.rand(64, 40) > 0.5).float()
    hard = layer(bits)
    asked = torch.arange(100) % 2 == 0
    rows = resample(layer, asked, 0.95, seeded_generator(1, 2))
    expected = (asked & (shares.max(1).values > 0.95))[:, None] & (torch.arange(8) != 2)
    assert torch.equal(rows, expected)
    assert torch.equal(layer(bits), hard)
    after = torch.softmax(layer.weights.detach(), 1)
    torch.testing.assert_close(after[:, 2], shares[:, 2], atol=1e-4, rtol=0)
    assert (layer.weights.detach()[rows] == 0).all()
    for name in ("slot_gates", "slot_a", "slot_b"):
        new, old = layer.state_dict()[name], before[name]
        assert torch.equal(new[~rows], old[~rows])
        assert (new[rows] != old[rows]).float().mean() > 0.5


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="'sigmoid' is not one of 'softmax'"):
        SlotLayer(4, 8, parametrization="sigmoid")
    with pytest.raises(ValueError, match="no slots to sample"):
        SlotLayer(4, 8, sampler=StraightThrough())
    with pytest.raises(ValueError, match="at least 2 slots"):
        SlotLayer(4, 8, num_candidates=1)
    layer = SlotLayer(4, 8)
    with pytest.raises(RuntimeError, match="holds inputs"):
        layer.load_state_dict({**layer.state_dict(), "slot_a": layer.slot_a + 4})
