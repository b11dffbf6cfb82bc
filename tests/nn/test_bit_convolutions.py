"""Straight-through convolutions on packed bits inside a ``LogicSequential``: equal to the layers one by one.

Apart from the tests of its file, because what it tests is how ``sequential.py``, ``conv.py`` and the ops fit together.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.circuit import Circuit
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, LogicTreeConv2d, OrPool2d, soft_gates
from lgn_lightning.nn.samplers import StraightThrough

STRAIGHT: dict[str, Any] = {"parametrization": "sigmoid", "sampler": "straight_through"}


def make(pool: OrPool2d | None = None, **arguments: Any) -> LogicSequential:
    torch.manual_seed(3)
    options = {"init": "gaussian", **STRAIGHT, **arguments}
    return LogicSequential(
        LogicTreeConv2d(3, 8, 3, 3, padding=1, **options),
        OrPool2d(2) if pool is None else pool,
        LogicTreeConv2d(8, 10, (2, 3), 2, stride=(1, 2), **options),
        nn.Flatten(),
        LogicLayer(10 * 3 * 1 if pool is None else 10 * 6 * 3, 180, **STRAIGHT),
        LogicLayer(180, 90, **STRAIGHT),
        GroupSum(3, 2.5),
    )


def one_by_one(net: LogicSequential) -> nn.Sequential:
    return nn.Sequential(*copy.deepcopy(net))


def gradients(net: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_(x.is_floating_point())
    torch.manual_seed(0)  # of what a sampler draws
    y = net(x).float().flatten(1)
    upper = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    wanted = [*net.parameters(), *([x] if x.requires_grad else [])]
    return [y.detach(), *torch.autograd.grad(y, wanted, upper)]


def assert_equal(net: LogicSequential, x: Tensor) -> None:
    got, expected = gradients(net, x), gradients(one_by_one(net), x)
    assert torch.equal(got[0], expected[0])
    for one, other in zip(got[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def convolutions_on_bits(net: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    calls: list[int] = []
    originals = {name: getattr(ops, name) for name in ("bit_tree_conv", "learned_bit_tree_conv")}

    def counting(name: str) -> Any:
        return lambda *args: calls.append(1) or originals[name](*args)

    with monkeypatch.context() as patch:
        for name in originals:
            patch.setattr(ops, name, counting(name))
        net(x)
    return len(calls)


@pytest.mark.parametrize("batch", [1, 64, 77, 130])
def test_is_the_layers_one_by_one(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make(), torch.rand(batch, 3, 8, 8)
    assert convolutions_on_bits(net, x, monkeypatch) == 2
    assert_equal(net, x)
    assert_equal(net, x > 0.5)
    assert torch.equal(net((x > 0.5).long()), net(x))


@pytest.mark.parametrize("last", [1, 2, 3, 4])
def test_whatever_follows_gets_a_tensor(last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make()[:last], torch.rand(70, 3, 8, 8)
    assert convolutions_on_bits(net, x, monkeypatch) == (1 if last < 3 else 2)
    y = net(x)
    assert y.dtype == torch.float32
    assert y.stride(0) == 1  # batch innermost
    assert_equal(net, x)


def test_before_soft_layers_and_other_poolings(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(33, 3, 8, 8)
    net = make()
    net[4] = LogicLayer(30, 180)  # soft
    assert convolutions_on_bits(net, x, monkeypatch) == 2
    assert_equal(net, x)
    net = make(OrPool2d(2, 1))  # windows that overlap
    assert convolutions_on_bits(net, x, monkeypatch) == 2
    assert_equal(net, x)
    net[3] = nn.Flatten(1, 3)
    assert_equal(net, x)


def test_before_learned_wires(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make(), torch.rand(70, 3, 8, 8)
    net[4] = LogicLayer(30, 180, connections="learned", **STRAIGHT)
    assert convolutions_on_bits(net, x, monkeypatch) == 2
    assert_equal(net, x)


@pytest.mark.parametrize("count", [2, 5, 8])
@pytest.mark.parametrize("batch", [1, 64, 77])
def test_learned_leaves(batch: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make(connections="learned", num_candidates=count), torch.rand(batch, 3, 8, 8)
    assert convolutions_on_bits(net, x, monkeypatch) == 2
    assert_equal(net, x)
    assert_equal(net, x > 0.5)


def test_learned_leaves_that_are_drawn() -> None:
    net = make(connections="learned", sampler=StraightThrough(noise=0.5, choice_noise=1.0))
    assert_equal(net, torch.rand(77, 3, 8, 8))


def test_learned_leaves_take_bits_on_a_cpu_alone() -> None:
    learned, fixed = (make(connections=kind)[0] for kind in ("learned", "random"))
    assert learned.runs_on_bits
    assert not learned.to("meta").runs_on_bits
    assert fixed.to("meta").runs_on_bits


def test_noise_on_the_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make(sampler=StraightThrough(noise=0.5)), torch.rand(70, 3, 8, 8)
    assert convolutions_on_bits(net, x, monkeypatch) == 2
    assert_equal(net, x)


@pytest.mark.parametrize("connections", ["random", "learned"])
def test_hooks_see_tensors(connections: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make(connections=connections), torch.rand(9, 3, 8, 8)
    expected = gradients(net, x)
    for index, on_bits in ((0, 1), (1, 2), (2, 1), (3, 2), (4, 2)):
        seen: list[Any] = []
        handle = net[index].register_forward_hook(lambda _, inputs, output, seen=seen: seen.extend((*inputs, output)))
        assert convolutions_on_bits(net, x, monkeypatch) == on_bits
        assert len(seen) == 2
        assert all(isinstance(t, Tensor) for t in seen)
        for got, want in zip(gradients(net, x), expected, strict=True):
            torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
        handle.remove()


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampler": "soft"},
        {"implementation": "python"},
        {"implementation": "python", "connections": "learned"},
        {"parametrization": "softmax"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_other_convolutions(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make(**arguments), torch.rand(40, 3, 8, 8)
    assert convolutions_on_bits(net, x, monkeypatch) == (2 if "parametrization" in arguments else 0)
    assert_equal(net, x.round())


@pytest.mark.parametrize("connections", ["random", "learned"])
def test_double_precision_and_evaluation_take_floats(connections: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make(connections=connections), torch.rand(9, 3, 8, 8).round()
    trained = net(x)
    assert convolutions_on_bits(net.eval(), x, monkeypatch) == 0
    assert torch.equal(net(x), trained)
    assert convolutions_on_bits(net.train(), x.double(), monkeypatch) == 0
    assert convolutions_on_bits(net.double(), x.double(), monkeypatch) == 0


def test_errors_name_the_layer() -> None:
    net = make()
    with pytest.raises(ValueError, match=r"LogicTreeConv2d\(3, 8, .*got an input of shape \[5, 4, 8, 8\]"):
        net(torch.rand(5, 4, 8, 8))
    with pytest.raises(ValueError, match="pooling 2x2 is larger than the 1x8 outputs"):
        net(torch.rand(5, 3, 1, 8))


@pytest.mark.parametrize("connections", ["random", "learned"])
def test_autocast_copies_and_compiles(connections: str) -> None:
    net, x = make(connections=connections), torch.rand(33, 3, 8, 8)
    expected = gradients(net, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net(x), expected[0])
        assert net[:2](x).dtype == torch.bfloat16
    for got, want in zip(gradients(copy.deepcopy(net), x), expected, strict=True):
        assert torch.equal(got, want)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for got, want in zip(gradients(compiled, x), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_no_gap_and_the_circuit_agrees() -> None:
    torch.manual_seed(2)
    net = LogicTreeNet((1, 12, 12), 4, [8, 12], [96, 80], thresholds=[0.3], init="gaussian", **STRAIGHT)
    images = torch.randint(256, (150, 1, 12, 12), dtype=torch.uint8)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), torch.arange(150) % 4).backward()
        optimizer.step()
    trained = net.train()(images)
    hard = net.eval()(images)
    with soft_gates(net):
        soft = net(images)
    assert torch.equal(trained, hard)
    assert torch.equal(soft, hard)
    scores = Circuit.from_module(net).scores(images.flatten(1).numpy())
    np.testing.assert_allclose(scores, hard.detach().numpy() * net[-1].tau)


@pytest.mark.parametrize("follower", [nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True)])
def test_what_follows_may_work_in_place(follower: nn.Module) -> None:
    torch.manual_seed(0)
    net = LogicSequential(LogicTreeConv2d(3, 8, 3, 3, padding=1, **STRAIGHT), OrPool2d(2), follower)
    y = net(torch.rand(9, 3, 8, 8))
    y.sum().backward()
    assert y.shape == (9, 8, 4, 4)
    assert net[0].weights.grad.abs().max() > 0


def test_an_empty_batch_compiles() -> None:
    net = make()
    x = torch.rand(0, 3, 8, 8)
    assert torch.compile(net, backend="aot_eager")(x).shape == net(x).shape == (0, 3)


class Recomputed(nn.Module):
    """Keeps the input alone for the backward pass."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(self.net, x, use_reentrant=False)


@pytest.mark.parametrize("options", [{}, {"sampler": "soft"}, {"connections": "learned"}], ids=str)
def test_activations_may_be_recomputed(options: dict[str, Any]) -> None:
    net, x = make(**options), torch.rand(9, 3, 8, 8)
    for one, other in zip(gradients(net, x), gradients(Recomputed(net), x), strict=True):
        torch.testing.assert_close(one, other)
