"""The gradient of learned leaves: against autograd of the mixture, native against the reference, checks of the op."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import ConvGeometry, tree
from lgn_lightning.ops.tree import TreeConv
from tests.ops.test_tree import make, problems
from tests.ops.test_tree_native import TOLERANCE, strided

pytestmark = pytest.mark.usefixtures("asked_backend")


def candidates_of(x: Tensor, leaves: Tensor, kernel: Sequence[int], count: int) -> Tensor:
    """Places of the receptive field, with the leaves themselves first."""
    channel, row, column = leaves
    own = (channel * kernel[0] + row) * kernel[1] + column
    places = x.shape[1] * kernel[0] * kernel[1]
    others = torch.randint(places, (*own.shape, count - 1), dtype=torch.int32)
    return torch.cat((own.unsqueeze(2), others), 2)


def test_places_are_numbered_over_channels_rows_and_columns() -> None:
    places = torch.arange(2 * 3 * 4, dtype=torch.int32).view(2, 12)
    channel, row, column = tree.decode_places(places, (3, 4))
    assert torch.equal((channel * 3 + row) * 4 + column, places)
    assert (channel.max(), row.max(), column.max()) == (1, 2, 3)
    assert channel.dtype == torch.int32


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("straight_through", [False, True])
def test_is_the_gradient_of_the_mixture_at_the_chosen_leaves(pool: int, straight_through: bool) -> None:
    torch.manual_seed(3)
    x = torch.rand(5, 3, 6, 6, dtype=torch.float64)
    leaves = torch.stack([torch.randint(3, (2, 4), dtype=torch.int32) for _ in range(3)])
    candidates = candidates_of(x, leaves, [3, 3], 4)
    table = torch.rand(6, 4, dtype=torch.float64)
    soft = torch.rand_like(table) if straight_through else None
    shares = torch.rand(2, 4, 4, dtype=torch.float64, requires_grad=True)
    geometry = ConvGeometry((3, 3), padding=(1, 1), pool=(pool, pool))

    # Every leaf as a channel of its own, one place wide: what it reads is the chosen value plus nothing that learns.
    rows = torch.nn.functional.unfold(x, (3, 3), padding=1)  # [batch, places of the field, places of the image]
    mixed = torch.einsum("bfp,olkf->bolp", rows, torch.nn.functional.one_hot(candidates.long(), 27) * shares[..., None])
    chosen = rows[:, candidates[..., 0].long().flatten()].view_as(mixed)
    as_channels = (chosen + mixed - mixed.detach()).reshape(5, 8, 6, 6)
    own = torch.stack((torch.arange(8).view(2, 4), torch.zeros(2, 4), torch.zeros(2, 4))).int()
    expected = tree.logic_tree_conv_reference(as_channels, table, own, ConvGeometry((1, 1), pool=(pool, pool)), soft)

    y = ops.learned_tree_conv(x, table, shares, leaves, candidates, geometry, soft)
    torch.testing.assert_close(y, expected)
    upper = torch.randn_like(y)
    got, want = (torch.autograd.grad(part, shares, upper) for part in (y, expected))
    torch.testing.assert_close(got, want)


@given(
    problems(),
    st.sampled_from(list(TOLERANCE)),
    st.sampled_from(["batch_major", "padded"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_native_is_the_reference(
    problem: dict[str, Any], dtype: torch.dtype, form: str, straight_through: bool, need_grad_x: bool, count: int
) -> None:
    x, table, leaves, geometry = make(problem, dtype)
    soft = torch.rand_like(table) if straight_through else None
    candidates = candidates_of(x, leaves, geometry[0], count)
    x = strided(x, form)
    y, winner = torch.ops.lgn.logic_tree_conv(x, table, soft, leaves, *geometry)
    grad = strided(torch.randn(y.shape, dtype=dtype), form)
    rest = (table, soft, leaves, candidates)
    got = torch.ops.lgn.learned_tree_conv_backward(grad, winner, x, *rest, *geometry, need_grad_x)
    wide = table.dtype
    conv = TreeConv(x.to(wide), table, soft, leaves, geometry, candidates)
    expected = tree.backward_reference(grad.to(wide), winner, conv, need_grad_x)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(got[0], expected[0].to(dtype), atol=10 * tolerance, rtol=10 * tolerance)
    for mine, want in zip(got[1:], expected[1:], strict=True):
        assert mine.dtype == want.dtype == wide
        torch.testing.assert_close(mine, want, atol=100 * tolerance, rtol=100 * tolerance)


def layer(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(5)
    leaves = torch.stack([torch.randint(3, (40, 8), dtype=torch.int32) for _ in range(3)])
    x = torch.rand(300, 3, 6, 6, dtype=dtype)
    return x, torch.rand(40 * 7, 4, dtype=dtype), leaves, candidates_of(x, leaves, [3, 3], 4)


def test_threads_change_no_bit() -> None:
    x, table, leaves, candidates = layer()
    geometry = ConvGeometry((3, 3), padding=(1, 1), pool=(2, 2))
    y, winner = torch.ops.lgn.logic_tree_conv(x, table, None, leaves, *geometry)
    grad, before = torch.randn_like(y), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(
                torch.ops.lgn.learned_tree_conv_backward(
                    grad, winner, x, table, None, leaves, candidates, *geometry, True
                )
            )
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *results))


def test_opcheck_and_compile() -> None:
    x, table, leaves, candidates = layer()
    x, geometry = x[:20], ConvGeometry((3, 3), padding=(1, 1), pool=(2, 2))
    y, winner = torch.ops.lgn.logic_tree_conv(x, table, None, leaves, *geometry)
    arguments = (torch.randn_like(y), winner, x, table, None, leaves, candidates, *geometry, True)
    utils = ("test_schema", "test_faketensor")
    for one in (x[:0], x):
        torch.library.opcheck(torch.ops.lgn.learned_tree_conv.default, (one, *arguments[3:-1]), test_utils=utils)
    torch.library.opcheck(torch.ops.lgn.learned_tree_conv_backward.default, arguments, test_utils=utils)

    shares = torch.rand(40, 8, 4, requires_grad=True)

    def loss(shares: Tensor) -> Tensor:
        return ops.learned_tree_conv(x, table, shares, leaves, candidates, geometry).square().sum()

    expected = torch.autograd.grad(loss(shares), shares)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(torch.autograd.grad(compiled(shares), shares), expected)


def test_empty_batch() -> None:
    x, table, leaves, candidates = layer()
    shares = torch.rand(40, 8, 4, requires_grad=True)
    y = ops.learned_tree_conv(x[:0], table, shares, leaves, candidates, ConvGeometry((3, 3), pool=(2, 2)))
    assert not torch.autograd.grad(y.sum(), shares)[0].any()


def test_bad_arguments() -> None:
    x, table, leaves, candidates = layer()
    shares = torch.rand(40, 8, 4, requires_grad=True)
    with pytest.raises(ValueError, match=r"do not fit leaves \[3, 40, 8\]: both are \[40, 8, K\]"):
        ops.learned_tree_conv(x, table, shares[:, :, :3], leaves, candidates, ConvGeometry((3, 3)))
    with pytest.raises(TypeError, match=r"candidates is torch\.int64"):
        ops.learned_tree_conv(x, table, shares, leaves, candidates.long(), ConvGeometry((3, 3)))
    if os.environ.get("LGN_BACKEND") != "torch":
        candidates[4, 1, 2] = 27
        y = ops.learned_tree_conv(x, table, shares, leaves, candidates, ConvGeometry((3, 3)))
        with pytest.raises(IndexError, match=r"places 0 … 26 of a receptive field of 3 channels and 3x3"):
            y.sum().backward()
