"""Lookup tables on a GPU, against the reference in float64 there, which takes minutes on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.models import LogicMLP
from lgn_lightning.ops.bits import pack_bits_reference
from lgn_lightning.ops.lut import lut_backward_reference, lut_ids_reference, lut_packed_reference, lut_reference
from tests.cuda.steps import record

pytestmark = pytest.mark.cuda
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-12}
INPUTS = [2, 3, 4, 5, 6]
SHAPES = [(100, 400, 8000), (1, 30, 60), (1024, 500, 1000), (3000, 784, 900), (257, 64, 5000)]
lgn = torch.ops.lgn


def layer(
    shape: tuple[int, int, int], inputs: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    batch, features, gates = shape
    table = torch.rand(gates, 1 << inputs, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    return torch.rand(batch, features).to(dtype), table, torch.randint(features, (inputs, gates), dtype=torch.int32)


def on_gpu(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.cuda() for t in tensors)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, int, int], inputs: int, dtype: torch.dtype) -> None:
    x, table, indices = layer(shape, inputs, dtype)
    gx, gt, gi = on_gpu(x, table, indices)
    y = ops.lut(gx.requires_grad_(), gt.requires_grad_(), gi)
    exact = gx.detach().double(), gt.detach().double(), gi
    error = TOLERANCE[dtype]
    torch.testing.assert_close(y.detach().double(), lut_reference(*exact), atol=error, rtol=0)
    grad = torch.randn(y.shape, dtype=y.dtype, device="cuda")
    y.backward(grad)
    expected = lut_backward_reference(grad.double(), *exact, True)
    for got, want in zip((gx.grad, gt.grad), expected, strict=True):
        assert got is not None
        scale = max(want.abs().max().item(), 1.0)
        torch.testing.assert_close(got.double(), want, atol=error * scale, rtol=error)
    alone = lgn.lut_backward(grad, gx.detach(), gt.detach(), gi, False)
    assert alone[0].shape == (0,)
    assert torch.equal(alone[1], gt.grad)


def test_a_batch_in_slices() -> None:
    """Gradients of the gates' inputs that would take several gigabytes."""
    x, table, indices = on_gpu(*layer((2000, 3000, 70_000), 4, torch.bfloat16))
    grad = torch.randn(2000, 70_000, device="cuda").bfloat16()
    grad_x, grad_table = lgn.lut_backward(grad, x, table, indices, True)
    tables = torch.zeros_like(table)
    for part in (slice(0, 700), slice(700, 2000)):
        few_x, few_table = lgn.lut_backward(grad[part], x[part], table, indices, True)
        torch.testing.assert_close(few_x, grad_x[part])
        tables += few_table
    torch.testing.assert_close(tables, grad_table, rtol=1e-3, atol=0.1)


def test_two_runs_give_the_same_bits() -> None:
    args = on_gpu(torch.randn(1024, 9000), *layer((1024, 700, 9000), 4))
    assert all(map(torch.equal, *(lgn.lut_backward(*args, True) for _ in range(2))))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("batch", [1, 100, 129, 5000])
def test_packed(batch: int, bits: int, inputs: int) -> None:
    _, logits, indices = layer((1, 300, 1000), inputs)
    logits = logits - 0.5
    words = pack_bits_reference(torch.rand(batch, 300) > 0.5, bits)
    ids = ops.lut_ids(logits.cuda())
    assert torch.equal(ids.cpu(), lut_ids_reference(logits))
    got = ops.lut_packed(words.cuda(), ids, indices.cuda())
    assert torch.equal(got.cpu(), lut_packed_reference(words, ids.cpu(), indices))


@pytest.mark.parametrize("inputs", INPUTS)
def test_opcheck_and_gradcheck(inputs: int) -> None:
    x, table, indices = on_gpu(*layer((37, 9, 12), inputs))
    for needed in (True, False):
        torch.library.opcheck(
            lgn.lut_backward.default, (torch.randn_like(x[:, :1]).expand(-1, 12), x, table, indices, needed)
        )
    torch.library.opcheck(lgn.lut_packed.default, (ops.pack_bits(x > 0.5, 16), ops.lut_ids(table - 0.5), indices))
    torch.library.opcheck(lgn.lut_ids.default, (table,))
    torch.library.opcheck(lgn.lut.default, (x.requires_grad_(), table.requires_grad_(), indices))
    x, table = (t.detach()[:5].double().requires_grad_() for t in (x, table))
    assert torch.autograd.gradcheck(lambda x, t: ops.lut(x, t, indices[:, :5].contiguous()), (x, table))


def test_empty_batch_and_wrong_index() -> None:
    x, table, indices = on_gpu(*layer((5, 8, 3), 4))
    assert ops.lut(x[:0], table, indices).shape == (0, 3)
    grad_x, grad_table = lgn.lut_backward(x[:0, :3], x[:0], table, indices, True)
    assert grad_x.shape == (0, 8)
    assert not grad_table.any()
    indices[2, 1] = 8
    with pytest.raises(IndexError, match="gate 1 has input 8, but x has only 8 features"):
        ops.lut(x, table, indices)


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_a_graph_holds_the_step_of_a_net(sampler: str) -> None:
    net = LogicMLP((1, 8, 8), 10, width=500, depth=3, tau=5.0, arity=4, sampler=sampler).cuda()
    x = torch.randint(256, (100, 1, 8, 8), dtype=torch.uint8, device="cuda")
    weights = list(net.parameters())

    def step() -> tuple[Tensor, ...]:
        y = net(x)
        return (y, *torch.autograd.grad(y.square().sum(), weights))

    graph, got = record(step)
    x.random_(256)
    graph.replay()
    assert all(map(torch.equal, got, step()))
