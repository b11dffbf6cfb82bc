"""The gradient of learned connections: against autograd of the mixture, and torch's own checks of an op."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import choices, dense, library


class Layer(NamedTuple):
    """Arguments of a layer whose gates choose among candidates."""

    x: Tensor
    table: Tensor
    a: Tensor
    b: Tensor
    candidates: Tensor


def layer(batch: int, inputs: int, n: int, k: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Layer:
    g = torch.Generator().manual_seed(seed)
    candidates = torch.randint(inputs, (n, 2, k), generator=g).int()
    a, b = candidates.gather(2, torch.randint(k, (n, 2, 1), generator=g)).squeeze(2).unbind(1)
    table = torch.rand(n, 4, generator=g, dtype=library.sum_dtype(dtype))
    return Layer(torch.rand(batch, inputs, generator=g).to(dtype), table, a, b, candidates)


pytestmark = pytest.mark.usefixtures("asked_backend")


def test_is_the_gradient_of_the_mixture_at_the_chosen_inputs() -> None:
    x, table, a, b, candidates = layer(9, 7, 6, 4)
    logits = torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)
    shares = torch.softmax(logits, 2)
    upper = torch.randn(9, 6, dtype=torch.float64)

    mixed = torch.einsum("bnsk,nsk->bns", x[:, candidates.long()], shares)
    chosen = torch.stack((x[:, a.long()], x[:, b.long()]), 2)
    u, v = (chosen + mixed - mixed.detach()).unbind(2)
    t00, t01, t10, t11 = table.unbind(1)
    expected = (1 - u) * (1 - v) * t00 + (1 - u) * v * t01 + u * (1 - v) * t10 + u * v * t11

    y = ops.learn_choices(ops.logic(x, table, a, b), shares, x, table, a, b, candidates)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(
        torch.autograd.grad(y, logits, upper, retain_graph=True), torch.autograd.grad(expected, logits, upper)
    )


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 50), st.integers(1, 20), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_native_is_the_reference(batch: int, inputs: int, n: int, k: int, kind: int) -> None:
    dtype = (torch.float32, torch.bfloat16, torch.float64)[kind]
    x, *rest = layer(batch, inputs, n, k, dtype)
    grad = torch.randn(batch, n).to(dtype)
    got = torch.ops.lgn.choices_backward(grad, x, *rest)
    expected = choices.choices_backward_reference(grad, x, *rest)
    assert got.dtype == expected.dtype == library.sum_dtype(dtype)
    torch.testing.assert_close(got, expected, atol=1e-4 if kind < 2 else 1e-12, rtol=1e-4)


def drawn(n: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(n)
    logits = 3 * torch.randn(n, 2, k, generator=g)
    return logits, torch.randint(50, (n, 2, k), generator=g).int(), torch.rand(n, 2, generator=g)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("n", "k"), [(0, 3), (1, 1), (7, 5), (300, 8), (40, 16), (5, 33)])
def test_native_choice_is_the_reference(n: int, k: int, noise: float) -> None:
    logits, candidates, level = drawn(n, k)
    if noise == 0:
        logits = logits.round()  # ties: the first of the largest counts
    logits.requires_grad_()
    *wires, shares = torch.ops.lgn.choose(logits, candidates, level, noise)
    *expected_wires, expected = choices.choose_reference(logits, candidates, level, noise)
    assert all(map(torch.equal, wires, expected_wires))
    torch.testing.assert_close(shares, expected, atol=1e-6, rtol=1e-5)
    upper = torch.randn(n, 2, k)
    got, want = (torch.autograd.grad(part, logits, upper) for part in (shares, expected))
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-4)


def test_candidates_are_drawn_at_their_share() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 2, 3)
    candidates = torch.tensor([5, 6, 7], dtype=torch.int32).expand(20_000, 2, 3)
    for noise in (1.0, 0.5):
        a, b, shares = ops.choose(logits, candidates, noise)
        counts = torch.stack([(torch.cat((a, b)) == wire).float().mean() for wire in (5, 6, 7)])
        torch.testing.assert_close(counts, torch.softmax(logits[0, 0] / noise, 0), atol=0.01, rtol=0)
        torch.testing.assert_close(shares, torch.softmax(logits, 2))
    assert (ops.choose(logits, candidates)[0] == 7).all()
    assert (ops.choose(logits.double(), candidates)[0] == 7).all()


def test_what_lies_past_the_batch_does_not_matter() -> None:
    x, *rest = layer(5, 8, 10, 3, torch.float32)
    wide_x, wide_grad = torch.full((8, 16), float("nan")), torch.full((10, 16), float("nan"))
    grad = torch.randn(5, 10)
    wide_x[:, :5], wide_grad[:, :5] = x.t(), grad.t()
    got = torch.ops.lgn.choices_backward(wide_grad[:, :5].t(), wide_x[:, :5].t(), *rest)
    torch.testing.assert_close(got, choices.choices_backward_reference(grad, x, *rest))


def test_threads_change_no_bit() -> None:
    x, *rest = layer(200, 50, 5000, 8, torch.float32)
    grad, before = torch.randn(200, 5000), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = torch.ops.lgn.choices_backward(grad, x, *rest)
        torch.set_num_threads(3)
        assert torch.equal(torch.ops.lgn.choices_backward(grad, x, *rest), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [2, 3, 8, 16, 20])
def test_threads_change_no_bit_of_a_choice(count: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6000, 2, count)
    candidates = torch.randint(0, 50, logits.shape, dtype=torch.int32)
    level, grad, before = torch.rand(6000, 2), torch.randn(logits.shape), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            chosen = torch.ops.lgn.choose(logits, candidates, level, 0.5)
            results.append([*chosen, torch.ops.lgn.choose_backward(grad, chosen[2])])
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *results))


def test_opcheck_and_compile() -> None:
    x, table, a, b, candidates = layer(33, 9, 12, 5, torch.float32)
    torch.library.opcheck(
        torch.ops.lgn.choices_backward.default,
        (torch.randn(33, 12), x, table, a, b, candidates),
        test_utils=("test_schema", "test_faketensor"),
    )
    logits, _, level = drawn(12, 5)
    torch.library.opcheck(
        torch.ops.lgn.choose.default,
        (logits.requires_grad_(), candidates, level, 0.5),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),  # the rest adds integers up
    )
    shares = torch.rand(12, 2, 5, requires_grad=True)

    def loss(shares: Tensor) -> Tensor:
        return (
            ops.learn_choices(dense.logic_reference(x, table, a, b), shares, x, table, a, b, candidates).square().sum()
        )

    expected = torch.autograd.grad(loss(shares), shares)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(torch.autograd.grad(compiled(shares), shares), expected)


def test_bad_arguments() -> None:
    x, table, a, b, candidates = layer(5, 8, 10, 3, torch.float32)
    y, shares = torch.rand(5, 10), torch.rand(10, 2, 3)
    with pytest.raises(ValueError, match=r"do not fit 10 gates: both are \[10, 2, K\]"):
        ops.learn_choices(y, shares[:, :, :2], x, table, a, b, candidates)
    with pytest.raises(TypeError, match=r"candidates is torch\.int64"):
        ops.learn_choices(y, shares, x, table, a, b, candidates.long())
    if os.environ.get("LGN_BACKEND") != "torch":
        candidates[4, 1, 2] = 8
        with pytest.raises(IndexError, match="input 8 is a candidate of gate 4, but x has only 8 features"):
            torch.ops.lgn.choices_backward(y, x, table, a, b, candidates)
