import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer, PackBitsTensor, Threshold, ops, soft_gates
from lgn_lightning.models import LogicMLP, LogicTreeNet
from lgn_lightning.nn import EdgeChannels, LogicSequential, logic_layers
from lgn_lightning.nn.deferred import hooked
from lgn_lightning.nn.parametrizations import Softmax
from lgn_lightning.nn.samplers import make_sampler


def pair(implementation: str | None = None) -> tuple[LogicSequential, nn.Sequential]:
    layers = LogicLayer(10, 30, implementation=implementation), LogicLayer(30, 20, implementation=implementation)
    modules = nn.Flatten(), *layers, GroupSum(4, 2.5)
    return LogicSequential(*modules), nn.Sequential(*copy.deepcopy(modules))


def gradients(net: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    x = x.clone().requires_grad_()
    scores = net(x)
    return scores, *torch.autograd.grad(scores.square().sum(), (x, *net.parameters()))


@pytest.mark.parametrize("implementation", [None, "python"])
def test_fused_is_the_plain_sequential(implementation: str | None) -> None:
    fused, plain = pair(implementation)
    x = torch.rand(9, 2, 5)
    torch.testing.assert_close(fused(x), plain(x))  # a native kernel adds in another order
    for got, expected in zip(gradients(fused, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(got, expected)
    fused.eval(), plain.eval()
    torch.testing.assert_close(fused(x.round()), plain(x.round()))
    packed = [PackBitsTensor(x.flatten(1) > 0.5, 16) for _ in range(2)]
    assert torch.equal(fused(packed[0]), plain(packed[1]))


def longest_stack(net: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The most layers that one op did, and the groups that it summed."""
    calls: list[tuple[int, int]] = []
    original = ops.logic_stack

    def logic_stack(x: Tensor, layers: Any, k: int = 0, tau: float = 1.0) -> Tensor:
        calls.append((len(layers), k))
        return original(x, layers, k, tau)

    with monkeypatch.context() as patch:
        patch.setattr(ops, "logic_stack", logic_stack)
        net(x)
    return max(calls, default=(0, 0))


@pytest.mark.parametrize("index", [2, 3])
@pytest.mark.parametrize(
    "register", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
def test_hooks_disable_fusion_and_see_everything(index: int, register: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, plain = pair()
    x = torch.rand(9, 10)
    assert longest_stack(net, x, monkeypatch) == (2, 4)
    seen: list[list[Tensor]] = [[], []]
    handles = [
        getattr(n[index], register)(lambda module, *args, to=to: to.extend(a[0] for a in args if a[0] is not None))
        for n, to in zip((net, plain), seen, strict=True)
    ]
    assert longest_stack(net, x, monkeypatch) == ((1, 0) if index == 2 else (2, 0))
    seen[0].clear()
    gradients(net, x)
    gradients(plain, x)
    assert len(seen[0]) == len(seen[1]) > 0
    for got, expected in zip(*seen, strict=True):
        assert torch.equal(got, expected)
    handles[0].remove()
    assert longest_stack(net, x, monkeypatch) == (2, 4)


def test_what_is_one_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(3, 10)
    first, second, plain = LogicLayer(10, 20), LogicLayer(20, 10), LogicLayer(20, 20, implementation="python")
    assert longest_stack(LogicSequential(first), x, monkeypatch) == (1, 0)
    assert longest_stack(LogicSequential(first, nn.Identity(), second, GroupSum(2)), x, monkeypatch) == (1, 2)
    assert longest_stack(LogicSequential(first, plain, second), x, monkeypatch) == (1, 0)
    assert longest_stack(LogicSequential(first, second, first, GroupSum(2)).eval(), x.round(), monkeypatch) == (3, 2)
    assert LogicSequential(GroupSum(5))(x).shape == (3, 5)
    with pytest.raises(ValueError, match="got an input of shape"):
        LogicSequential(first, first)(x)


def test_a_parametrization_with_a_formula_of_its_own_makes_its_tables() -> None:
    class Halved(Softmax):
        name = "halved"

        def table_of_logits(self, logits: Tensor) -> Tensor:
            return super().table_of_logits(logits) / 2

    net = LogicSequential(LogicLayer(10, 20, parametrization=Halved()), GroupSum(2))
    assert Halved.table_form is None
    x = torch.rand(3, 10)
    expected = ops.logic_group_sum(x, ops.softmax_table(net[0].weights) / 2, *net[0].indices, 2)
    torch.testing.assert_close(net(x), expected)


def test_slices_of_any_subclass() -> None:
    net = LogicMLP((1, 4, 4), 2, width=20, depth=2)
    head = net[:2]
    assert type(head) is LogicSequential
    assert head[1] is net[1]
    x = torch.randint(256, (3, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(net[2:](head(x)), net(x))


def test_logic_layers_in_order() -> None:
    net = nn.Sequential(LogicLayer(4, 8), nn.Sequential(LogicLayer(8, 4)), GroupSum(2))
    assert list(logic_layers(net)) == ["0", "1.0"]
    assert logic_layers(nn.Linear(2, 2)) == {}


def test_soft_gates_touches_logic_layers_only() -> None:
    net = nn.Sequential(LogicLayer(10, 20), nn.Dropout(0.5), LogicLayer(20, 10)).eval()
    x = torch.rand(5, 10).round()
    hard = net(x)
    with soft_gates(net):
        assert [m.training for m in net] == [True, False, True]
        assert not net.training
        soft = net(x)
    assert not torch.equal(soft, hard)
    assert torch.equal(net(x), hard)
    net[1] = nn.Identity()
    assert torch.equal(net.train()(x), soft)


def test_soft_gates_restores_each_mode_after_an_exception() -> None:
    net = nn.Sequential(LogicLayer(10, 20), LogicLayer(20, 10))
    net[0].eval()
    with pytest.raises(ZeroDivisionError), soft_gates(net):
        raise ZeroDivisionError
    assert [m.training for m in net] == [False, True]


def test_hook_check_knows_every_kind() -> None:
    layer = LogicLayer(2, 2)
    assert not hooked(layer)
    layer.register_full_backward_pre_hook(lambda *_: None)
    assert hooked(layer)


def straight(**arguments: Any) -> tuple[LogicSequential, nn.Sequential]:
    """A straight-through net that runs on packed bits, and the same layer by layer."""
    torch.manual_seed(3)
    layers = [
        LogicLayer(i, o, parametrization="sigmoid", sampler="straight_through", **arguments)
        for i, o in ((10, 40), (40, 30), (30, 20))
    ]
    modules = nn.Flatten(), *layers, GroupSum(4, 2.5)
    return LogicSequential(*modules), nn.Sequential(*copy.deepcopy(modules))


def uses_bit_logic(net: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> bool:
    calls: list[int] = []
    original = ops.bit_logic

    def counting(x: Tensor, tables: Any, *rest: Any) -> Tensor:
        calls.append(len(tables))
        return original(x, tables, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(ops, "bit_logic", counting)
        net(x)
    return calls == [3]


@pytest.mark.parametrize("grad_factor", [1.0, 2.0])
def test_straight_through_stack_is_the_layers_one_by_one(grad_factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net, plain = straight(grad_factor=grad_factor)
    x = torch.rand(77, 2, 5)
    assert uses_bit_logic(net, x, monkeypatch)
    assert torch.equal(net(x), plain(x))
    for got, expected in zip(gradients(net, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    bits = x > 0.5
    assert torch.equal(net(bits), net(bits.float()))
    assert torch.equal(net(bits.long()), net(bits.float()))
    hard = net.eval()(bits.float())
    assert torch.equal(net.train()(bits.float()), hard)


def test_straight_through_stack_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    net, plain = straight()
    x = torch.rand(9, 10)
    handle = net[2].register_forward_hook(lambda *_: None)
    assert not uses_bit_logic(net, x, monkeypatch)
    assert torch.equal(net(x), plain(x))
    handle.remove()
    assert uses_bit_logic(net, x, monkeypatch)
    assert not uses_bit_logic(net.double(), x.double(), monkeypatch)
    net.float()
    net[2].sampler = net[2].sampler.__class__(noise=0.0)
    assert uses_bit_logic(net, x, monkeypatch)
    net[2].eval()  # frozen: a hard layer among trained ones
    assert not uses_bit_logic(net, x, monkeypatch)
    assert torch.equal(net(x), plain(x))
    net.train()
    net[2] = type("Learned", (LogicLayer,), {})(40, 30, parametrization="sigmoid", sampler="straight_through")
    assert not uses_bit_logic(net, x, monkeypatch)
    net[2] = LogicLayer(40, 30, sampler="straight_through", implementation="python")
    assert not uses_bit_logic(net, x, monkeypatch)
    with pytest.raises(ValueError, match=r"LogicLayer\(10, 40\).* \[9, 12\]"):
        net(torch.rand(9, 12))


def test_straight_through_stack_under_autocast_and_after_copying() -> None:
    net, _ = straight()
    x = torch.rand(33, 10)
    expected = gradients(net, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = net(x)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, expected[0])
    for got, want in zip(gradients(copy.deepcopy(net), x), expected, strict=True):
        assert torch.equal(got, want)


def test_straight_through_stack_compiles() -> None:
    net, _ = straight()
    x = torch.rand(33, 10)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    expected = net(x)
    expected_grads = torch.autograd.grad(expected.square().sum(), list(net.parameters()))
    got = compiled(x)
    assert torch.equal(got, expected)
    for grad, want in zip(torch.autograd.grad(got.square().sum(), list(net.parameters())), expected_grads, strict=True):
        torch.testing.assert_close(grad, want)


@pytest.mark.parametrize("edges", [None, [0, 1]])
@pytest.mark.parametrize("kind", ["dense", "tree", "soft behind a tree"])
@pytest.mark.parametrize("batch", [1, 64, 77])
def test_encoders_hand_packed_bits_to_what_trains_on_them(
    kind: str, edges: list[int] | None, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"thresholds": [0.2, 0.5, 0.8], "edges": edges, "connections": "random", "tau": 3.0}
    options |= {"sampler": "straight_through", "parametrization": "sigmoid", "init": "gaussian"}
    if kind == "dense":
        net: LogicSequential = LogicMLP((2, 6, 5), 4, [600, 400], **options)
    else:
        net = LogicTreeNet((2, 6, 5), 4, [4], [60, 40], **options)
    if kind.startswith("soft"):
        for layer in list(logic_layers(net).values())[1:]:
            layer.sampler = make_sampler("soft")
    x = torch.randint(256, (batch, 2, 6, 5), dtype=torch.uint8)
    scores = nn.Sequential(*net)(x)
    expected = torch.autograd.grad(scores.square().sum(), list(net.parameters()))
    with monkeypatch.context() as patch:
        patch.setattr(Threshold, "forward", lambda *_: pytest.fail("the bits were floats"))
        patch.setattr(EdgeChannels, "forward", lambda *_: pytest.fail("the bits were floats"))
        got = net(x)
    torch.testing.assert_close(got, scores)
    for grad, want in zip(torch.autograd.grad(got.square().sum(), list(net.parameters())), expected, strict=True):
        torch.testing.assert_close(grad, want, atol=1e-4, rtol=1e-4)
    assert torch.equal(net(x.float() / 255), got)
    seen: list[Tensor] = []
    net[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    torch.testing.assert_close(net(x), scores)
    assert torch.equal(seen[0], net[0](x))


def test_encoders_that_learn_their_thresholds_hand_on_floats_with_a_gradient() -> None:
    net = LogicMLP((1, 4, 4), 2, [60, 40], thresholds=[0.3, 0.7], learnable_thresholds=True, sampler="straight_through")
    net(torch.randint(256, (9, 1, 4, 4), dtype=torch.uint8)).square().sum().backward()
    assert net[0].weights.grad.any()


def test_an_encoder_before_layers_on_bits_compiles() -> None:
    options: dict[str, Any] = {"sampler": "straight_through", "parametrization": "sigmoid", "init": "residual"}
    net = LogicMLP((1, 4, 4), 2, [160, 80], thresholds=[0.3, 0.7], edges=[0], connections="random", **options)
    x = torch.randint(256, (33, 1, 4, 4), dtype=torch.uint8)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), net(x))
