"""The tree convolution on packed bits: against the float op, its reference, torch's checks of an op."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import ConvGeometry, bit_tree, tree
from lgn_lightning.ops.bit_tree import BitTreeConv
from lgn_lightning.ops.bits import unpack_bits_reference
from tests.ops.test_tree import make, problems

pytestmark = pytest.mark.usefixtures("asked_backend")
lgn = torch.ops.lgn


def hard_problem(problem: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor, ConvGeometry]:
    """Grey image, soft table, random gates, leaves and the geometry."""
    x, soft, leaves, geometry = make(problem, torch.float32)
    gates = torch.randint(16, (len(soft),)).to(torch.uint8)
    return x, soft, gates, leaves, geometry


def example(
    batch: int = 70, trees: int = 5, depth: int = 3, pool: int = 2
) -> tuple[Tensor, Tensor, Tensor, Tensor, ConvGeometry]:
    geometry = ConvGeometry((3, 3), padding=(1, 1), pool=(pool, pool))
    sizes = {"batch": batch, "in_channels": 3, "out_channels": trees, "depth": depth, "size": [4, 4], "seed": 1}
    return hard_problem({**sizes, "geometry": geometry})


@given(problems(), st.sampled_from([1, 64, 65, 128, 129, 200]), st.booleans())
def test_values_and_gradients_are_those_of_the_float_op(problem: dict[str, Any], batch: int, needs_grad: bool) -> None:
    x, soft, gates, leaves, geometry = hard_problem({**problem, "batch": batch})
    x.requires_grad_(needs_grad)
    soft.requires_grad_()
    bits = (x > 0.5).float().detach().requires_grad_(needs_grad)
    expected = tree.logic_tree_conv_reference(bits, ops.hard_table(gates, torch.float32), leaves, geometry, soft)
    y = ops.bit_tree_conv(ops.pack_activations(x), soft, gates, leaves, geometry).unpack(torch.float32)
    assert torch.equal(y, expected)
    upper = torch.randn_like(y)
    wanted = ((x, soft), (bits, soft)) if needs_grad else ((soft,), (soft,))
    got, want = (torch.autograd.grad(part, of, upper) for part, of in zip((y, expected), wanted, strict=True))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


@given(problems())
def test_native_is_the_reference(problem: dict[str, Any]) -> None:
    x, soft, gates, leaves, geometry = hard_problem(problem)
    words = lgn.round_to_bits(x)
    assert torch.equal(unpack_bits_reference(words.flatten(1), len(x)).view(x.shape), x > 0.5)
    y, winner = lgn.bit_tree_conv(words, gates, leaves, *geometry)
    expected, digits = bit_tree.forward_reference(BitTreeConv(words, gates, leaves, geometry))
    assert y.shape == expected.shape
    assert winner.shape == digits.shape
    for got, want in ((y, expected), (winner, digits)):
        features = got.flatten(1), want.flatten(1)
        assert torch.equal(*(unpack_bits_reference(part, len(x)) for part in features))
    grad = torch.randn(len(x), *y.shape[1:])
    for need in (False, True):
        kept = (winner, words, gates, soft, leaves)
        for one, other in zip(
            lgn.bit_tree_conv_backward(grad, *kept, *geometry, need),
            bit_tree.backward_reference(grad, winner, BitTreeConv(words, gates, leaves, geometry, soft), need),
            strict=True,
        ):
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("pool", [(16, 16), (1, 5)])
def test_large_windows(pool: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = (torch.rand(100, 1, *pool) > 0.97).float()
    leaves = torch.zeros(3, 1, 2, dtype=torch.int32)
    gates, soft = torch.tensor([3], dtype=torch.uint8), torch.rand(1, 4).requires_grad_()  # the input itself
    x.requires_grad_()
    y = ops.bit_tree_conv(ops.pack_activations(x), soft, gates, leaves, ConvGeometry((1, 1), pool=pool)).unpack(
        torch.float32
    )
    expected = tree.logic_tree_conv_reference(
        x, ops.hard_table(gates, torch.float32), leaves, ConvGeometry((1, 1), pool=pool), soft
    )
    assert torch.equal(y, expected)
    for got, want in zip(
        torch.autograd.grad(y.sum(), (x, soft)), torch.autograd.grad(expected.sum(), (x, soft)), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_what_is_kept_are_bits() -> None:
    x, soft, gates, leaves, geometry = example(batch=1024, trees=64)
    kept: list[Tensor] = []
    soft.requires_grad_()
    bits = ops.pack_activations(x.requires_grad_())
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = ops.bit_tree_conv(bits, soft, gates, leaves, geometry)
    words = [t for t in kept if t.dtype == torch.int64]
    assert sum(t.untyped_storage().nbytes() for t in words) == (3 * 16 + 2 * 64 * 4) * 1024 // 8
    assert {t.dtype for t in kept} == {torch.int64, torch.uint8, torch.int32, torch.float32}
    assert sum(t.numel() for t in kept if t.dtype == torch.float32) == soft.numel()
    assert y.edge.shape == (1024, 64, 2, 2)
    assert y.edge.untyped_storage().nbytes() == 4


def test_chain_ends_in_a_dense_stack() -> None:
    x, soft, gates, leaves, geometry = example()
    soft.requires_grad_()
    table = torch.rand(6, 4, requires_grad=True)
    ids, a, b = torch.randint(16, (6,)).to(torch.uint8), torch.randint(20, (6,)).int(), torch.randint(20, (6,)).int()
    layers = [ops.BitLayer(table, ids, a, b)]
    y = ops.bit_tree_conv(ops.pack_activations(x), soft, gates, leaves, geometry)
    packed = y.flatten()
    scores = ops.bit_logic(packed.edge, layers, 2, words=packed.words)
    expected = ops.bit_logic(y.unpack(torch.float32).flatten(1), layers, 2)
    assert torch.equal(scores, expected)
    upper = torch.randn_like(scores)
    for got, want in zip(
        torch.autograd.grad(scores, (soft, table), upper, retain_graph=True),
        torch.autograd.grad(expected, (soft, table), upper),
        strict=True,
    ):
        assert torch.equal(got, want)


@pytest.mark.parametrize("batch", [3, 128, 300])
def test_same_bits_at_any_number_of_threads(batch: int) -> None:
    x, soft, gates, leaves, geometry = example(batch, trees=40)
    grad, before, results = torch.randn(batch, 40, 2, 2), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            words = lgn.round_to_bits(x)
            y, winner = lgn.bit_tree_conv(words, gates, leaves, *geometry)
            back = lgn.bit_tree_conv_backward(grad, winner, words, gates, soft, leaves, *geometry, True)
            results.append((y, winner, *back))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("kind", ["padded", "strided", "float64"])
def test_any_strides_and_whatever_is_in_the_padding(kind: str) -> None:
    x, soft, gates, leaves, geometry = example(batch=70)
    words = lgn.round_to_bits(x)
    y, winner = lgn.bit_tree_conv(words, gates, leaves, *geometry)
    grad = torch.randn(70, *y.shape[1:])
    expected = lgn.bit_tree_conv_backward(grad, winner, words, gates, soft, leaves, *geometry, True)
    if kind == "padded":  # lanes past the batch hold NaN
        rows = torch.full((*grad.shape[1:], 128), float("nan"))
        rows[..., :70] = grad.permute(1, 2, 3, 0)
        grad = rows[..., :70].permute(3, 0, 1, 2)
    elif kind == "strided":
        words, winner = words.contiguous(memory_format=torch.channels_last), winner.contiguous()
    else:
        grad = grad.double()
    got = lgn.bit_tree_conv_backward(grad, winner, words, gates, soft, leaves, *geometry, True)
    assert all(map(torch.equal, got, expected))


def test_opcheck() -> None:
    x, soft, gates, leaves, geometry = example()
    utils = ("test_schema", "test_faketensor")
    torch.library.opcheck(lgn.round_to_bits.default, (x,), test_utils=utils)
    words = lgn.round_to_bits(x)
    torch.library.opcheck(lgn.bit_tree_conv.default, (words, gates, leaves, *geometry), test_utils=utils)
    y, winner = lgn.bit_tree_conv(words, gates, leaves, *geometry)
    for need in (False, True):
        arguments = (torch.randn(len(x), *y.shape[1:]), winner, words, gates, soft, leaves, *geometry, need)
        torch.library.opcheck(lgn.bit_tree_conv_backward.default, arguments, test_utils=utils)


def test_empty_batch() -> None:
    x, soft, gates, leaves, geometry = example()
    x, soft = x[:0].requires_grad_(), soft.requires_grad_()
    y = ops.bit_tree_conv(ops.pack_activations(x), soft, gates, leaves, geometry).unpack(torch.float32)
    assert y.shape == (0, 5, 2, 2)
    grad_x, grad_table = torch.autograd.grad(y.sum(), (x, soft))
    assert grad_x.shape == x.shape
    assert not grad_table.any()


def test_bad_arguments() -> None:
    x, soft, gates, leaves, geometry = example()
    bits = ops.pack_activations(x)
    with pytest.raises(
        ValueError, match=r"gates is torch\.uint8 \[34\], but a table \[35, 4\] takes torch\.uint8 \[35\]"
    ):
        ops.bit_tree_conv(bits, soft, gates[1:], leaves, geometry)
    with pytest.raises(ValueError, match=r"gates is torch\.int64"):
        ops.bit_tree_conv(bits, soft, gates.long(), leaves, geometry)
    with pytest.raises(ValueError, match=r"pooling 5x5 is larger than the 4x4 outputs"):
        ops.bit_tree_conv(bits, soft, gates, leaves, geometry._replace(pool=(5, 5)))
    if os.environ.get("LGN_BACKEND") != "torch":
        leaves[1, 2, 3] = 3
        with pytest.raises(IndexError, match=r"leaves\[1\] has values from 0 to 3, but must be in 0 … 2"):
            ops.bit_tree_conv(bits, soft, gates, leaves, geometry)
