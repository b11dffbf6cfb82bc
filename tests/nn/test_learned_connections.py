"""Layers whose connections are learned: training, evaluation, checkpoints and circuits see plain wires."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, soft_gates
from lgn_lightning.circuit import Circuit
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import LearnedConnections, LogicSequential
from lgn_lightning.nn.gate_order import gates_as_drawn
from lgn_lightning.nn.samplers import Gumbel, StraightThrough


def net(sampler: object = "straight_through", **options: object) -> LogicMLP:
    torch.manual_seed(0)
    return LogicMLP(
        (1, 4, 4), 2, 40, 3, init="residual", parametrization="sigmoid", connections="learned", num_candidates=4,
        sampler=sampler, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def layers_of(model: nn.Module) -> list[LogicLayer]:
    return [module for module in model.modules() if isinstance(module, LogicLayer)]


def test_every_place_among_the_candidates_uses_all_inputs_equally() -> None:
    candidates = LearnedConnections(16, 40, 5).candidates
    assert candidates.shape == (40, 2, 5)
    for place in candidates.unbind(2):
        assert torch.equal(torch.bincount(place.flatten().long(), minlength=16), torch.full((16,), 5))


@pytest.mark.parametrize("sampler", ["soft", "straight_through", StraightThrough(choice_noise=1.0), Gumbel()])
def test_stack_is_its_layers_one_by_one(sampler: object) -> None:
    model = net(sampler)
    x, upper = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8), torch.randn(50, 2)
    plain = nn.Sequential(*copy.deepcopy(list(model)))
    for other in layers_of(plain):
        other.implementation = "python"
    results = []
    for part in (model, plain):
        torch.manual_seed(1)
        scores = part(x)
        results.append((scores, *torch.autograd.grad(scores, list(part.parameters()), upper)))
    if isinstance(sampler, str):  # else the order of the draws differs
        for got, expected in zip(*results, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert all(bool((g != 0).any()) for g in results[0][1:])


def test_training_moves_the_wires_and_the_hard_net_is_the_net_that_trained() -> None:
    torch.manual_seed(0)
    # The class is whether pixels 3 and 12 are equal, which only a gate on both can tell.
    x = torch.randint(0, 2, (512, 16)).bool()
    y = (x[:, 3] == x[:, 12]).long()
    layer = LogicLayer(
        16, 80, connections="learned", num_candidates=8, init="residual", parametrization="sigmoid",
        sampler=StraightThrough(choice_noise=1.0),
    )  # fmt: skip
    model = LogicSequential(layer, GroupSum(2, 2.0))
    before = [wires.clone() for wires in layer.indices]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for step in range(200):
        layer.sampler.choice_noise = max(0.0, 1 - step / 120)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert any(not torch.equal(old, new) for old, new in zip(before, layer.indices, strict=True))
    trained = model(x)
    model.eval()
    assert torch.equal(model(x), trained)
    assert (model(x).argmax(1) == y).float().mean() > 0.95


@pytest.mark.parametrize("sampler", ["soft", "straight_through", StraightThrough(choice_noise=1.0)])
def test_frozen_wires_are_the_settled_ones_whether_they_change_soon_or_not(sampler: object) -> None:
    x, upper = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8), torch.randn(50, 2)
    results = []
    for soon in (False, True):
        model = net(sampler)
        for layer in layers_of(model):
            assert layer.learned is not None
            layer.learned.logits.requires_grad_(False)
            layer.learned.change_soon = soon
        torch.manual_seed(1)
        scores = model(x)
        weights = [layer.weights for layer in layers_of(model)]
        results.append((scores, *torch.autograd.grad(scores, weights, upper)))
        for layer in layers_of(model):
            assert torch.equal(torch.stack(layer.sample_connections()[:2]), torch.stack(layer.learned.settled()))  # type: ignore[union-attr]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_noise_of_the_choice_is_in_training_alone() -> None:
    model = net(StraightThrough(choice_noise=1.0))
    x = torch.randint(0, 256, (200, 1, 4, 4), dtype=torch.uint8)
    assert not torch.equal(model(x), model(x))  # the first logits are all alike: every step has other wires
    with soft_gates(model):
        soft = model(x)
        assert torch.equal(model(x), soft)
    model.eval()
    assert torch.equal(model(x), soft)


def test_circuits_and_packed_bits_see_plain_wires() -> None:
    model = net().eval()
    x = torch.randint(0, 256, (70, 1, 4, 4), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(x)
    circuit = Circuit.from_module(model)
    assert (torch.from_numpy(circuit.scores(x.flatten(1).numpy())) == (expected * model[-1].tau).round()).all()


def test_checkpoints_copies_and_pickles_hold_candidates_and_logits() -> None:
    model, x = net().eval(), torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8)
    with gates_as_drawn():
        torch.manual_seed(7)
        other = net().eval()
    torch.nn.init.normal_(layers_of(model)[1].learned.logits)  # type: ignore[union-attr]
    other.load_state_dict(model.state_dict())
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
    state = model.state_dict()
    name = next(key for key in state if key.endswith("candidates"))
    state[name] = state[name] + 16
    with pytest.raises(RuntimeError, match="but the layer has 16 inputs"):
        other.load_state_dict(state)
    assert int(other.state_dict()[name].max()) < 16


def test_layers_may_differ() -> None:
    model = LogicMLP((1, 4, 4), 2, [40, 30, 20], connections=["learned", "random", "unique"], num_candidates=3)
    assert [layer.connections for layer in layers_of(model)] == ["learned", "random", "unique"]
    assert "connections='learned'" in repr(model)
    assert "3 candidates an input" in repr(model)
    model(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)).sum().backward()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="num_candidates=1, but learned connections choose among at least 2"):
        LogicLayer(4, 4, connections="learned", num_candidates=1)
    with pytest.raises(ValueError, match="does not fit the 3 layers; give one word a layer"):
        LogicMLP((1, 4, 4), 2, 40, 3, connections=["learned"])
    with pytest.raises(ValueError, match="'learnt' is not one of 'random', 'unique', 'learned'"):
        LogicLayer(4, 4, connections="learnt")
