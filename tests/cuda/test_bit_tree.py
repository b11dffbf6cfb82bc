"""Straight-through convolutions on packed bits on a GPU, against the reference on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.ops import ConvGeometry, bit_tree, library
from lgn_lightning.ops.bit_tree import BitTreeConv
from lgn_lightning.ops.bits import pack_bits_reference, unpack_bits_reference
from tests.cuda.steps import check_graphed_training, check_training_waits_for_nothing
from tests.nn.test_bit_convolutions import convolutions_on_bits
from tests.ops.test_bit_tree import example, hard_problem
from tests.ops.test_tree import problems

pytestmark = pytest.mark.cuda
lgn = torch.ops.lgn
UTILS = ("test_schema", "test_faketensor")


def test_kernels_are_native() -> None:
    for name in ("round_to_bits", "bit_tree_conv", "bit_tree_conv_backward"):
        assert library.has_native(name, "cuda")


def same_bits(got: Tensor, want: Tensor, batch: int) -> bool:
    return torch.equal(*(unpack_bits_reference(part.cpu().flatten(1), batch) for part in (got, want)))


def compare(
    x: Tensor, soft: Tensor, gates: Tensor, leaves: Tensor, geometry: ConvGeometry, need_x: bool = True
) -> None:
    batch = len(x)
    words = pack_bits_reference(x.flatten(1) > 0.5, 64).view(-1, *x.shape[1:])
    on = [t.cuda() for t in (gates, soft, leaves)]
    on_words = lgn.round_to_bits(x.cuda())
    assert same_bits(on_words, words, batch)
    y, winner = lgn.bit_tree_conv(on_words, on[0], on[2], *geometry)
    expected, digits = bit_tree.forward_reference(BitTreeConv(words, gates, leaves, geometry))
    assert y.shape == expected.shape
    assert winner.shape == digits.shape
    assert same_bits(y, expected, batch)
    assert same_bits(winner, digits, batch)
    grad = torch.randn(batch, *y.shape[1:])
    got = lgn.bit_tree_conv_backward(grad.cuda(), winner, on_words, *on, *geometry, need_x)
    want = bit_tree.backward_reference(
        grad.double(), digits, BitTreeConv(words, gates, leaves, geometry, soft.double()), True
    )
    scale = max(want[1].abs().max().item(), 1.0)
    torch.testing.assert_close(got[1].cpu().double(), want[1], atol=2e-5 * scale, rtol=2e-5)
    if need_x:
        scale = max(want[0].abs().max().item(), 1.0)
        torch.testing.assert_close(got[0].cpu().double(), want[0].double(), atol=2e-5 * scale, rtol=2e-5)
    else:
        assert got[0].numel() == 0


@given(problems(), st.sampled_from([1, 64, 65, 128, 129, 1100]), st.booleans())
def test_any_problem(problem: dict[str, Any], batch: int, need_x: bool) -> None:
    compare(*hard_problem({**problem, "batch": batch}), need_x)


@pytest.mark.parametrize("depth", [1, 3, 4, 5, 6])
def test_layers_of_the_papers_kind(depth: int) -> None:
    compare(*example(130, trees=96, depth=depth))


@pytest.mark.parametrize("pool", [(16, 16), (1, 5)])
def test_large_windows(pool: tuple[int, int]) -> None:
    leaves = torch.zeros(3, 1, 2, dtype=torch.int32)
    gates = torch.tensor([3], dtype=torch.uint8)  # the input itself
    x = (torch.rand(100, 1, *pool) > 0.97).float()
    compare(x, torch.rand(1, 4), gates, leaves, ConvGeometry((1, 1), pool=pool))


@pytest.mark.parametrize("kind", ["again", "padded", "strided", "float64"])
def test_same_bits_of_any_strides_and_whatever_is_in_the_padding(kind: str) -> None:
    x, soft, gates, leaves, geometry = example(batch=70)
    on = [t.cuda() for t in (gates, soft, leaves)]
    words = lgn.round_to_bits(x.cuda())
    y, winner = lgn.bit_tree_conv(words, on[0], on[2], *geometry)
    grad = torch.randn(70, *y.shape[1:], device="cuda")
    expected = lgn.bit_tree_conv_backward(grad, winner, words, *on, *geometry, True)
    if kind == "padded":  # lanes past the batch hold NaN
        rows = torch.full((*grad.shape[1:], 128), float("nan"), device="cuda")
        rows[..., :70] = grad.permute(1, 2, 3, 0)
        grad = rows[..., :70].permute(3, 0, 1, 2)
    elif kind == "strided":
        words, winner = words.contiguous(memory_format=torch.channels_last), winner.contiguous()
    elif kind == "float64":
        grad = grad.double()
    got = lgn.bit_tree_conv_backward(grad, winner, words, *on, *geometry, True)
    assert all(map(torch.equal, got, expected))


def test_a_batch_in_slices() -> None:
    """Gradients of leaves that would take several gigabytes."""
    x, soft, gates, leaves, geometry = [t.cuda() if isinstance(t, Tensor) else t for t in example(trees=300)]
    x = (torch.rand(1024, 3, 32, 32, device="cuda") > 0.5).float()
    words = lgn.round_to_bits(x)
    _, winner = lgn.bit_tree_conv(words, gates, leaves, *geometry)
    grad = torch.randn(1024, 300, 16, 16, device="cuda")
    grad_x, grad_table = lgn.bit_tree_conv_backward(grad, winner, words, gates, soft, leaves, *geometry, True)
    tables = torch.zeros_like(soft)
    for part, rows in ((slice(0, 448), slice(0, 7)), (slice(448, 1024), slice(7, 16))):
        few_x, few_table = lgn.bit_tree_conv_backward(
            grad[part].contiguous(), winner[rows], words[rows], gates, soft, leaves, *geometry, True
        )
        torch.testing.assert_close(few_x, grad_x[part])
        tables += few_table
    torch.testing.assert_close(tables, grad_table, rtol=1e-3, atol=0.1)


def test_opcheck_and_empty_batch() -> None:
    x, soft, gates, leaves, geometry = [t.cuda() if isinstance(t, Tensor) else t for t in example()]
    for some in (x, x[:0]):
        torch.library.opcheck(lgn.round_to_bits.default, (some,), test_utils=UTILS)
        words = lgn.round_to_bits(some)
        torch.library.opcheck(lgn.bit_tree_conv.default, (words, gates, leaves, *geometry), test_utils=UTILS)
        y, winner = lgn.bit_tree_conv(words, gates, leaves, *geometry)
        for need in (False, True):
            grad = torch.randn(len(some), *y.shape[1:], device="cuda")
            arguments = (grad, winner, words, gates, soft, leaves, *geometry, need)
            torch.library.opcheck(lgn.bit_tree_conv_backward.default, arguments, test_utils=UTILS)
    assert not lgn.bit_tree_conv_backward(*arguments)[1].any()


def test_errors() -> None:
    x, soft, gates, leaves, geometry = [t.cuda() if isinstance(t, Tensor) else t for t in example()]
    bits = ops.pack_activations(x)
    wrong = leaves.clone()
    wrong[0, 1, 2] = 3
    with pytest.raises(IndexError, match="leaf 2 of tree 1 reads channel 3"):
        ops.bit_tree_conv(bits, soft, gates, wrong, geometry)
    with pytest.raises(RuntimeError, match="move the module and its input to one device"):
        ops.bit_tree_conv(bits, soft, gates.cpu(), leaves, geometry)


def make_net(device: str = "cuda", **options: Any) -> LogicTreeNet:
    torch.manual_seed(2)
    options = {"init": "gaussian", "parametrization": "sigmoid", "sampler": "straight_through", **options}
    return LogicTreeNet((1, 12, 12), 10, [8, 12], [200, 100], thresholds=[0.3], **options).to(device)


def make_batch(count: int = 150) -> tuple[Tensor, Tensor]:
    return (
        torch.randint(256, (count, 1, 12, 12), dtype=torch.uint8, device="cuda"),
        torch.randint(10, (count,), device="cuda"),
    )


@pytest.mark.parametrize("count", [1, 64, 150])
def test_a_net_trains_on_bits_as_layer_by_layer_and_on_the_cpu(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, (x, y) = make_net(), make_batch(count)
    assert convolutions_on_bits(net, x, monkeypatch) == 2
    results = []
    for other, device in ((net, "cuda"), (nn.Sequential(*copy.deepcopy(net)), "cuda"), (make_net("cpu"), "cpu")):
        scores = other(x.to(device))
        grads = torch.autograd.grad(nn.functional.cross_entropy(scores, y.to(device)), list(other.parameters()))
        results.append([t.cpu() for t in (scores, *grads)])
    for got, one_by_one, on_cpu in zip(*results, strict=True):
        torch.testing.assert_close(got, one_by_one, atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(got, on_cpu, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("tree_connections", ["learned", ["random", "learned"]], ids=str)
def test_learned_leaves_take_floats(tree_connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net, (x, y) = make_net(tree_connections=tree_connections), make_batch()
    assert convolutions_on_bits(net, x, monkeypatch) == (tree_connections != "learned")
    nn.functional.cross_entropy(net(x), y).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_autocast_and_compile() -> None:
    net, (x, _) = make_net(), make_batch()
    expected = net(x)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        torch.testing.assert_close(net(x).float(), expected)
        assert net[:3](x).dtype == torch.bfloat16
    torch.testing.assert_close(torch.compile(net, fullgraph=True)(x), expected)


def test_the_step_as_a_cuda_graph() -> None:
    check_graphed_training(make_net, *make_batch())


def test_no_call_waits_for_the_device() -> None:
    check_training_waits_for_nothing(make_net(), *make_batch())
