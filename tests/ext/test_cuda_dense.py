"""The CUDA kernels, run on the host by a stand-in for CUDA's threads, against the float64 reference."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lgn_lightning.ops import choices, dense, straight_through
from lgn_lightning.ops.bits import group_sum_packed_reference, logic_packed_reference, pack_bits_reference
from tests.cuda_host import STORAGE, at, build, feature_major, i64, padded, rows

# One rounding of the result, and sums of a hundred products in single precision.
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-12}


@pytest.fixture(scope="session")
def host() -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(build("dense_driver.cpp", "cuda/dense_plan.cpp", "cpu/dense_plan.cpp")))
    loaded.host_walk.restype = ctypes.c_void_p
    for name in ("host_group_slices", "host_tiles", "host_blocks"):
        getattr(loaded, name).restype = ctypes.c_int64
    return loaded


@dataclass
class Walk:
    handle: ctypes.c_void_p
    visits: int
    merges: int
    slots: int
    bad_gate: int


@contextmanager
def walk(host: ctypes.CDLL, a: Tensor, b: Tensor, inputs: int) -> Iterator[Walk]:
    sizes = (ctypes.c_int64 * 4)()
    handle = ctypes.c_void_p(host.host_walk(at(a), at(b), i64(len(a)), i64(inputs), sizes))
    try:
        yield Walk(handle, *sizes)
    finally:
        host.host_walk_free(handle)


def wires(kind: str, inputs: int, gates: int) -> tuple[Tensor, Tensor]:
    if kind == "even":  # every input has two gates, as in the usual wiring
        assert inputs == gates
        return tuple(torch.randperm(inputs).int() for _ in range(2))  # type: ignore[return-value]
    if kind == "few":  # hardly any input has exactly one stop
        a, b = torch.randint(inputs, (2, gates), dtype=torch.int32)
        return a % 5, b % 7
    a, b = torch.randint(inputs, (2, gates), dtype=torch.int32)
    a[: gates // 8] = b[: gates // 8]  # gates with one input twice
    return a, b


CASES = [
    pytest.param(dtype, batch, kind, id=f"{dtype}-{batch}-{kind}".replace("torch.", ""))
    for dtype, batch, kind in [
        (torch.float32, 100, "even"),
        (torch.float32, 1, "any"),
        (torch.float32, 130, "any"),
        (torch.float32, 1100, "few"),
        (torch.bfloat16, 100, "even"),
        (torch.bfloat16, 300, "any"),
        (torch.float16, 37, "few"),
        (torch.float16, 300, "even"),
        (torch.float64, 100, "any"),
        (torch.float64, 33, "even"),
    ]
]


def make_layer(
    dtype: torch.dtype, batch: int, kind: str, inputs: int = 90, gates: int = 90
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a, b = wires(kind, inputs, gates)
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    return torch.rand(batch, inputs).to(dtype), torch.rand(gates, 4, dtype=sums), a, b


@pytest.mark.parametrize(("dtype", "batch", "kind"), CASES)
def test_logic(host: ctypes.CDLL, dtype: torch.dtype, batch: int, kind: str) -> None:
    x, table, a, b = make_layer(dtype, batch, kind)
    source, y = feature_major(x), rows(len(a), batch, dtype)
    with walk(host, a, b, x.shape[1]) as w:
        host.host_logic_forward(
            STORAGE[dtype], i64(batch), at(source), i64(source.shape[1]), at(table), w.handle, at(y), i64(y.shape[1])
        )
    expected = dense.logic_reference(x.double(), table.double(), a, b)
    torch.testing.assert_close(y[:, :batch].t().double(), expected, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("mode", ["rows", "compact", "table only", "compact table only"])
@pytest.mark.parametrize(("dtype", "batch", "kind"), CASES)
def test_logic_backward(host: ctypes.CDLL, dtype: torch.dtype, batch: int, kind: str, mode: str) -> None:
    x, table, a, b = make_layer(dtype, batch, kind)
    inputs, gates, classes, tau = x.shape[1], len(a), 6, 2.5
    sums = table.dtype
    need_x, compact = "only" not in mode, "compact" in mode
    grad = torch.randn(batch, classes if compact else gates).to(sums if compact else dtype)
    if compact:
        upper = rows(classes, batch, sums)
        host.host_compact_gradient(
            STORAGE[sums], at(grad), i64(classes), i64(1), i64(batch), i64(classes), ctypes.c_double(1 / tau),
            at(upper), i64(upper.shape[1]),
        )  # fmt: skip
    else:
        upper = feature_major(grad)
    source, grad_table = feature_major(x), torch.full((gates, 4), float("nan"), dtype=sums)
    grad_x = rows(inputs, batch, dtype)
    with walk(host, a, b, inputs) as w:
        partials = rows(w.slots, batch, sums)
        host.host_logic_backward(
            STORAGE[dtype], i64(batch), at(source), i64(source.shape[1]), at(table), w.handle, at(upper),
            i64(upper.shape[1]), gates // classes if compact else 0, at(grad_table), at(grad_x) if need_x else None,
            i64(grad_x.shape[1]), at(partials), i64(partials.shape[1] if w.slots else padded(batch, sums)),
        )  # fmt: skip
    arguments = (x.double(), table.double(), a, b)
    if compact:
        expected = dense.logic_group_sum_backward_reference(grad.double(), *arguments, tau, True)
    else:
        expected = dense.logic_backward_reference(grad.double(), *arguments, True)
    wide = 1e-11 if dtype == torch.float64 else 2e-3
    torch.testing.assert_close(grad_table.double(), expected[1], atol=wide, rtol=1e-4)
    if need_x:
        # Inputs of "few" sum a hundred gates before the one rounding.
        error = TOLERANCE[dtype]
        torch.testing.assert_close(grad_x[:, :batch].t().double(), expected[0], atol=error * 4, rtol=error)


def packed_rows(x: Tensor) -> Tensor:
    """Bool ``[batch, inputs]`` as rows of bits, with bits past the batch that mean nothing."""
    batch, inputs = x.shape
    pitch = -(-batch // 128) * 16
    words = torch.full((inputs * pitch + 16,), 255, dtype=torch.uint8)
    words = words[-words.data_ptr() % 16 :][: inputs * pitch].view(inputs, pitch)
    packed = pack_bits_reference(x, 8).view(torch.uint8).t()
    words[:, : packed.shape[1]] = packed
    if batch % 8:
        words[:, packed.shape[1] - 1] |= 256 - (1 << batch % 8)
    return words


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("need_x", [True, False])
@pytest.mark.parametrize(("batch", "kind"), [(100, "even"), (1, "any"), (130, "any"), (1100, "few"), (7, "few")])
def test_backward_from_bits(host: ctypes.CDLL, batch: int, kind: str, need_x: bool, compact: bool) -> None:
    _, table, a, b = make_layer(torch.float32, 1, kind)
    inputs, gates, classes, factor = 90, 90, 6, 1.75
    x = torch.rand(batch, inputs) > 0.5
    words = packed_rows(x)
    grad = torch.randn(batch, classes if compact else gates)
    upper, grad_table = feature_major(grad), torch.full((gates, 4), float("nan"))
    grad_x = rows(inputs, batch, torch.float32)
    with walk(host, a, b, inputs) as w:
        partials = rows(w.slots, batch, torch.float32)
        host.host_bit_layer_backward(
            i64(batch), at(words), i64(words.shape[1]), at(table), w.handle, ctypes.c_float(factor), at(upper),
            i64(upper.shape[1]), gates // classes if compact else 0, at(grad_table), at(grad_x) if need_x else None,
            i64(grad_x.shape[1]), at(partials), i64(padded(batch, torch.float32)),
        )  # fmt: skip
    full = grad.repeat_interleave(gates // classes, dim=1) if compact else grad
    expected = dense.logic_backward_reference(full.double(), x.double(), table.double(), a, b, True)
    torch.testing.assert_close(grad_table.double(), expected[1], atol=2e-3, rtol=1e-4)
    if need_x:
        torch.testing.assert_close(grad_x[:, :batch].t().double(), factor * expected[0], atol=2e-4, rtol=2e-5)


def chosen_wires(inputs: int, gates: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates, and one of each input of a gate."""
    candidates = torch.randint(inputs, (gates, 2, count), dtype=torch.int32)
    a, b = candidates.gather(2, torch.randint(count, (gates, 2, 1))).squeeze(2).unbind(1)
    return candidates, a.contiguous(), b.contiguous()


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize(("batch", "count"), [(100, 8), (1, 2), (130, 3), (1100, 5), (7, 16)])
def test_learned_wires_from_bits(host: ctypes.CDLL, batch: int, count: int, compact: bool) -> None:
    inputs, gates, classes, factor = 31, 36, 6, 1.75
    candidates, a, b = chosen_wires(inputs - 1, gates, count)  # the last input has no gate
    table, x = (
        rows(1, gates * 4, torch.float32)[0, : gates * 4].view(gates, 4).uniform_(),
        torch.rand(batch, inputs) > 0.5,
    )
    words, grad = packed_rows(x), torch.randn(batch, classes if compact else gates)
    upper, grad_x = feature_major(grad), rows(inputs, batch, torch.float32)
    shares, grad_table = torch.full((gates, 2, count), float("nan")), torch.full((gates, 4), float("nan"))
    sorted_wires, uses = torch.stack((a, b), 1).flatten().sort(stable=True)
    uses, begin = uses.int(), torch.searchsorted(sorted_wires, torch.arange(inputs + 1), out_int32=True)
    host.host_choices_backward(
        -1, i64(batch), at(words), i64(words.shape[1]), at(table), at(a), at(b), at(candidates), i64(gates), i64(count),
        at(upper), i64(upper.shape[1]), gates // classes if compact else 0, at(shares), at(grad_table),
        ctypes.c_float(factor), at(uses), at(begin), i64(inputs), at(grad_x), i64(grad_x.shape[1]),
    )  # fmt: skip
    full = (grad.repeat_interleave(gates // classes, dim=1) if compact else grad).double()
    arguments = x.double(), table.double(), a, b
    expected_x, expected_table = dense.logic_backward_reference(full, *arguments, True)
    torch.testing.assert_close(grad_table.double(), expected_table, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(grad_x[:, :batch].t().double(), factor * expected_x, atol=2e-4, rtol=2e-5)
    expected = choices.choices_backward_reference(full, *arguments, candidates)
    torch.testing.assert_close(shares.double(), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "batch", "count"), [
    (torch.float32, 100, 8), (torch.float32, 300, 3), (torch.bfloat16, 37, 4), (torch.bfloat16, 300, 8),
    (torch.float16, 100, 2), (torch.float64, 130, 5),
])  # fmt: skip
def test_learned_wires_from_values(host: ctypes.CDLL, dtype: torch.dtype, batch: int, count: int) -> None:
    inputs, gates = 31, 20
    candidates, a, b = chosen_wires(inputs, gates, count)
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    table = rows(1, gates * 4, sums)[0, : gates * 4].view(gates, 4).uniform_()
    x, grad = torch.rand(batch, inputs).to(dtype), torch.randn(batch, gates).to(dtype)
    source, upper, shares = (
        feature_major(x),
        feature_major(grad),
        torch.full((gates, 2, count), float("nan"), dtype=sums),
    )
    host.host_choices_backward(
        STORAGE[dtype], i64(batch), at(source), i64(source.shape[1]), at(table), at(a), at(b), at(candidates),
        i64(gates), i64(count), at(upper), i64(upper.shape[1]), 0, at(shares), None, ctypes.c_float(1), None, None,
        i64(0), None, i64(0),
    )  # fmt: skip
    expected = choices.choices_backward_reference(grad.double(), x.double(), table.double(), a, b, candidates)
    wide = 1e-11 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(shares.double(), expected, atol=wide, rtol=wide)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("gates", "count"), [(1, 1), (7, 5), (300, 8), (5, 33)])
def test_choice(host: ctypes.CDLL, gates: int, count: int, noise: float) -> None:
    logits, level = 3 * torch.randn(gates, 2, count), torch.rand(gates, 2)
    if noise == 0:
        logits = logits.round()  # ties: the first of the largest counts
    candidates = torch.randint(50, (gates, 2, count), dtype=torch.int32)
    first, second, shares = *torch.empty(2, gates, dtype=torch.int32), torch.empty_like(logits)
    host.host_choose(
        at(logits), at(candidates), i64(gates), i64(count), at(level) if noise else None, ctypes.c_float(noise),
        at(first), at(second), at(shares),
    )  # fmt: skip
    *wires, expected = choices.choose_reference(logits, candidates, level, noise)
    assert torch.equal(first, wires[0])
    assert torch.equal(second, wires[1])
    torch.testing.assert_close(shares, expected, atol=1e-6, rtol=1e-5)
    grad, out = torch.randn_like(logits), torch.empty_like(logits)
    host.host_choose_backward(at(grad), at(shares), i64(gates), i64(count), at(out))
    torch.testing.assert_close(out, choices.choose_backward_reference(grad, expected), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("width", [4, 16])
@pytest.mark.parametrize("gates", [1, 7, 300])
def test_gate_ids(host: ctypes.CDLL, gates: int, width: int) -> None:
    logits = rows(1, gates * width, torch.float32)[0, : gates * width].view(gates, width)
    logits.copy_(torch.randn(gates, width))
    logits[::3, 1] = 0.0
    logits[::2] = logits[::2].round()  # ties: the first of the largest counts
    ids = torch.empty(gates, dtype=torch.uint8)
    host.host_gate_ids(at(logits), i64(gates), i64(width), at(ids))
    assert torch.equal(ids, straight_through.gate_ids_reference(logits))
    counts, scores = torch.arange(gates).int(), torch.empty(gates)
    host.host_scores_of_counts(at(counts), i64(gates), ctypes.c_float(3.3), at(scores))
    assert torch.equal(scores, counts.float() / 3.3)


def test_backward_of_a_long_walk(host: ctypes.CDLL) -> None:
    """Runs of more than one step of the loop, and several of them in a block."""
    x, table, a, b = make_layer(torch.float32, 3, "even", 70_000, 70_000)
    grad = torch.randn(3, 70_000)
    source, upper, grad_x = feature_major(x), feature_major(grad), rows(70_000, 3, torch.float32)
    grad_table = torch.empty(70_000, 4)
    with walk(host, a, b, 70_000) as w:
        warps = ctypes.c_int32()
        host.host_tiles(i64(3), 4, ctypes.byref(warps))
        assert host.host_chunk(i64(w.visits), warps) > 4
        assert w.slots < 100, "the usual wiring has next to no input with several stops"
        partials = rows(w.slots, 3, torch.float32)
        host.host_logic_backward(
            0, i64(3), at(source), i64(source.shape[1]), at(table), w.handle, at(upper), i64(upper.shape[1]), 0,
            at(grad_table), at(grad_x), i64(grad_x.shape[1]), at(partials), i64(partials.shape[1]),
        )  # fmt: skip
    expected = dense.logic_backward_reference(grad.double(), x.double(), table.double(), a, b, True)
    torch.testing.assert_close(grad_x[:, :3].t().double(), expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(grad_table.double(), expected[1], atol=1e-5, rtol=0)


def test_walk_visits_every_gate_once_along_its_inputs(host: ctypes.CDLL) -> None:
    a, b = wires("any", 60, 200)
    with walk(host, a, b, 60) as w:
        visits = torch.empty(w.visits, 4, dtype=torch.int32)
        host.host_walk_visits(w.handle, at(visits))
    gates = visits[:, 1]
    assert sorted(gates[gates >= 0].tolist()) == list(range(200))
    assert gates[0] == -1
    for p in (gates >= 0).nonzero().flatten().tolist():
        pair = (visits[p - 1, 0].item(), visits[p, 0].item())
        gate = gates[p]
        assert pair == ((b[gate], a[gate]) if visits[p, 3] else (a[gate], b[gate]))
    targets = visits[:, 2].tolist()
    assert len(set(targets)) == len(targets), "two stops share a place for their gradient"
    with walk(host, torch.tensor([0, 60]).int(), torch.tensor([1, 2]).int(), 60) as w:
        assert w.bad_gate == 1


@pytest.mark.parametrize("gates", [1, 63, 64, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_table(host: ctypes.CDLL, dtype: torch.dtype, gates: int) -> None:
    logits = rows(1, gates * 16, dtype)[0, : gates * 16].view(gates, 16).copy_(torch.randn(gates, 16) * 4)
    grad = rows(1, gates * 4, dtype)[0, : gates * 4].view(gates, 4).copy_(torch.randn(gates, 4))
    table, out = torch.empty(gates, 4, dtype=dtype), rows(1, gates * 16, dtype)[0, : gates * 16].view(gates, 16)
    wide = int(dtype == torch.float64)
    host.host_softmax_table(wide, at(logits), i64(gates), at(table))
    host.host_softmax_table_backward(wide, at(grad), at(logits), i64(gates), at(out))
    tolerance = TOLERANCE[dtype] / 10
    torch.testing.assert_close(table.double(), dense.softmax_table_reference(logits.double()), atol=tolerance, rtol=0)
    expected = dense.softmax_table_backward_reference(grad.double(), logits.double())
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("dtype", "batch", "group"), [
    (torch.float32, 100, 13), (torch.float32, 300, 150), (torch.bfloat16, 100, 70), (torch.float16, 300, 5),
    (torch.float64, 65, 130),
])  # fmt: skip
def test_group_sum(host: ctypes.CDLL, dtype: torch.dtype, batch: int, group: int) -> None:
    x, table, a, b = make_layer(dtype, batch, "any", 40, 3 * group)
    sums, source = table.dtype, feature_major(x)
    partials = rows(3 * host.host_group_slices(i64(group)), batch, sums)
    out = torch.empty(batch, 3, dtype=sums)

    def run(source: Tensor, table: Tensor | None) -> Tensor:
        host.host_group_sum(
            STORAGE[dtype], i64(batch), at(source), i64(source.shape[1]), None if table is None else at(table), at(a),
            at(b), i64(group), i64(3), ctypes.c_double(1.7), at(partials), i64(partials.shape[1]), at(out),
        )  # fmt: skip
        return out.double()

    expected = dense.logic_group_sum_reference(x.double(), table.double(), a, b, 3, 1.7)
    torch.testing.assert_close(run(source, table), expected, atol=1e-4, rtol=0)
    plain = torch.rand(batch, 3 * group).to(dtype)
    torch.testing.assert_close(
        run(feature_major(plain), None), dense.group_sum_reference(plain.double(), 3, 1.7), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("batch", [1, 31, 100, 128, 129, 1000, 5000])
@pytest.mark.parametrize("layout", ["rows", "columns", "strided"])
def test_packed(host: ctypes.CDLL, batch: int, layout: str) -> None:
    features, gates = 21, 48
    x = torch.rand(batch, features) > 0.5
    if layout == "columns":
        x = feature_major(x.byte())[:, :batch].t().view(torch.bool)
    elif layout == "strided":
        x = torch.stack([x, ~x], 2)[:, :, 0]
    pitch = padded(-(-batch // 8), torch.uint8)
    words, back = rows(features, pitch, torch.uint8), torch.empty(batch, features, dtype=torch.bool)
    host.host_pack_bits(at(x), i64(x.stride(0)), i64(x.stride(1)), i64(batch), i64(features), at(words), i64(pitch))
    used = -(-batch // 64) * 8
    expected = pack_bits_reference(x, 8)
    assert torch.equal(words[:, : expected.shape[0]].t(), expected.view(torch.uint8))
    assert not words[:, expected.shape[0] : used].any(), "the bits past the batch are 0"
    host.host_unpack_bits(at(words), i64(pitch), i64(batch), i64(features), at(back))
    assert torch.equal(back, x)

    a, b = torch.randint(features, (2, gates), dtype=torch.int32)
    ids = torch.arange(gates).remainder(16).byte()
    y = rows(gates, pitch, torch.uint8)
    host.host_logic_packed(
        at(words), i64(pitch), at(ids), at(a), at(b), i64(gates), i64(-(-batch // 8)), at(y), i64(pitch)
    )
    expected_y = logic_packed_reference(expected, ids, a, b)
    assert torch.equal(y[:, : expected.shape[0]].t(), expected_y.view(torch.uint8))
    counts = torch.zeros(batch, 3, dtype=torch.int32)
    host.host_group_sum_packed(at(y), i64(pitch), i64(batch), i64(gates // 3), i64(3), at(counts))
    assert torch.equal(counts, group_sum_packed_reference(expected_y, 3, batch))


def test_group_sum_packed_of_more_rows_than_a_counter_holds(host: ctypes.CDLL) -> None:
    gates, batch, pitch = 2 * 70_000, 40, 64
    y = torch.randint(256, (gates, pitch), dtype=torch.uint8)
    y[:70_000] = 255
    counts = torch.zeros(batch, 2, dtype=torch.int32)
    host.host_group_sum_packed(at(y), i64(pitch), i64(batch), i64(gates // 2), i64(2), at(counts))
    bits = (y[:, :5, None] >> torch.arange(8) & 1).flatten(1)
    expected = bits.view(2, gates // 2, batch).sum(1, dtype=torch.int32).t()
    assert torch.equal(counts, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_conversions_are_torchs(host: ctypes.CDLL, dtype: torch.dtype) -> None:
    every = torch.arange(-(2**15), 2**15).short()
    wide = torch.empty(2**16)
    host.host_widen(STORAGE[dtype], at(every), i64(2**16), at(wide))
    torch.testing.assert_close(wide, every.view(dtype).float(), atol=0, rtol=0, equal_nan=True)
    bits = torch.randint(-(2**31), 2**31, (200_000,)).int()
    ties = wide.nan_to_num(0, 0, 0).double()
    halfway = ((ties + ties.roll(1)) / 2).float()
    values = torch.cat([bits.view(torch.float32), wide, halfway, torch.rand(10_000)])
    out = torch.empty(len(values), dtype=torch.int16)
    host.host_narrow(STORAGE[dtype], at(values), i64(len(values)), at(out))
    got, expected = out.view(dtype), values.to(dtype)
    torch.testing.assert_close(got, expected, atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize("batch", [1, 100, 128, 129, 512, 1024, 5000])
@pytest.mark.parametrize("vec", [2, 4, 8])
def test_every_sample_and_stop_has_one_owner(host: ctypes.CDLL, batch: int, vec: int) -> None:
    warps = ctypes.c_int32()
    tiles = host.host_tiles(i64(batch), vec, ctypes.byref(warps))
    assert (tiles - 1) * 32 * vec < batch <= tiles * 32 * vec
    assert warps.value in (1, 2, 4, 8)
    for visits in (1, 31, 8_000, 1_024_000):
        chunk = host.host_chunk(i64(visits), warps)
        blocks = host.host_blocks(i64(visits), chunk, warps)
        per_block = chunk * (8 // warps.value)
        assert 4 <= chunk <= 32
        assert (blocks - 1) * per_block < visits <= blocks * per_block
    assert [host.host_lanes(i64(n)) for n in (1, 2, 3, 25, 32, 100)] == [1, 2, 4, 32, 32, 32]
