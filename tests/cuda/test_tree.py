"""The tree convolution on a GPU, against the reference in float64 there, which takes minutes on a CPU."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.nn.connections import draw_leaves
from lgn_lightning.ops import ConvGeometry, tree
from lgn_lightning.ops.tree import TreeConv
from tests.cuda.steps import record
from tests.ops.test_tree import example, make, problems
from tests.ops.test_tree_choices import candidates_of

pytestmark = pytest.mark.cuda
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-12}
lgn = torch.ops.lgn


def on_gpu(values: Any) -> list[Any]:
    return [v.detach().cuda() if isinstance(v, Tensor) else v for v in values]


def compare(
    x: Tensor, table: Tensor, soft: Tensor | None, leaves: Tensor, geometry: ConvGeometry, need_x: bool = True
) -> None:
    args = on_gpu((x, table, soft, leaves))
    exact = [v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for v in args]
    y, winner = lgn.logic_tree_conv(*args, *geometry)
    error = TOLERANCE[x.dtype]
    expected, _ = tree.forward_reference(TreeConv(*exact, geometry))
    torch.testing.assert_close(y.double(), expected, atol=error, rtol=0)
    grad = torch.randn(y.shape, dtype=y.dtype, device="cuda")
    # At the kernel's own winners: near ties fall either way.
    grad_x, grad_table = lgn.logic_tree_conv_backward(grad, winner, *args, *geometry, need_x)
    want_x, want_table = tree.backward_reference(grad.double(), winner, TreeConv(*exact, geometry), True)
    scale = max(want_table.abs().max().item(), 1.0)
    torch.testing.assert_close(grad_table.double(), want_table, atol=error * scale, rtol=error)
    if need_x:
        scale = max(want_x.abs().max().item(), 1.0)
        torch.testing.assert_close(grad_x.double(), want_x, atol=error * scale, rtol=error)
    else:
        assert grad_x.numel() == 0


@given(problems(), st.sampled_from(list(TOLERANCE)), st.booleans(), st.booleans())
def test_any_problem(problem: dict[str, Any], dtype: torch.dtype, straight: bool, need_x: bool) -> None:
    x, table, leaves, geometry = make(problem, dtype)
    soft = torch.rand_like(table) if straight else None
    compare(x, table.round() if straight else table, soft, leaves, geometry, need_x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("depth", [1, 3, 4, 5, 6])
def test_layers_of_the_papers_kind(dtype: torch.dtype, depth: int) -> None:
    leaves = draw_leaves(64, 96, (3, 3), 2**depth, 2)
    x, table = torch.rand(130, 64, 16, 16).to(dtype), torch.rand(96 * (2**depth - 1), 4)
    compare(x, table, None, leaves, ConvGeometry((3, 3), padding=(1, 1), pool=(2, 2)))


def test_a_batch_in_slices() -> None:
    """Gradients of leaves that would take several gigabytes."""
    leaves = draw_leaves(8, 300, (3, 3), 8, 2)
    x, table = torch.rand(1000, 8, 32, 32).bfloat16().cuda(), torch.rand(2100, 4).cuda()
    args, geometry = (table, None, leaves.cuda()), ConvGeometry((3, 3), padding=(1, 1), pool=(2, 2))
    y, winner = lgn.logic_tree_conv(x, *args, *geometry)
    grad = torch.randn(y.shape, device="cuda").bfloat16()
    grad_x, grad_table = lgn.logic_tree_conv_backward(grad, winner, x, *args, *geometry, True)
    tables = torch.zeros_like(table)
    for part in (slice(0, 400), slice(400, 1000)):
        few = (t[part].contiguous() for t in (grad, winner, x))
        few_x, few_table = lgn.logic_tree_conv_backward(*few, *args, *geometry, True)
        torch.testing.assert_close(few_x, grad_x[part])
        tables += few_table
    torch.testing.assert_close(tables, grad_table, rtol=1e-3, atol=0.1)


def test_two_runs_give_the_same_bits() -> None:
    *args, geometry = on_gpu(example(torch.float32))
    args += geometry
    y, winner = lgn.logic_tree_conv(*args)
    runs = [lgn.logic_tree_conv_backward(torch.ones_like(y), winner, *args, True) for _ in range(2)]
    assert all(map(torch.equal, *runs))


@pytest.mark.parametrize("pool", [1, 2])
def test_opcheck_and_gradcheck(pool: int) -> None:
    x, table, soft, leaves, geometry = on_gpu(example(torch.float32, pool))
    args = (x.requires_grad_(), table.requires_grad_(), soft, leaves, *geometry)
    torch.library.opcheck(lgn.logic_tree_conv.default, args)
    x, table = x.detach().double().requires_grad_(), table.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, table: ops.logic_tree_conv(x, table, leaves, geometry), (x, table))


def test_empty_batch_and_other_strides() -> None:
    x, table, _, leaves, geometry = on_gpu(example(torch.float32))
    y = ops.logic_tree_conv(x, table, leaves, geometry)
    assert y.stride(0) == 1
    torch.testing.assert_close(
        ops.logic_tree_conv(x.contiguous(memory_format=torch.channels_last), table, leaves, geometry), y
    )
    torch.testing.assert_close(ops.logic_tree_conv(y.new_empty(0, 3, 4, 4), table, leaves, geometry), y[:0])


def test_a_graph_holds_both_passes() -> None:
    x, table, _, leaves, geometry = on_gpu(example(torch.float32))
    x, table = x.requires_grad_(), table.requires_grad_()

    def step() -> tuple[Tensor, ...]:
        y = ops.logic_tree_conv(x, table, leaves, geometry)
        return (y, *torch.autograd.grad(y.square().sum(), (x, table)))

    graph, got = record(step)
    with torch.no_grad():
        x.uniform_()
        table.uniform_()
    graph.replay()
    for one, other in zip(got, step(), strict=True):
        assert torch.equal(one, other)


@given(problems(), st.sampled_from(list(TOLERANCE)), st.booleans(), st.booleans(), st.integers(1, 9))
def test_learned_leaves(problem: dict[str, Any], dtype: torch.dtype, straight: bool, need_x: bool, count: int) -> None:
    x, table, leaves, geometry = make(problem, dtype)
    soft = torch.rand_like(table) if straight else None
    args = (x, table.round() if straight else table, soft, leaves)
    candidates = candidates_of(x, leaves, geometry[0], count)
    y, winner = lgn.learned_tree_conv(*on_gpu((*args, candidates)), *geometry)
    for got, want in zip((y, winner), lgn.logic_tree_conv(*on_gpu(args), *geometry), strict=True):
        assert torch.equal(got, want)
    grad = torch.randn(y.shape).to(y.dtype)
    got = lgn.learned_tree_conv_backward(grad.cuda(), winner, *on_gpu((*args, candidates)), *geometry, need_x)
    exact = [v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for v in args]
    expected = tree.backward_reference(grad.double(), winner.cpu(), TreeConv(*exact, geometry, candidates), True)
    error = TOLERANCE[dtype]
    for mine, want in zip(got if need_x else got[1:], expected if need_x else expected[1:], strict=True):
        scale = max(want.abs().max().item(), 1.0)
        torch.testing.assert_close(mine.cpu().double(), want, atol=error * scale, rtol=error)


def test_learned_leaves_twice_the_same_bits_and_opcheck() -> None:
    x, table, soft, leaves, geometry = on_gpu(example(torch.float32))
    candidates = candidates_of(x.cpu(), leaves.cpu(), geometry[0], 5).cuda()
    y, winner = lgn.learned_tree_conv(x, table, soft, leaves, candidates, *geometry)
    args = (torch.ones_like(y), winner, x, table, soft, leaves, candidates, *geometry, True)
    assert all(map(torch.equal, *(lgn.learned_tree_conv_backward(*args) for _ in range(2))))
    utils = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        lgn.learned_tree_conv.default, (x, table, soft, leaves, candidates, *geometry), test_utils=utils
    )
    torch.library.opcheck(lgn.learned_tree_conv_backward.default, args, test_utils=utils)
    candidates[1, 2, 3] = x.shape[1] * math.prod(geometry.kernel_size)
    with pytest.raises(IndexError, match="candidates must be places 0"):
        lgn.learned_tree_conv(x, table, soft, leaves, candidates, *geometry)


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_a_graph_holds_the_step_of_learned_leaves(sampler: str) -> None:
    net = LogicTreeNet((1, 8, 8), 10, [8, 16], [200], tree_connections="learned", sampler=sampler).cuda()
    x = torch.randint(256, (100, 1, 8, 8), dtype=torch.uint8, device="cuda")
    weights = list(net.parameters())

    def step() -> tuple[Tensor, ...]:
        y = net(x)
        return (y, *torch.autograd.grad(y.square().sum(), weights))

    graph, got = record(step)
    x.random_(256)
    with torch.no_grad():
        for parameter in weights:
            parameter.add_(torch.randn_like(parameter))  # other leaves are chosen
    graph.replay()
    assert all(map(torch.equal, got, step()))


def test_errors() -> None:
    x, table, _, leaves, geometry = on_gpu(example(torch.float32))
    wrong = leaves.clone()
    wrong[0, 1, 2] = 3
    with pytest.raises(IndexError, match="leaf 2 of tree 1 reads channel 3"):
        ops.logic_tree_conv(x, table, wrong, geometry)
    deep = draw_leaves(3, 1, (3, 3), 128, 2).cuda()
    with pytest.raises(RuntimeError, match="trees of 128 leaves are more than the 64"):
        ops.logic_tree_conv(x, torch.rand(127, 4, device="cuda"), deep, geometry)
