"""Layers that wait give, with any user of their outputs, the values and gradients of layers that do not.

Whole nets are compared in ``tests/circuit/build/test_own_nets.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer
from lgn_lightning.nn import LogicSequential, fused_layers, sequential
from lgn_lightning.nn.deferred import Deferred, computed

HARD: dict[str, Any] = {"sampler": "straight_through", "parametrization": "sigmoid"}


class Own(nn.Module):
    """Two layers, with something between them, and a group sum."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.between = between
        self.a, self.b, self.sum = LogicLayer(10, 30, **HARD), LogicLayer(30, 24, **HARD), GroupSum(4, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.sum(self.b(self.between(self.a(x))))


class Double(torch.autograd.Function):
    """What no function of torch sees."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return 2 * grads[0]


@pytest.mark.parametrize(
    "between",
    [
        lambda h: h,
        lambda h: h[:, torch.arange(29, -1, -1)],
        lambda h: Double.apply(h),
        lambda h: h.view(-1, 5, 6).flatten(1),
        lambda h: 1 - h if h.requires_grad else h,
        lambda h: torch.stack([h, h]).mean(0),
    ],
    ids=["nothing", "index", "function", "view", "one minus", "twice"],
)
def test_values_and_gradients(between: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    net = Own(between)
    bits, found = (torch.rand(70, 10) < 0.5).float(), []
    for context in (nullcontext(), fused_layers()):
        own, x = copy.deepcopy(net), bits.clone().requires_grad_()
        with context:
            scores = own(x)
        (scores * torch.arange(4.0)).sum().backward()
        found.append([scores.detach(), x.grad, own.a.weights.grad, own.b.weights.grad])
    torch.testing.assert_close(found[1], found[0])


def test_a_row_of_layers_is_one_op(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = sequential._run_on_bits
    monkeypatch.setattr(
        sequential, "_run_on_bits", lambda stack, *rest: calls.append(len(stack)) or original(stack, *rest)
    )
    net, x = Own(lambda h: h), (torch.rand(70, 10) < 0.5).float()
    net(x)
    assert calls == []
    with fused_layers():
        net(x)
        LogicSequential(net.a, nn.Sequential(net.b), net.sum)(x)
        net.eval()(x)
    assert calls == [2]


def test_an_output_that_waits_knows_its_shape_and_is_computed_once() -> None:
    layer, x = LogicLayer(6, 9, **HARD), (torch.rand(5, 6) < 0.5).float()
    with fused_layers():
        y = layer(x)
        assert isinstance(y, Deferred)
        assert (y.shape, y.ndim, len(y), y.dtype) == ((5, 9), 2, 5, torch.float32)
        assert y.computed is None
        assert torch.equal(y * 1, layer(x) + 0)
        assert computed(y) is computed({"y": y})["y"]
        with pytest.raises(ValueError, match=r"got an input of shape \[5, 7\]"):
            layer(torch.rand(5, 7))
    assert type(layer(x)) is Tensor


def test_hooks_see_what_they_always_saw() -> None:
    layer, seen = LogicLayer(6, 9, **HARD), []
    layer.register_forward_hook(lambda _module, _args, output: seen.append(type(output)))
    with fused_layers():
        layer((torch.rand(5, 6) < 0.5).float())
    assert seen == [Tensor]
