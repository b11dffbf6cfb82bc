"""The tree convolution: against a loop over its definition, its gradients, and its errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.nn.connections import draw_leaves
from lgn_lightning.ops import ConvGeometry, tree


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    """Arguments of the op: any depth from 1 to 4, any kernel, stride, padding and pooling that fit one another."""
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    pool = draw(st.sampled_from([(1, 1), (2, 2), (3, 1), (1, 2), (3, 3)]))
    windows = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    rest = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))  # of the image, which may be of the pooling's windows
    size = [
        max((q * w - 1) * s + k - 2 * p, 1) + r
        for k, s, p, q, w, r in zip(kernel, stride, padding, pool, windows, rest, strict=True)
    ]
    return {
        "batch": draw(st.sampled_from([1, 2, 15, 16, 17, 64, 65, 130])),
        "in_channels": draw(st.integers(1, 3)),
        "out_channels": draw(st.integers(1, 3)),
        "depth": draw(st.integers(1, 4)),
        "size": size,
        "geometry": ConvGeometry(kernel, stride, padding, pool),
        "seed": draw(st.integers(0, 2**16)),
    }


def make(problem: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, ConvGeometry]:
    """Random input, table, leaves and the geometry."""
    torch.manual_seed(problem["seed"])
    leaves = draw_leaves(
        problem["in_channels"],
        problem["out_channels"],
        problem["geometry"].kernel_size,
        2 ** problem["depth"],
        min(2, problem["in_channels"]),
    )
    x = torch.rand(problem["batch"], problem["in_channels"], *problem["size"], dtype=dtype)
    table = torch.rand(problem["out_channels"] * (2 ** problem["depth"] - 1), 4, dtype=torch.float64)
    return x, table.to(torch.float64 if dtype == torch.float64 else torch.float32), leaves, problem["geometry"]


def by_definition(x: Tensor, table: Tensor, leaves: Tensor, geometry: ConvGeometry) -> Tensor:
    """The convolution written as its definition reads, with torch's own padding and pooling."""
    (kh, kw), (sh, sw), (ph, pw), pool = geometry
    padded = torch.nn.functional.pad(x, (pw, pw, ph, ph))
    height, width = (padded.shape[2] - kh) // sh + 1, (padded.shape[3] - kw) // sw + 1
    gates = leaves.shape[2] - 1
    channels = []
    for o in range(leaves.shape[1]):
        nodes = [
            padded[:, c, dy : dy + (height - 1) * sh + 1 : sh, dx : dx + (width - 1) * sw + 1 : sw]
            for c, dy, dx in leaves[:, o].t().tolist()
        ]
        for j in range(gates):
            a, b = nodes[2 * j], nodes[2 * j + 1]
            t = table[o * gates + j]
            nodes.append(t[0] * (1 - a) * (1 - b) + t[1] * (1 - a) * b + t[2] * a * (1 - b) + t[3] * a * b)
        channels.append(nodes[-1])
    return torch.nn.functional.max_pool2d(torch.stack(channels, dim=1), pool)


@given(problems())
def test_values_and_gradients_are_those_of_the_definition(problem: dict[str, Any]) -> None:
    x, table, leaves, geometry = make(problem, torch.float64)
    x.requires_grad_()
    table.requires_grad_()
    y = ops.logic_tree_conv(x, table, leaves, geometry)
    expected = by_definition(x, table, leaves, geometry)
    torch.testing.assert_close(y, expected)
    upper = torch.rand_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(y, (x, table), upper), torch.autograd.grad(expected, (x, table), upper)
    )


@given(problems())
def test_straight_through_has_hard_values_and_soft_slopes(problem: dict[str, Any]) -> None:
    x, soft, leaves, geometry = make(problem, torch.float64)
    x = x.round().requires_grad_()
    soft.requires_grad_()
    hard = soft.detach().round()
    y = ops.logic_tree_conv(x, hard, leaves, geometry, soft_table=soft)
    assert torch.equal(y, ops.logic_tree_conv(x, hard, leaves, geometry))
    expected = tree.logic_tree_conv_reference(x, hard, leaves, geometry, soft_table=soft)  # by autograd
    upper = torch.rand_like(y)
    torch.testing.assert_close(
        torch.autograd.grad(y, (x, soft), upper), torch.autograd.grad(expected, (x, soft), upper)
    )


def example(dtype: torch.dtype, pool: int = 2) -> tuple[Any, ...]:
    leaves = draw_leaves(3, 2, (3, 3), 8, 2)
    x = torch.rand(5, 3, 4, 4, dtype=dtype, requires_grad=True)
    table = torch.rand(14, 4, dtype=torch.float64 if dtype == torch.float64 else torch.float32, requires_grad=True)
    return x, table, None, leaves, ConvGeometry((3, 3), padding=(1, 1), pool=(pool, pool))


@pytest.mark.parametrize("pool", [1, 2])
def test_opcheck(pool: int) -> None:
    *args, geometry = example(torch.float32, pool)
    args += geometry
    torch.library.opcheck(torch.ops.lgn.logic_tree_conv, args)
    with torch.no_grad():
        y, winner = torch.ops.lgn.logic_tree_conv(*args)
        for need_grad_x in (True, False):
            upper = (torch.rand_like(y), winner, *args, need_grad_x)
            torch.library.opcheck(torch.ops.lgn.logic_tree_conv_backward, upper)


@pytest.mark.parametrize("pool", [1, 2])
def test_gradcheck(pool: int) -> None:
    x, table, _, leaves, geometry = example(torch.float64, pool)
    assert torch.autograd.gradcheck(lambda x, table: ops.logic_tree_conv(x, table, leaves, geometry), (x, table))


def test_output_lies_batch_innermost() -> None:
    x, table, _, leaves, geometry = example(torch.float32)
    y = ops.logic_tree_conv(x, table, leaves, geometry)
    assert y.shape == (5, 2, 2, 2)
    assert y.stride(0) == 1
    flat = y.flatten(1)
    assert flat.data_ptr() == y.data_ptr()
    assert flat.stride(0) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": (7, 3)}, "kernel of 7x3 does not fit into 6x6, an image of 4x4 with padding"),
        ({"pool": (5, 2)}, "pooling 5x2 is larger than the 4x4 outputs"),
        ({"pool": (17, 16)}, "pooling 17x16 has more than 256 positions"),
        ({"stride": (0, 1)}, "must be at least 1"),
    ],
)
def test_geometry_that_does_not_fit_is_a_value_error(change: dict[str, Any], message: str) -> None:
    x, table, _, leaves, geometry = example(torch.float32)
    with pytest.raises(ValueError, match=message):
        ops.logic_tree_conv(x, table, leaves, geometry._replace(**change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.rand(5, 48)}, r"x has shape \[5, 48\]"),
        ({"table": torch.rand(13, 4)}, r"table has shape \[13, 4\]"),
        ({"leaves": torch.zeros(3, 2, 7, dtype=torch.int32)}, r"must be \[3, out_channels, 2\^depth\]"),
    ],
)
def test_input_that_does_not_fit_is_a_value_error(change: dict[str, Any], message: str) -> None:
    x, table, _, leaves, geometry = example(torch.float32)
    with pytest.raises(ValueError, match=message):
        ops.logic_tree_conv(**{"x": x, "table": table, "leaves": leaves, "geometry": geometry} | change)


def test_wrong_dtypes_are_type_errors() -> None:
    x, table, _, leaves, geometry = example(torch.float32)
    for wrong in ((x.int(), table, leaves), (x, table.double(), leaves), (x, table, leaves.long())):
        with pytest.raises(TypeError, match=r"x is|table is|leaves is"):
            ops.logic_tree_conv(*wrong, geometry)
