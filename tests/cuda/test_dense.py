"""The CUDA kernels on a GPU, against the float64 reference on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import dense
from lgn_lightning.ops.bits import group_sum_packed_reference, logic_packed_reference, pack_bits_reference
from tests.cuda.steps import no_waiting

pytestmark = pytest.mark.cuda
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-12}


def layer(
    batch: int, inputs: int, gates: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    wires = torch.cat([torch.randperm(inputs) for _ in range(-(-2 * gates // inputs))])[: 2 * gates].int()
    a, b = wires.view(2, gates).contiguous()
    return torch.rand(batch, inputs).to(dtype), torch.rand(gates, 4, dtype=sums), a, b


def on_gpu(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.cuda() for t in tensors)


SHAPES = [(100, 400, 8000), (100, 8000, 8000), (1, 30, 60), (1024, 500, 1000), (3000, 784, 900), (257, 64, 5000)]


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("compact", [False, True])
def test_layer(shape: tuple[int, int, int], dtype: torch.dtype, compact: bool) -> None:
    batch, inputs, gates = shape
    x, table, a, b = layer(batch, inputs, gates, dtype)
    k, tau = 10, 7.0
    gx, gt, ga, gb = on_gpu(x, table, a, b)
    gx.requires_grad_()
    gt.requires_grad_()
    if compact:
        y = ops.logic_group_sum(gx, gt, ga, gb, k, tau)
        expected = dense.logic_group_sum_reference(x.double(), table.double(), a, b, k, tau)
    else:
        y = ops.logic(gx, gt, ga, gb)
        expected = dense.logic_reference(x.double(), table.double(), a, b)
    error = TOLERANCE[dtype]
    torch.testing.assert_close(y.detach().cpu().double(), expected, atol=error, rtol=1e-4 if compact else 0)
    grad = torch.randn(y.shape).to(y.dtype)
    y.backward(grad.cuda())
    if compact:
        exact = dense.logic_group_sum_backward_reference(grad.double(), x.double(), table.double(), a, b, tau, True)
    else:
        exact = dense.logic_backward_reference(grad.double(), x.double(), table.double(), a, b, True)
    assert gx.grad is not None
    assert gt.grad is not None
    scale = exact[0].abs().max().item()
    torch.testing.assert_close(gx.grad.cpu().double(), exact[0], atol=error * scale, rtol=error)
    torch.testing.assert_close(gt.grad.cpu().double(), exact[1], atol=error * exact[1].abs().max().item(), rtol=error)


def test_two_runs_give_the_same_bits() -> None:
    x, table, a, b = on_gpu(*layer(1024, 700, 9000))
    grad = torch.randn(1024, 9000, device="cuda")
    first = torch.ops.lgn.logic_backward(grad, x, table, a, b, True)
    second = torch.ops.lgn.logic_backward(grad, x, table, a, b, True)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    score = ops.logic_group_sum(x, table, a, b, 10)
    assert torch.equal(score, ops.logic_group_sum(x, table, a, b, 10))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_softmax_table(dtype: torch.dtype) -> None:
    logits = torch.randn(1001, 16).to(dtype)
    grad = torch.randn(1001, 4).to(dtype)
    error = TOLERANCE[dtype]
    table = ops.softmax_table(logits.cuda())
    torch.testing.assert_close(table.cpu().double(), dense.softmax_table_reference(logits.double()), atol=error, rtol=0)
    got = torch.ops.lgn.softmax_table_backward(grad.cuda(), logits.cuda())
    exact = dense.softmax_table_backward_reference(grad.double(), logits.double())
    torch.testing.assert_close(got.cpu().double(), exact, atol=error, rtol=error)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("batch", [1, 100, 129, 5000])
def test_packed(batch: int, bits: int) -> None:
    _, _, a, b = layer(1, 300, 1000)
    x, gates = torch.rand(batch, 300) > 0.5, torch.randint(16, (1000,)).byte()
    words = ops.pack_bits(x.cuda(), bits)
    assert torch.equal(words.cpu(), pack_bits_reference(x, bits))
    by_column = x.t().contiguous().cuda().t()
    assert torch.equal(ops.pack_bits(by_column, bits), words)
    assert torch.equal(ops.unpack_bits(words, batch).cpu(), x)
    y = ops.logic_packed(words, *on_gpu(gates, a, b))
    expected = logic_packed_reference(pack_bits_reference(x, bits), gates, a, b)
    assert torch.equal(y.cpu(), expected)
    assert torch.equal(ops.group_sum_packed(y, 10, batch).cpu(), group_sum_packed_reference(expected, 10, batch))


def test_gradcheck() -> None:
    x, table, a, b = on_gpu(*layer(5, 8, 12, torch.float64))
    x.requires_grad_()
    table.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, t: ops.logic(x, t, a, b), (x, table))
    assert torch.autograd.gradcheck(lambda x, t: ops.logic_group_sum(x, t, a, b, 3, 2.5), (x, table))
    assert torch.autograd.gradcheck(lambda x: ops.group_sum(x[:, :6], 3, 2.5), (x,))
    logits = torch.randn(5, 16, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradcheck(ops.softmax_table, (logits,))


def cases() -> dict[str, Callable[[], tuple[object, ...]]]:
    def trained() -> tuple[Tensor, ...]:
        x, table, a, b = on_gpu(*layer(5, 8, 12))
        return x.requires_grad_(), table.requires_grad_(), a, b

    def plain() -> tuple[Tensor, ...]:
        return on_gpu(*layer(5, 8, 12))

    def words() -> Tensor:
        return torch.ops.lgn.pack_bits(torch.rand(20, 12, device="cuda") > 0.5, 8)  # type: ignore[no-any-return]

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda")

    return {
        "softmax_table": lambda: (randn(6, 16).requires_grad_(),),
        "softmax_table_backward": lambda: (randn(6, 4), randn(6, 16)),
        "logic": trained,
        "logic_backward": lambda: (randn(5, 12), *plain(), True),
        "group_sum": lambda: (randn(5, 12).requires_grad_(), 3, 2.0),
        "logic_group_sum": lambda: (*trained(), 3, 2.0),
        "logic_group_sum_backward": lambda: (randn(5, 3), *plain(), 2.0, True),
        "pack_bits": lambda: (randn(20, 7) > 0, 16),
        "unpack_bits": lambda: (words(), 20),
        "logic_packed": lambda: (words(), torch.arange(12, device="cuda").byte(), *plain()[2:]),
        "group_sum_packed": lambda: (words(), 3, 20),
    }


@pytest.mark.parametrize("name", list(cases()))
def test_opcheck(name: str) -> None:
    torch.library.opcheck(getattr(torch.ops.lgn, name).default, cases()[name]())


@pytest.mark.parametrize("batch", [0, 3])
def test_empty_and_strided_operands(batch: int) -> None:
    x, table, a, b = on_gpu(*layer(batch, 8, 12))
    wide = torch.stack([x, x], 2)[:, :, 1].requires_grad_()
    y = ops.logic(wide, table, a, b)
    assert y.shape == (batch, 12)
    y.sum().backward()  # an expanded gradient
    expected = dense.logic_backward_reference(torch.ones_like(y), x, table, a, b, True)[0]
    torch.testing.assert_close(wide.grad, expected)


def test_index_outside_the_inputs() -> None:
    x, table, a, b = on_gpu(*layer(5, 8, 12))
    a[3] = 8
    with pytest.raises(IndexError, match="gate 3 has inputs 8 and"):
        ops.logic(x, table, a, b)


def test_wires_changed_in_place_are_seen() -> None:
    x, table, a, b = on_gpu(*layer(5, 8, 12))
    ops.logic(x, table, a, b)
    a.copy_(a.flip(0))
    torch.testing.assert_close(ops.logic(x, table, a, b), dense.logic_reference(x, table, a, b))


def test_side_streams() -> None:
    x, table, a, b = on_gpu(*layer(100, 800, 9000))
    expected = dense.logic_reference(x, table, a, b)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = x * 0
        torch.cuda._sleep(50_000_000)  # a kernel on another stream would read zeros
        late += x
        y = ops.logic(late, table, a, b)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(y, expected)


def test_no_call_waits_for_the_device() -> None:
    x, table, a, b = on_gpu(*layer(100, 800, 9000))
    logits = torch.randn(9000, 16, device="cuda", requires_grad=True)

    def step() -> None:
        ops.logic_group_sum(x, ops.softmax_table(logits), a, b, 10).sum().backward()
        ops.logic(x, table, a, b)

    step()
    with no_waiting():
        step()
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)
    event = torch.cuda.Event()
    step()
    event.record()
    assert not event.query(), "the ops waited for a kernel of a second"
    torch.cuda.synchronize()


def test_more_than_2_to_the_31_elements() -> None:
    batch, gates = 2048, 1_100_000
    if torch.cuda.mem_get_info()[0] < 32 * 2**30:
        pytest.skip("needs 32 GB of free GPU memory")
    x, table, a, b = on_gpu(*layer(batch, 64, gates, torch.bfloat16))
    y = ops.logic(x, table, a, b)
    assert y.numel() > 2**31
    last = slice(gates - 100, gates)
    torch.testing.assert_close(y[:, last], ops.logic(x, table[last], a[last], b[last]))
    grad_x, grad_table = torch.ops.lgn.logic_backward(y, x, table, a, b, True)
    _, few = torch.ops.lgn.logic_backward(y[:, last].contiguous(), x, table[last], a[last], b[last], True)
    torch.testing.assert_close(grad_table[last], few, rtol=1e-4, atol=1e-2)
    assert grad_x.isfinite().all()
    # The same layer of 1,100,000 inputs: rows of x and of its gradient lie beyond 2³¹ elements too.
    wide_a, wide_b = (torch.arange(gates - 1, -1, -1, device="cuda").int(), torch.arange(gates, device="cuda").int())
    wide = ops.logic(y, table, wide_a, wide_b)
    ends = [0, gates - 1]
    expected = ops.logic(y[:, ends], table[ends], *on_gpu(torch.tensor([1, 0]).int(), torch.tensor([0, 1]).int()))
    torch.testing.assert_close(wide[:, ends], expected)
    del wide
    grad, _ = torch.ops.lgn.logic_backward(y, y, table, wide_a, wide_b, True)
    x_ends, g_ends = y[:, ends].contiguous(), y[:, ends].contiguous()
    pair = on_gpu(torch.tensor([1, 0]).int(), torch.tensor([0, 1]).int())
    torch.testing.assert_close(grad[:, ends], torch.ops.lgn.logic_backward(g_ends, x_ends, table[ends], *pair, True)[0])


@pytest.mark.parametrize("bits", [8, 64])
def test_more_than_2_to_the_31_packed_samples(bits: int) -> None:
    batch, features = 70_000, 31_000
    if torch.cuda.mem_get_info()[0] < 8 * 2**30:
        pytest.skip("needs 8 GB of free GPU memory")
    x = torch.zeros(batch, features, dtype=torch.bool, device="cuda")
    x[-1, -1] = x[-3, 5] = True
    words = ops.pack_bits(x, bits)
    assert torch.equal(ops.unpack_bits(words, batch), x)
    assert ops.group_sum_packed(words, 10, batch).sum() == 2


def test_the_device_of_the_operands_counts() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    operands = layer(100, 400, 3000)
    here = ops.logic(*on_gpu(*operands))
    with torch.cuda.device(0):
        there = ops.logic(*(t.to("cuda:1") for t in operands))
    assert there.device.index == 1
    assert torch.equal(here.cpu(), there.cpu())
    with pytest.raises(RuntimeError, match="move the module and its input to one device"):
        ops.logic(operands[0].to("cuda:1"), *on_gpu(*operands[1:]))
