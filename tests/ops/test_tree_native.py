"""The native CPU kernels of the tree convolution against the reference: dtypes, memory formats, threads, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning.ops import ConvGeometry, tree
from lgn_lightning.ops.tree import TreeConv
from tests.ops.test_tree import example, make, problems

pytestmark = pytest.mark.usefixtures("native_cpu")


lgn = torch.ops.lgn
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}


def assert_near(actual: Tensor, expected: Tensor, scale: float = 1.0) -> None:
    tolerance = TOLERANCE[actual.dtype] * scale
    torch.testing.assert_close(actual, expected.to(actual.dtype), atol=tolerance, rtol=tolerance)


def strided(x: Tensor, form: str) -> Tensor:
    """The same image in another memory format; batch innermost is the kernels' own."""
    if form == "batch_innermost":
        return x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    if form == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if form == "padded":  # whole cache lines whose padding holds NaN
        padded = torch.full((*x.shape[1:], -(-x.shape[0] // 64) * 64 + 64), float("nan"), dtype=x.dtype)
        padded[..., : x.shape[0]] = x.permute(1, 2, 3, 0)
        return padded[..., : x.shape[0]].permute(3, 0, 1, 2)
    return x


@given(
    problems(),
    st.sampled_from(list(TOLERANCE)),
    st.sampled_from(["batch_major", "batch_innermost", "channels_last", "padded"]),
    st.booleans(),
    st.booleans(),
)
def test_both_passes_are_the_reference(
    problem: dict[str, Any], dtype: torch.dtype, form: str, straight_through: bool, need_grad_x: bool
) -> None:
    x, table, leaves, geometry = make(problem, dtype)
    soft = torch.rand_like(table) if straight_through else None
    x = strided(x, form)
    y, winner = lgn.logic_tree_conv(x, table, soft, leaves, *geometry)
    exact = x.to(table.dtype)
    expected, first = tree.forward_reference(TreeConv(exact, table, soft, leaves, geometry))
    assert_near(y, expected)
    assert winner.shape == first.shape
    # Near ties may be decided differently, and the gradient follows: both passes back get the same winners.
    grad = strided(torch.randn(y.shape, dtype=dtype), form)
    grad_x, grad_table = lgn.logic_tree_conv_backward(grad, winner, x, table, soft, leaves, *geometry, need_grad_x)
    conv = TreeConv(exact, table, soft, leaves, geometry)
    expected_x, expected_table = tree.backward_reference(grad.to(table.dtype), winner, conv, need_grad_x)
    assert_near(grad_x, expected_x, 10)
    assert_near(grad_table, expected_table, 100)


def test_first_of_equal_maxima_wins() -> None:
    leaves = torch.zeros(3, 1, 2, dtype=torch.int32)
    table = torch.tensor([[0.0, 0.0, 1.0, 1.0]])  # the input itself
    x = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]]).view(3, 1, 2, 2)
    y, winner = lgn.logic_tree_conv(x, table, None, leaves, [1, 1], [1, 1], [0, 0], [2, 2])
    assert y.flatten().tolist() == [1, 0, 1]
    assert winner.flatten().tolist() == [0, 0, 1]


def test_nan_weights_show() -> None:
    x, table, _, leaves, geometry = example(torch.float32)
    y, _ = lgn.logic_tree_conv(x.detach(), torch.full_like(table, float("nan")), None, leaves, *geometry)
    assert y.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [3, 64, 100, 128, 700])
def test_same_bits_at_any_number_of_threads(batch: int, dtype: torch.dtype) -> None:
    problem = {"batch": batch, "in_channels": 4, "out_channels": 24, "depth": 3, "size": [8, 8], "seed": 0}
    problem["geometry"] = ConvGeometry((3, 3), padding=(1, 1), pool=(2, 2))
    x, table, leaves, geometry = make(problem, dtype)
    grad = torch.randn(batch, 24, 4, 4, dtype=dtype)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y, winner = lgn.logic_tree_conv(x, table, None, leaves, *geometry)
            back = lgn.logic_tree_conv_backward(grad, winner, x, table, None, leaves, *geometry, True)
            results.append((y, winner, *back))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    *args, geometry = example(dtype)
    args += geometry
    torch.library.opcheck(lgn.logic_tree_conv.default, args)
    with torch.no_grad():
        y, winner = lgn.logic_tree_conv(*args)
        torch.library.opcheck(lgn.logic_tree_conv_backward.default, (torch.rand_like(y), winner, *args, True))


def test_empty_batch() -> None:
    x, table, _, leaves, geometry = example(torch.float32)
    y, winner = lgn.logic_tree_conv(x.detach()[:0], table, None, leaves, *geometry)
    assert y.shape == winner.shape == (0, 2, 2, 2)
    grad_x, grad_table = lgn.logic_tree_conv_backward(y, winner, x.detach()[:0], table, None, leaves, *geometry, True)
    assert grad_x.shape == (0, 3, 4, 4)
    assert not grad_table.any()


@pytest.mark.parametrize(("part", "bad"), [(0, 3), (1, 3), (2, -1)])
def test_leaf_out_of_range_is_one_clear_error(part: int, bad: int) -> None:
    x, table, _, leaves, geometry = example(torch.float32)
    leaves[part, 1, 4] = bad
    with pytest.raises(IndexError, match=rf"leaves\[{part}\] has values from .* must be in 0 … 2"):
        lgn.logic_tree_conv(x, table, None, leaves, *geometry)
