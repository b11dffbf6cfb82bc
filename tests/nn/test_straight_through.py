"""One straight-through layer; stacks of them are compared with it in tests/ops and tests/nn/test_sequential.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lgn_lightning.nn.straight_through import round_to_bits, straight_through
from lgn_lightning.ops import hard_table


def expected(x: Tensor, table: Tensor, gates: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Hard values, with the gradient of the interpolated table at the bits."""
    bits = (x > 0.5).float() + (x - x.detach())
    u, v = bits[:, a.long()], bits[:, b.long()]
    t00, t01, t10, t11 = table.t()
    soft = t00 * (1 - u) * (1 - v) + t01 * (1 - u) * v + t10 * u * (1 - v) + t11 * u * v
    rows = 2 * (x > 0.5).long()[:, a.long()] + (x > 0.5).long()[:, b.long()]
    hard = hard_table(gates)[torch.arange(len(gates)), rows]
    return hard + (soft - soft.detach())


@pytest.mark.parametrize("plain", [False, True])
def test_hard_gates_forward_and_soft_gradient(plain: bool) -> None:
    x, table = torch.rand(50, 9, requires_grad=True), torch.rand(30, 4, requires_grad=True)
    gates = torch.randint(16, (30,), dtype=torch.uint8)
    a, b = torch.randint(9, (2, 30), dtype=torch.int32)
    upper = torch.randn(50, 30)
    want = expected(x, table, gates, a, b)
    for op, wires in (("logic", (a, b)), ("lut", (torch.stack((a, b)),))):
        y = straight_through(op, x, table, hard_table(gates), wires, plain)
        assert torch.equal(y, want)
        got = torch.autograd.grad(y, (x, table), upper)
        for one, other in zip(got, torch.autograd.grad(want, (x, table), upper, retain_graph=True), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_gradients_that_nobody_wants_are_not_made() -> None:
    hard, index = hard_table(torch.tensor([6])), torch.zeros(1, dtype=torch.int32)
    x, table = torch.rand(3, 2), torch.rand(1, 4, requires_grad=True)
    wires = index, index + 1
    straight_through("logic", x, table, hard, wires).sum().backward()
    assert table.grad is not None
    straight_through("logic", x.requires_grad_(), table.detach(), hard, wires).sum().backward()
    assert x.grad is not None


def test_rounding_passes_the_gradient_on() -> None:
    x = torch.tensor([0.2, 0.5, 0.7], requires_grad=True)
    y = round_to_bits(x)
    assert y.tolist() == [0.0, 0.0, 1.0]
    (grad,) = torch.autograd.grad(y, x, torch.tensor([1.0, 2.0, 3.0]))
    assert grad.tolist() == [1.0, 2.0, 3.0]
