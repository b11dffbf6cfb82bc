"""What holds for every layer of gates: shapes without values, and a clear end of differentiation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, LutLayer
from lgn_lightning.nn import GateLayer, LogicSequential, logic_layers

SAMPLERS = ("soft", "gumbel", "straight_through")


def stack(**options: Any) -> LogicSequential:
    return LogicSequential(LogicLayer(9, 40, **options), LogicLayer(40, 30, **options), GroupSum(3))


def conv(**options: Any) -> LogicSequential:
    return LogicSequential(LogicTreeConv2d(2, 4, 3, 2, padding=1, **options), nn.Flatten(), stack_of_36(**options))


def stack_of_36(**options: Any) -> LogicLayer:
    return LogicLayer(36, 20, **{**options, "connections": "random"})


def lut(**options: Any) -> nn.Module:
    return nn.Sequential(LutLayer(9, 30, 3, **{"parametrization": "sigmoid", **options}))


NETS = {"stack": (stack, (5, 9)), "conv": (conv, (5, 2, 3, 3)), "lut": (lut, (5, 9))}
LEARNED = [(name, wiring) for name in NETS for wiring in ("random", "learned") if (name, wiring) != ("lut", "learned")]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("name", "connections"), LEARNED)
def test_shapes_on_the_meta_device(name: str, connections: str, sampler: str) -> None:
    make, shape = NETS[name]
    net = make(sampler=sampler, connections=connections)
    x = torch.rand(shape).round()
    for parametrization in ("sigmoid", "walsh", "warp", *(() if name == "lut" else ("softmax",))):
        meta = make(sampler=sampler, connections=connections, parametrization=parametrization, device="meta")
        for mode in (True, False):
            y = meta.train(mode)(x.to("meta"))
            assert y.is_meta
            assert (y.shape, y.dtype) == (net.train(mode)(x).shape, torch.float32)


def gradient_of_the_gradient(net: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.requires_grad_()
    grads = torch.autograd.grad(net(x).square().sum(), [x, *net.parameters()], create_graph=True)
    penalty = torch.stack([grad.double().square().sum() for grad in grads]).sum()
    return list(torch.autograd.grad(penalty, [x, *net.parameters()], allow_unused=True))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("name", "connections"), LEARNED)
def test_a_second_derivative_is_an_error_and_not_zero(name: str, connections: str, sampler: str) -> None:
    make, shape = NETS[name]
    net = make(sampler=sampler, connections=connections)
    with pytest.raises(RuntimeError, match=r"not differentiable twice.*implementation='python'"):
        gradient_of_the_gradient(net, torch.rand(shape))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("name", "connections"), LEARNED)
def test_plain_torch_has_second_derivatives(name: str, connections: str, sampler: str) -> None:
    make, shape = NETS[name]
    net = make(implementation="python", connections=connections, sampler=sampler)
    grads = gradient_of_the_gradient(net, torch.rand(shape))
    assert sum(grad.abs().sum().item() for grad in grads if grad is not None) > 0


class OpsCalled(TorchDispatchMode):
    """Lists the ops of this package that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "lgn":
            self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("name", "connections"), LEARNED)
@pytest.mark.parametrize("frozen", [False, True])
def test_python_is_plain_torch_with_the_values_and_gradients_of_the_ops(
    name: str, connections: str, sampler: str, frozen: bool
) -> None:
    make, shape = NETS[name]
    net = make(connections=connections, sampler=sampler)
    for layer in logic_layers(net).values():
        if frozen and layer.learned is not None:
            layer.learned.logits.requires_grad_(False)
    plain = copy.deepcopy(net)
    for layer in logic_layers(plain).values():
        layer.implementation = "python"
    x = torch.rand(shape)
    results = []
    for model in (net, plain):
        torch.manual_seed(0)
        with OpsCalled() as called:
            y = model(x)
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            results.append((y, *torch.autograd.grad(y.square().sum(), trained)))
            results[-1] += (model.eval()(x.round()),)
    # The group sum alone has no implementation of its own, and ids of hard gates have no gradient.
    assert called.names <= {"lgn::group_sum", "lgn::group_sum_backward", "lgn::gate_ids", "lgn::lut_ids"}
    if sampler != "gumbel":  # whose noise the ops draw in another order
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["stack", "conv"])
def test_gradients_of_gradients_of_learned_connections(name: str) -> None:
    """Against numbers: of the shares of candidates, tables and inputs alike."""
    make, shape = NETS[name]
    net = make(implementation="python", connections="learned").double()
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)

    def gradients(x: Tensor) -> Tensor:
        grads = torch.autograd.grad(net(x).square().sum(), list(net.parameters()), create_graph=True)
        return torch.stack([grad.square().sum() for grad in grads]).sum()

    assert torch.autograd.gradcheck(gradients, (x,))


def test_a_graph_that_is_not_differentiated_again_is_no_error() -> None:
    net, x = stack(), torch.rand(5, 9)
    (once,) = torch.autograd.grad(net(x).sum(), net[0].weights)
    (kept,) = torch.autograd.grad(net(x).sum(), net[0].weights, create_graph=True)
    torch.testing.assert_close(once, kept)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("sampler", ["soft", "gumbel", "straight_through"])
@pytest.mark.parametrize("parametrization", ["softmax", "sigmoid", "walsh"])
@pytest.mark.parametrize("implementation", [None, "python"])
def test_a_gate_with_nan_among_its_weights_gives_nan(
    implementation: str | None, parametrization: str, sampler: str, mode: str
) -> None:
    options: dict[str, Any] = {
        "implementation": implementation,
        "parametrization": parametrization,
        "sampler": sampler,
    }
    layers: list[GateLayer] = [LogicLayer(18, 40, **options), LogicTreeConv2d(2, 4, 2, 2, **options)]
    layers += [] if parametrization == "softmax" else [LutLayer(18, 40, 3, **options)]
    bits = torch.rand(70, 2, 3, 3).round()
    for layer in layers:
        x = bits if isinstance(layer, LogicTreeConv2d) else bits.flatten(1)
        for entry in (0, layer.weights.shape[1] - 1):
            with torch.no_grad():
                layer.reset_parameters()
                layer.weights[4, entry] = torch.nan
            y = layer.train(mode == "train")(x)
            first = y.isnan().transpose(0, 1).flatten(1)
            assert first.all(1).sum() == first.any(1).sum() == 1


@pytest.mark.parametrize("parametrization", ["softmax", "sigmoid"])
def test_packed_bits_do_not_hide_nan(parametrization: str) -> None:
    options: dict[str, Any] = {"parametrization": parametrization, "sampler": "straight_through"}
    net = LogicSequential(
        LogicTreeConv2d(2, 4, 2, 2, **options), nn.Flatten(), LogicLayer(16, 20, **options), GroupSum(2)
    )
    x = torch.rand(70, 2, 3, 3).round()
    assert net(x).isfinite().all()
    for layer in (net[0], net[2]):
        before = layer.weights.detach().clone()
        with torch.no_grad():
            layer.weights[3, 2] = torch.nan
        assert net(x).isnan().all()
        with torch.no_grad():
            layer.weights.copy_(before)
    assert net(x).isfinite().all()


@pytest.mark.parametrize("implementation", [None, "python"])
def test_infinite_logits(implementation: str | None) -> None:
    layer = LogicLayer(4, 2, implementation=implementation)
    with torch.no_grad():
        layer.weights[0] = -torch.inf
        layer.weights[0, 6] = 0  # xor, and nothing else
        layer.weights[1, 3] = torch.inf
    x = torch.tensor([[0.0, 0, 1, 1], [0, 1, 0, 1]])
    a, b = layer.indices
    y = layer(x)
    torch.testing.assert_close(y[:, 0], (x[:, a[0]] != x[:, b[0]]).float())
    assert y[:, 1].isnan().all()
    assert torch.equal(layer.eval()(x)[:, 1], x[:, a[1]])


def test_weights_of_another_parametrization_are_refused(tmp_path: Path) -> None:
    """Four weights a gate mean other gates in each: without an error a trained net would be a random one."""
    trained = torch.nn.Sequential(
        LogicLayer(4, 8, parametrization="sigmoid"), LogicLayer(8, 6, parametrization="sigmoid")
    )
    torch.save(trained.state_dict(), tmp_path / "net.pt")
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    other = torch.nn.Sequential(LogicLayer(4, 8, parametrization="walsh"), LogicLayer(8, 6, parametrization="sigmoid"))
    before = other[0].weights.detach().clone()
    with pytest.raises(RuntimeError, match=r"0\.weights are of the parametrization 'sigmoid', .* has 'walsh'"):
        other.load_state_dict(state)
    assert torch.equal(other[0].weights, before)
    other[0].convert("sigmoid")
    other.load_state_dict(state)
    assert torch.equal(other[0].weights, trained[0].weights)
    assert list(state) == list(trained.state_dict())  # no key that others would not know
    other.load_state_dict(dict(state))  # which says nothing of itself, as one of another library
