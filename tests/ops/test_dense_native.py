"""The native CPU kernels against the reference: values, gradients, memory formats, threads, and torch's own checks."""

import copy
import io
import multiprocessing
import resource
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, PackBitsTensor
from lgn_lightning.ops import dense

pytestmark = pytest.mark.usefixtures("native_cpu")


lgn = torch.ops.lgn
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}
DTYPES = list(TOLERANCE)


def wiring(in_dim: int, n: int) -> tuple[Tensor, Tensor]:
    a, b = torch.randint(in_dim, (2, n), dtype=torch.int32)
    return a, b


def operands(batch: int, in_dim: int, n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    table = torch.rand(n, 4, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    return torch.rand(batch, in_dim, dtype=dtype), table, *wiring(in_dim, n)


def assert_near(actual: Tensor, expected: Tensor, scale: float = 1.0) -> None:
    tolerance = TOLERANCE[actual.dtype] * scale
    torch.testing.assert_close(actual, expected.to(actual.dtype), atol=tolerance, rtol=tolerance)


def strided(x: Tensor, form: str) -> Tensor:
    """The same values in another memory format."""
    if form == "feature_major":
        return x.t().contiguous().t()
    if form == "sliced":
        return torch.stack((x, x + 1), 2).flatten(1)[:, ::2]
    if form == "padded":  # whole cache lines whose padding holds NaN
        padded = torch.full((x.shape[1], -(-x.shape[0] // 64) * 64 + 64), float("nan"), dtype=x.dtype)
        padded[:, : x.shape[0]] = x.t()
        return padded[:, : x.shape[0]].t()
    if form == "misaligned":
        flat = torch.empty(x.numel() + 1, dtype=x.dtype)[1:]
        return flat.view(x.shape).copy_(x)
    return x


FORMS = ["batch_major", "feature_major", "sliced", "padded", "misaligned"]
sizes = st.tuples(st.integers(0, 300), st.integers(1, 40), st.integers(1, 12), st.integers(1, 5))


@settings(max_examples=80, deadline=None)
@given(sizes, st.sampled_from(DTYPES), st.sampled_from(FORMS), st.booleans(), st.integers(0, 2**31))
def test_layer_is_the_reference(
    size: tuple[int, int, int, int], dtype: torch.dtype, form: str, need_grad_x: bool, seed: int
) -> None:
    batch, in_dim, per_group, k = size
    torch.manual_seed(seed)
    x, table, a, b = operands(batch, in_dim, per_group * k, dtype)
    grad, compact = torch.randn(batch, per_group * k, dtype=dtype), torch.randn(batch, k, dtype=table.dtype)
    x, grad, compact = strided(x, form), strided(grad, form), strided(compact, form)
    assert_near(lgn.logic(x, table, a, b), dense.logic_reference(x, table, a, b))
    exact = x.to(table.dtype)
    assert_near(
        lgn.logic_group_sum(x, table, a, b, k, 3.0), dense.logic_group_sum_reference(exact, table, a, b, k, 3.0), 10
    )
    assert_near(lgn.group_sum(grad, k, 3.0), dense.group_sum_reference(grad, k, 3.0), 10)
    of_sum = compact, per_group * k, 3.0, dtype
    assert_near(lgn.group_sum_backward(*of_sum), dense.group_sum_backward_reference(*of_sum))
    for actual, expected in (
        (
            lgn.logic_backward(grad, x, table, a, b, need_grad_x),
            dense.logic_backward_reference(grad.to(table.dtype), exact, table, a, b, need_grad_x),
        ),
        (
            lgn.logic_group_sum_backward(compact, x, table, a, b, 3.0, need_grad_x),
            dense.logic_group_sum_backward_reference(compact, exact, table, a, b, 3.0, need_grad_x),
        ),
    ):
        assert_near(actual[0], expected[0], 10)
        assert_near(actual[1], expected[1], 100)
        assert actual[0].shape == (x.shape if need_grad_x else (0,))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 70), st.sampled_from(DTYPES), st.integers(0, 2**31))
def test_softmax_table_is_the_reference(n: int, dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    logits, grad = torch.randn(n, 16, dtype=dtype) * 20, torch.randn(n, 4, dtype=dtype)
    exact = logits.double()
    assert_near(lgn.softmax_table(logits), dense.softmax_table_reference(exact))
    assert_near(
        lgn.softmax_table_backward(grad, logits), dense.softmax_table_backward_reference(grad.double(), exact), 3
    )


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("form", ["batch_major", "feature_major", "sliced"])
def test_gradcheck(batch: int, form: str) -> None:
    torch.manual_seed(0)
    x, table, a, b = operands(batch, 5, 9, torch.float64)
    x.requires_grad_()
    table.requires_grad_()
    assert torch.autograd.gradcheck(lambda u, t: ops.logic(strided(u, form), t, a, b), (x, table))
    assert torch.autograd.gradcheck(lambda u, t: ops.logic_group_sum(strided(u, form), t, a, b, 3, 2.5), (x, table))
    logits = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.softmax_table, (logits,))


CASES: dict[str, Callable[[torch.dtype], tuple[Any, ...]]] = {
    "logic": lambda dtype: operands(5, 7, 12, dtype),
    "logic_group_sum": lambda dtype: (*operands(5, 7, 12, dtype), 3, 2.0),
    "logic_backward": lambda dtype: (torch.rand(5, 12, dtype=dtype), *operands(5, 7, 12, dtype), True),
    "logic_group_sum_backward": lambda dtype: (torch.rand(5, 3), *operands(5, 7, 12, dtype), 2.0, True),
    "group_sum": lambda dtype: (torch.rand(5, 12, dtype=dtype), 3, 2.0),
    "group_sum_backward": lambda dtype: (torch.rand(5, 3), 12, 2.0, dtype),
    "softmax_table": lambda dtype: (torch.randn(6, 16),),
    "softmax_table_backward": lambda dtype: (torch.randn(6, 4), torch.randn(6, 16)),
    "pack_bits": lambda dtype: (torch.rand(37, 5) < 0.5, 32),
    "unpack_bits": lambda dtype: (torch.randint(-9, 9, (2, 5), dtype=torch.int32), 37),
    "logic_packed": lambda dtype: (
        torch.randint(-9, 9, (2, 7), dtype=torch.int32),
        torch.arange(12, dtype=torch.uint8),
        *wiring(7, 12),
    ),
    "group_sum_packed": lambda dtype: (torch.randint(-9, 9, (2, 12), dtype=torch.int32), 3, 37),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(name: str, dtype: torch.dtype) -> None:
    args = CASES[name](dtype)
    if name in ("logic", "logic_group_sum", "softmax_table", "group_sum"):
        args = tuple(t.requires_grad_() if isinstance(t, Tensor) and t.is_floating_point() else t for t in args)
    torch.library.opcheck(getattr(lgn, name).default, args)


def test_result_is_feature_major_in_whole_cache_lines() -> None:
    for dtype, pitch in ((torch.float32, 112), (torch.bfloat16, 128), (torch.float64, 104)):
        y = lgn.logic(*operands(100, 7, 12, dtype))
        assert y.stride() == (1, pitch)
        assert y.data_ptr() % 64 == 0


@pytest.mark.parametrize("batch", [3, 64, 100, 128, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inputs", [400, 3000, 5000])
def test_same_bits_at_any_number_of_threads(batch: int, dtype: torch.dtype, inputs: int) -> None:
    torch.manual_seed(0)
    x, table, a, b = operands(batch, inputs, 5000, dtype)
    grad, compact = torch.randn(batch, 5000, dtype=dtype), torch.randn(batch, 10)

    def everything() -> list[Tensor]:
        return [
            lgn.logic(x, table, a, b),
            lgn.logic_group_sum(x, table, a, b, 10, 2.0),
            *lgn.logic_backward(grad, x, table, a, b, True),
            *lgn.logic_group_sum_backward(compact, x, table, a, b, 2.0, True),
            lgn.softmax_table_backward(table, torch.linspace(-3, 3, 80000).view(5000, 16)),
        ]

    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(everything())
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_padding_may_hold_nan() -> None:
    x, table, a, b = operands(100, 40, 60)
    grad = torch.randn(100, 60)
    dirty = lgn.logic_backward(strided(grad, "padded"), strided(x, "padded"), table, a, b, True)
    clean = lgn.logic_backward(grad, x, table, a, b, True)
    assert all(torch.equal(one, two) for one, two in zip(dirty, clean, strict=True))


def test_wires_may_change_in_place() -> None:
    x, table, a, b = operands(6, 8, 10)
    lgn.logic(x, table, a, b)
    a.data.copy_((a + 1) % 8)
    torch.testing.assert_close(lgn.logic(x, table, a, b), dense.logic_reference(x, table, a, b))


def test_wires_that_are_gone_leave_no_memory_behind() -> None:
    x, table, _, _ = operands(1, 50_000, 50_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(400):  # plans of 1.2 MB each, all kept while wires were found by value alone
        lgn.logic(x, table, *wiring(50_000, 50_000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250_000  # KiB


@pytest.mark.parametrize("bad", [-1, 8])
def test_index_out_of_range_is_one_clear_error(bad: int) -> None:
    x, table, a, b = operands(6, 8, 10)
    b[4] = bad
    with pytest.raises(IndexError, match=r"gate 4 has inputs .* 8 features"):
        ops.logic(x, table, a, b)


def small_net() -> LogicSequential:
    torch.manual_seed(3)
    return LogicSequential(LogicLayer(20, 60), LogicLayer(60, 60), LogicLayer(60, 30), GroupSum(3, 2.0))


def losses(net: torch.nn.Module, steps: int = 12) -> list[float]:
    torch.manual_seed(4)
    x, y = torch.rand(50, 20).round(), torch.randint(3, (50,))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


def test_losses_of_reference_and_native_agree() -> None:
    python = small_net()
    for layer in list(python)[:3]:
        layer.implementation = "python"
    native = losses(small_net())
    assert native[-1] < native[0] - 0.005
    assert native == pytest.approx(losses(python), abs=1e-5)


def test_compile_fullgraph() -> None:
    net = small_net()
    eager = losses(net)
    torch._dynamo.reset()
    assert losses(torch.compile(small_net(), fullgraph=True)) == pytest.approx(eager, abs=1e-5)


def test_autocast_bfloat16_keeps_float_sums() -> None:
    net = small_net()
    x = torch.rand(50, 20).round()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = net(x)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, net(x), atol=0.02, rtol=0.02)
    scores.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


def test_deepcopy_pickle_no_grad_and_inference() -> None:
    net, x = small_net(), torch.rand(50, 20)
    y = net(x)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for other in (copy.deepcopy(net), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), y)
    with torch.no_grad():
        assert torch.equal(net(x), y)
    with torch.inference_mode():
        assert torch.equal(net(x), y)
    activation = net[0](x)
    assert torch.equal(copy.deepcopy(activation.detach()), activation)


def _in_worker(queue: "multiprocessing.Queue[float]", x: Tensor) -> None:
    torch.set_num_threads(1)
    queue.put(float(lgn.logic_group_sum(x, *operands_of_fork(), 3, 1.0).sum()))


def operands_of_fork() -> tuple[Tensor, ...]:
    torch.manual_seed(5)
    return operands(4, 20, 30)[1:]


def test_works_in_a_forked_worker() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # an OpenMP team does not survive a fork
    try:
        x = torch.rand(70, 20)
        expected = float(lgn.logic_group_sum(x, *operands_of_fork(), 3, 1.0).sum())
        context = multiprocessing.get_context("fork")
        queue: multiprocessing.Queue[float] = context.Queue()
        worker = context.Process(target=_in_worker, args=(queue, x))
        worker.start()
        assert queue.get(timeout=60) == pytest.approx(expected)
        worker.join(10)
        assert worker.exitcode == 0
    finally:
        torch.set_num_threads(threads)


def test_packed_net_is_the_hard_net() -> None:
    net, x = small_net().eval(), torch.rand(77, 20) < 0.5
    for bits in (8, 64):
        assert torch.equal(net(PackBitsTensor(x, bits)).float() / 2.0, net(x.float()))
