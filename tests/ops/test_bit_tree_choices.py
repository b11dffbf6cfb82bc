"""Learned leaves on packed bits: against the float op, its reference, torch's checks of an op."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import ConvGeometry, bit_tree
from lgn_lightning.ops.bit_tree import BitTreeConv
from tests.ops.test_bit_tree import example, hard_problem
from tests.ops.test_tree import problems
from tests.ops.test_tree_choices import candidates_of

pytestmark = pytest.mark.usefixtures("asked_backend")
lgn = torch.ops.lgn
backward = lgn.learned_bit_tree_conv_backward


def kept(batch: int = 70, trees: int = 5, count: int = 3) -> tuple[Tensor, list[Any]]:
    """A gradient of the output, and what the forward pass leaves for the backward pass, with candidates and sizes."""
    x, soft, gates, leaves, geometry = example(batch, trees)
    words = lgn.round_to_bits(x)
    y, winner = lgn.bit_tree_conv(words, gates, leaves, *geometry)
    candidates = candidates_of(x, leaves, geometry[0], count)
    return torch.randn(batch, *y.shape[1:]), [winner, words, gates, soft, leaves, candidates, *geometry]


def learn(
    x: Tensor, problem: tuple[Tensor, Tensor, Tensor, ConvGeometry], shares: Tensor, candidates: Tensor
) -> Tensor:
    soft, gates, leaves, geometry = problem
    y = ops.learned_bit_tree_conv(ops.pack_activations(x), soft, shares, gates, leaves, candidates, geometry)
    return y.unpack(torch.float32)


@given(problems(), st.sampled_from([1, 64, 65, 128, 129, 200]), st.booleans(), st.integers(1, 18))
def test_values_and_gradients_are_those_of_the_float_op(
    problem: dict[str, Any], batch: int, needs_grad: bool, count: int
) -> None:
    x, soft, gates, leaves, geometry = hard_problem({**problem, "batch": batch})
    candidates = candidates_of(x, leaves, geometry[0], count)
    shares = torch.rand(candidates.shape, requires_grad=True)
    bits = (x > 0.5).float().detach().requires_grad_(needs_grad)
    x.requires_grad_(needs_grad)
    soft.requires_grad_()
    table = ops.hard_table(gates, torch.float32)
    expected = ops.learned_tree_conv(bits, table, shares, leaves, candidates, geometry, soft)
    y = learn(x, (soft, gates, leaves, geometry), shares, candidates)
    assert torch.equal(y, expected)
    upper = torch.randn_like(y)
    wanted = ((x, soft, shares), (bits, soft, shares)) if needs_grad else ((soft, shares),) * 2
    got, want = (torch.autograd.grad(part, of, upper) for part, of in zip((y, expected), wanted, strict=True))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


@given(problems(), st.integers(1, 18))
def test_native_is_the_reference(problem: dict[str, Any], count: int) -> None:
    x, soft, gates, leaves, geometry = hard_problem(problem)
    words = lgn.round_to_bits(x)
    y, winner = lgn.bit_tree_conv(words, gates, leaves, *geometry)
    grad, candidates = torch.randn(len(x), *y.shape[1:]), candidates_of(x, leaves, geometry[0], count)
    for need in (False, True):
        arguments = (grad, winner, words, gates, soft, leaves, candidates)
        conv = BitTreeConv(words, gates, leaves, geometry, soft, candidates)
        expected = bit_tree.backward_reference(grad, winner, conv, need)
        for got, want in zip(backward(*arguments, *geometry, need), expected, strict=True):
            torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-4)


def test_large_windows() -> None:
    torch.manual_seed(0)
    x = (torch.rand(100, 1, 16, 16) > 0.97).float()
    leaves, candidates = torch.zeros(3, 1, 2, dtype=torch.int32), torch.zeros(1, 2, 3, dtype=torch.int32)
    gates, soft = torch.tensor([3], dtype=torch.uint8), torch.rand(1, 4)  # the input itself
    shares = torch.rand(1, 2, 3, requires_grad=True)
    table, geometry = ops.hard_table(gates, torch.float32), ConvGeometry((1, 1), pool=(16, 16))
    y = learn(x, (soft, gates, leaves, geometry), shares, candidates)
    expected = ops.learned_tree_conv(x, table, shares, leaves, candidates, geometry, soft)
    assert torch.equal(y, expected)
    torch.testing.assert_close(*(torch.autograd.grad(part.sum(), shares)[0] for part in (y, expected)))


@pytest.mark.parametrize("batch", [3, 128, 300])
def test_same_bits_at_any_number_of_threads(batch: int) -> None:
    grad, rest = kept(batch, trees=40)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(backward(grad, *rest, True))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *results))


def test_the_other_gradients_are_those_of_fixed_leaves() -> None:
    grad, rest = kept()
    *got, _ = backward(grad, *rest, True)
    del rest[5]
    assert all(map(torch.equal, got, lgn.bit_tree_conv_backward(grad, *rest, True)))


@pytest.mark.parametrize("kind", ["padded", "strided", "float64"])
def test_any_strides_and_whatever_is_in_the_padding(kind: str) -> None:
    grad, rest = kept()
    expected = backward(grad, *rest, True)
    if kind == "padded":  # lanes past the batch hold NaN
        rows = torch.full((*grad.shape[1:], 128), float("nan"))
        rows[..., :70] = grad.permute(1, 2, 3, 0)
        grad = rows[..., :70].permute(3, 0, 1, 2)
    elif kind == "strided":
        rest[1] = rest[1].contiguous(memory_format=torch.channels_last)
        rest[5] = rest[5].transpose(0, 2).contiguous().transpose(0, 2)
    else:
        grad = grad.double()
    assert all(map(torch.equal, backward(grad, *rest, True), expected))


def test_opcheck_and_compile() -> None:
    grad, rest = kept()
    for need in (False, True):
        torch.library.opcheck(backward.default, (grad, *rest, need), test_utils=("test_schema", "test_faketensor"))
    x, *problem = example()
    candidates = rest[5]
    shares = torch.rand(candidates.shape, requires_grad=True)

    def loss(shares: Tensor) -> Tensor:
        return learn(x, tuple(problem), shares, candidates).square().sum()  # type: ignore[arg-type]

    expected = torch.autograd.grad(loss(shares), shares)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(torch.autograd.grad(compiled(shares), shares), expected)


def test_empty_batch() -> None:
    x, soft, gates, leaves, geometry = example()
    candidates = candidates_of(x, leaves, geometry[0], 4)
    shares = torch.rand(candidates.shape, requires_grad=True)
    y = learn(x[:0], (soft, gates, leaves, geometry), shares, candidates)
    assert y.shape == (0, 5, 2, 2)
    assert not torch.autograd.grad(y.sum(), shares)[0].any()


def test_bad_arguments() -> None:
    x, soft, gates, leaves, geometry = example()
    candidates = candidates_of(x, leaves, geometry[0], 4)
    shares = torch.rand(candidates.shape, requires_grad=True)
    problem = (soft, gates, leaves, geometry)
    with pytest.raises(ValueError, match=r"do not fit leaves \[3, 5, 8\]: both are \[5, 8, K\]"):
        learn(x, problem, shares[:, :, :3], candidates)
    with pytest.raises(TypeError, match=r"candidates is torch\.int64"):
        learn(x, problem, shares, candidates.long())
    with pytest.raises(ValueError, match=r"gates is torch\.uint8 \[34\]"):
        learn(x, (soft, gates[1:], leaves, geometry), shares, candidates)
    if os.environ.get("LGN_BACKEND") != "torch":
        candidates[4, 1, 2] = 27
        with pytest.raises(IndexError, match=r"places 0 … 26 of a receptive field of 3 channels and 3x3"):
            learn(x, problem, shares, candidates).sum().backward()
