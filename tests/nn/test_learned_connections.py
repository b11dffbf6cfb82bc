"""Layers whose connections are learned: training, evaluation, checkpoints and circuits see plain wires."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer, soft_gates
from lgn_lightning.callbacks.refresh_candidates import refresh
from lgn_lightning.circuit import Circuit
from lgn_lightning.models import LogicMLP, LogicTreeNet
from lgn_lightning.nn import LearnedConnections, LearnedLeaves, LogicSequential, LogicTreeConv2d, LutLayer
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


@pytest.mark.parametrize("arity", [2, 4])
def test_gates_that_choose_may_be_fewer_than_their_inputs_want(arity: int) -> None:
    """All inputs of the layer are candidates then, or nearly, and none more than once a place."""
    torch.manual_seed(0)
    kind = LogicLayer if arity == 2 else partial(LutLayer, arity=arity)
    layer = kind(60 * arity, 20, connections="learned", num_candidates=12, sampler="straight_through")
    candidates = layer.learned.candidates
    assert candidates.shape == (20, arity, 12)
    assert all(len(place.unique()) == place.numel() for place in candidates.unbind(2))
    assert len(candidates.unique()) > 0.97 * layer.in_dim
    x = torch.rand(7, layer.in_dim).round()
    layer(x).sum().backward()
    assert layer.learned.logits.grad.any()
    assert torch.equal(layer.train()(x), layer.eval()(x))
    with pytest.raises(ValueError, match=r"each one of 12, and cannot use all .* at least 20 wide"):
        kind(20 * arity * 12, 19, connections="learned", num_candidates=12)
    with pytest.raises(ValueError, match="inputs and cannot use all"):
        kind(20 * arity + 1, 20, connections="random", num_candidates=12)


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


def test_layers_may_differ() -> None:
    model = LogicMLP((1, 4, 4), 2, [40, 30, 20], connections=["learned", "random", "unique"], num_candidates=3)
    assert [layer.connections for layer in layers_of(model)] == ["learned", "random", "unique"]
    assert "connections='learned'" in repr(model)
    assert "3 candidates an input" in repr(model)
    model(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)).sum().backward()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"num_candidates=1.* at least 2"):
        LogicLayer(4, 4, connections="learned", num_candidates=1)
    with pytest.raises(ValueError, match=r"connections=.* 3 layers"):
        LogicMLP((1, 4, 4), 2, 40, 3, connections=["learned"])
    with pytest.raises(ValueError, match=r"'learnt'.* 'random', 'unique', 'balanced', 'learned', 'mixture'"):
        LogicLayer(4, 4, connections="learnt")


def tree_net(sampler: object = "straight_through", **options: object) -> LogicTreeNet:
    torch.manual_seed(0)
    return LogicTreeNet(
        (1, 8, 8), 2, [6, 8], [40, 20], parametrization="sigmoid", tree_connections="learned", num_candidates=4,
        sampler=sampler, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def learned_of(model: nn.Module) -> list[LearnedLeaves]:
    return [module for module in model.modules() if isinstance(module, LearnedLeaves)]


def test_every_column_of_candidates_is_a_draw_of_leaves() -> None:
    leaves = LearnedLeaves(8, 12, (3, 3), 8, 2, 5)
    assert leaves.candidates.shape == leaves.logits.shape == (12 * 4, 2, 5)
    assert int(leaves.candidates.max()) < 8 * 9
    for k in range(5):
        with torch.no_grad():
            leaves.logits.zero_()[:, :, k] = 1
        channel, row, column = leaves.settled_leaves()
        assert all(len(tree.unique()) == 2 for tree in channel)
        places = (channel * 3 + row) * 3 + column
        assert all(len(tree.unique()) == 8 for tree in places), "distinct within a tree"


@pytest.mark.parametrize("sampler", ["soft", "straight_through", StraightThrough(choice_noise=1.0)])
def test_all_parameters_get_a_gradient_and_pooling_may_be_apart(sampler: object) -> None:
    model = tree_net(sampler)
    x, upper = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8), torch.randn(30, 2)
    results = []
    for part in (model, nn.Sequential(*model)):
        torch.manual_seed(1)
        scores = part(x)
        results.append((scores, *torch.autograd.grad(scores, list(part.parameters()), upper)))
    if isinstance(sampler, str):
        for got, expected in zip(*results, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert all(bool((g != 0).any()) for g in results[0][1:])


def test_training_finds_the_leaves_that_tell_the_classes_apart() -> None:
    torch.manual_seed(0)
    # The class is whether two places of a receptive field of 16 are equal, which only a tree on both can tell.
    x = torch.randint(0, 2, (512, 4, 2, 2)).float()
    y = (x[:, 1, 0, 1] == x[:, 3, 1, 0]).long()
    conv = LogicTreeConv2d(
        4, 80, 2, 1, parametrization="sigmoid", sampler=StraightThrough(choice_noise=1.0), connections="learned",
        num_candidates=8,
    )  # fmt: skip
    model = LogicSequential(conv, nn.Flatten(), GroupSum(2, tau=2.0))
    before = conv.settled_leaves().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for step in range(200):
        conv.sampler.choice_noise = max(0.0, 1 - step / 120)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (conv.settled_leaves() != before).any()
    assert (model(x).argmax(1) == y).float().mean() > 0.95
    trained = model(x)
    model.eval()
    assert torch.equal(model(x), trained), "the net that trains is the net that ships"


@pytest.mark.parametrize("init", ["residual", "gaussian"])
def test_circuit_is_the_hard_net(init: str) -> None:
    model = tree_net(init=init).eval()
    for leaves in learned_of(model):
        nn.init.normal_(leaves.logits)
    x = torch.randint(0, 256, (70, 1, 8, 8), dtype=torch.uint8)
    circuit = Circuit.from_module(model)
    expected = model(x).round().int()
    assert torch.equal(torch.as_tensor(circuit.compile()(x.numpy())).int(), expected)
    plain = fixed_twin(model)
    assert torch.equal(plain(x), model(x))
    other = Circuit.from_module(plain)
    for part in ("a", "b", "gates", "outputs"):
        assert (getattr(other, part) == getattr(circuit, part)).all(), "export sees no difference"


def fixed_twin(model: LogicTreeNet) -> nn.Module:
    """The net with the leaves that it settled on as fixed ones."""
    twin = LogicTreeNet((1, 8, 8), 2, [6, 8], [40, 20], parametrization="sigmoid", sampler="straight_through").eval()
    state = {name: value for name, value in model.state_dict().items() if ".learned." not in name}
    for name, module in model.named_modules():
        if isinstance(module, LogicTreeConv2d):
            state[f"{name}.leaves"] = module.settled_leaves()
    twin.load_state_dict(state)
    return twin


def test_checkpoints_hold_the_candidates_of_leaves() -> None:
    saved, other = (LogicTreeConv2d(4, 6, 3, 2, connections="learned", num_candidates=3) for _ in range(2))
    assert set(saved.state_dict()) == {"weights", "learned.candidates", "learned.logits"}
    other.load_state_dict(saved.state_dict())
    x = torch.rand(5, 4, 6, 6).round()
    assert torch.equal(other.eval()(x), saved.eval()(x))


def test_candidates_are_refreshed_from_all_channels() -> None:
    torch.manual_seed(0)
    leaves = LearnedLeaves(8, 20, (3, 3), 8, 2, 4)
    before = leaves.candidates.clone()
    changed = refresh(leaves, 2, 2.0, torch.Generator().manual_seed(0))
    assert int(changed.sum()) == 2 * before.shape[0] * 2
    assert torch.equal(leaves.candidates[~changed], before[~changed])
    assert len((leaves.candidates[changed] // 9).unique()) == 8


def test_options_of_the_net() -> None:
    model = LogicTreeNet((1, 8, 8), 2, [6, 8], [40, 20], tree_connections=["random", "learned"], num_candidates=3)
    first, second = (module for module in model if isinstance(module, LogicTreeConv2d))
    assert first.learned is None
    assert second.leaves is None
    assert second.learned.candidates.shape == (8 * 4, 2, 3)  # type: ignore[union-attr,union-attr]
    assert "connections='learned'" in repr(second)
    assert "connections='random'" in repr(first)
    both = LogicTreeNet((1, 8, 8), 2, [6], [60, 40], connections="learned", tree_connections="learned")
    names = [name for name, _ in both.named_parameters() if name.endswith("learned.logits")]
    assert names == ["1.learned.logits", "4.learned.logits", "5.learned.logits"]
    with pytest.raises(ValueError, match=r"tree_connections=.* one for each of the 2 convolutions"):
        LogicTreeNet((1, 8, 8), 2, [6, 8], [40, 20], tree_connections=["learned"])
    with pytest.raises(ValueError, match=r"connections='unique'.* 'random', 'learned'"):
        LogicTreeConv2d(4, 6, 3, 2, connections="unique")
    with pytest.raises(ValueError, match="num_candidates=1, but learned connections"):
        LogicTreeConv2d(4, 6, 3, 2, connections="learned", num_candidates=1)


def test_meta_device_and_double() -> None:
    conv = LogicTreeConv2d(2, 3, 3, 2, connections="learned", device="meta")
    assert conv.learned.candidates.is_meta  # type: ignore[union-attr]
    double = LogicTreeConv2d(2, 3, 3, 2, connections="learned", num_candidates=3).double()
    x: Tensor = torch.rand(4, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    grads = torch.autograd.grad(double(x).square().sum(), [x, *double.parameters()])
    assert all(g.dtype == torch.float64 for g in grads)


def test_no_input_of_a_gate_has_a_candidate_twice() -> None:
    layers = (
        LearnedConnections(17, 400, 8), LearnedConnections(7, 20, 8), LearnedLeaves(2, 40, (3, 3), 4, 2, 8),
        LearnedLeaves(1, 12, (3, 3), 8, 1, 4), LearnedLeaves(1, 12, (2, 2), 4, 1, 8), LearnedConnections(1, 4),
    )  # fmt: skip
    for layer, count in zip(layers, (8, 7, 8, 4, 4, 1), strict=True):
        rows = layer.candidates.flatten(0, 1)
        assert rows.shape[1] == layer.logits.shape[2] == count
        assert all(len(set(row)) == count for row in rows.tolist())
        if count < layer.in_dim:
            refresh(layer, count - 1, 2.0, torch.Generator().manual_seed(0))
            assert all(len(set(row)) == count for row in layer.candidates.flatten(0, 1).tolist())
    assert not refresh(layers[1], 3, 2.0, torch.Generator()).any(), "all inputs are candidates already"


@pytest.mark.parametrize("make", [lambda: LogicLayer(5, 12, connections="learned"), lambda: LogicTreeConv2d(
    1, 3, (2, 2), 2, connections="learned"
)])  # fmt: skip
def test_candidates_of_0_1_that_repeat_are_loaded(make: Callable[[], LogicLayer | LogicTreeConv2d]) -> None:
    layer = make()
    state = layer.state_dict()
    gates, sides, inputs = state["learned.candidates"].shape
    assert inputs < 8
    state["learned.candidates"] = torch.randint(inputs, (gates, sides, 8), dtype=torch.int32)
    state["learned.logits"] = torch.randn(gates, sides, 8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer.load_state_dict(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in layer.state_dict().items())
    y = layer(torch.rand(4, 5) if isinstance(layer, LogicLayer) else torch.rand(4, 1, 3, 3))
    y.sum().backward()
    optimizer.step()
    assert not torch.equal(layer.learned.logits, state["learned.logits"])
    state["learned.candidates"] = torch.randint(inputs, (gates, sides, 9), dtype=torch.int32)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(state)
