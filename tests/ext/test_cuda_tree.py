"""The CUDA kernels of tree convolutions, run on the host, against the float64 reference."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from lgn_lightning.nn.connections import draw_leaves
from lgn_lightning.ops import ConvGeometry, bit_tree, tree
from lgn_lightning.ops.bit_tree import BitTreeConv
from lgn_lightning.ops.bits import pack_bits_reference, unpack_bits_reference
from lgn_lightning.ops.tree import TreeConv
from tests.cuda_host import STORAGE, at, build, feature_major, i64, rows

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-12}
Pair = tuple[int, int]


@pytest.fixture(scope="session")
def host() -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(build("tree_driver.cpp", "cuda/tree_plan.cpp", options=["-DLGN_BUSY_WARPS=8"])))
    loaded.host_tree_backward.restype = ctypes.c_int64
    return loaded


@dataclass(frozen=True)
class Problem:
    """A convolution; its image is what the windows of its pooling need."""

    dtype: torch.dtype = torch.float32
    batch: int = 5
    depth: int = 3
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    pool: Pair = (2, 2)
    windows: Pair = (2, 2)
    channels: int = 3
    trees: int = 3
    straight: bool = False

    def name(self) -> str:
        """For the test's id: what differs from the usual."""
        return (
            f"{self.dtype}".removeprefix("torch.")
            + f"-{self.batch}-depth{self.depth}-pool{self.pool[0]}x{self.pool[1]}"
        )

    @property
    def size(self) -> list[int]:
        zipped = zip(self.windows, self.pool, self.stride, self.kernel, self.padding, strict=True)
        return [(w * q - 1) * s + k - 2 * p for w, q, s, k, p in zipped]

    @property
    def geometry(self) -> ConvGeometry:
        return ConvGeometry(self.kernel, self.stride, self.padding, self.pool)

    def shape(self) -> ctypes.Array[ctypes.c_int32]:
        flat = [*self.size, *self.stride, *self.padding, *self.pool, *self.windows]
        return (ctypes.c_int32 * 13)(self.depth, self.trees, self.channels, *flat)


BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
PROBLEMS = [
    Problem(),
    Problem(batch=130, channels=4, trees=5),
    Problem(BF16, 128, straight=True),
    Problem(BF16, 3, depth=2, kernel=(5, 5), padding=(0, 0), pool=(3, 3)),
    Problem(F16, 200, depth=4, pool=(1, 2), windows=(3, 1)),
    Problem(F32, 33, depth=4, stride=(2, 1), pool=(2, 1), padding=(2, 0)),
    Problem(F32, 1, depth=1, pool=(1, 1), kernel=(1, 2), padding=(0, 0), channels=1),
    Problem(F32, 17, depth=2, pool=(1, 1), windows=(3, 3), stride=(2, 2), straight=True),
    Problem(F32, 4, depth=5, pool=(2, 1), windows=(1, 2)),
    Problem(BF16, 4, depth=6, windows=(1, 1), trees=1),
    Problem(F64, 70, pool=(1, 2)),
    Problem(F64, 3, depth=4, straight=True, pool=(1, 1), windows=(1, 2)),
    Problem(F32, 2, pool=(5, 7), windows=(1, 1)),
    Problem(F32, 3, windows=(7, 9), channels=2, pool=(1, 2)),  # many windows a warp
]


class Operands:
    """Random tensors of a problem, as torch's shapes and as rows."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        sums = torch.float64 if problem.dtype == torch.float64 else torch.float32
        n = 2**problem.depth
        self.leaves = draw_leaves(problem.channels, problem.trees, problem.kernel, n, min(2, problem.channels))
        x = torch.rand(problem.batch, problem.channels, *problem.size)
        self.slopes = torch.rand(problem.trees * (n - 1), 4, dtype=sums)
        self.table = self.slopes.round() if problem.straight else self.slopes
        self.x = (x.round() if problem.straight else x).to(problem.dtype)
        out_rows = problem.trees * problem.windows[0] * problem.windows[1]
        self.x_rows = feature_major(self.x.flatten(1))
        self.y_rows = rows(out_rows, problem.batch, problem.dtype)
        self.pooled = problem.pool != (1, 1)
        self.winner_rows = rows(out_rows, problem.batch, torch.uint8) if self.pooled else None

    def arguments(self) -> tuple[object, ...]:
        p = self.problem
        x = self.x_rows
        return STORAGE[p.dtype], i64(p.batch), at(x), i64(x.shape[1]), at(self.table), at(self.leaves), p.shape()

    def forward(self, host: ctypes.CDLL) -> tuple[Tensor, Tensor]:
        winner = self.winner_rows
        pitch = 0 if winner is None else winner.shape[1]
        host.host_tree_forward(
            *self.arguments(), at(self.y_rows), i64(self.y_rows.shape[1]), at(winner), i64(pitch)
        )  # fmt: skip
        return self.image(self.y_rows), torch.empty(0, dtype=torch.uint8) if winner is None else self.image(winner)

    def image(self, values: Tensor) -> Tensor:
        p = self.problem
        return values[:, : p.batch].view(p.trees, *p.windows, p.batch).permute(3, 0, 1, 2)

    def exact(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        soft = self.slopes.double() if self.problem.straight else None
        return self.x.double(), self.table.double(), soft, self.leaves

    def backward(
        self, host: ctypes.CDLL, grad: Tensor, need_x: bool, leaf_bytes: int, candidates: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Gradients of ``x``, of the table and, with candidates, of their shares."""
        p, sums = self.problem, self.table.dtype
        share = (ctypes.c_int64 * 3)()
        host.host_tree_share(STORAGE[p.dtype], i64(p.batch), p.shape(), i64(leaf_bytes), share)
        samples, _, runs = share
        upper, winner = feature_major(grad.flatten(1)), self.winner_rows
        # Exactly as large as the kernels are told.
        run_sums = torch.full((runs, *self.table.shape), float("nan"), dtype=sums)
        leaf_grads = rows(self.y_rows.shape[0] * 2**p.depth, samples, sums)
        grad_table, grad_x = torch.full_like(self.table, float("nan")), rows(self.x_rows.shape[0], p.batch, p.dtype)
        kernel = (ctypes.c_int32 * 2)(*p.kernel)
        count = 0 if candidates is None else candidates.shape[2]
        shares = torch.full((p.trees, 2**p.depth, -(-count // 4) * 4), float("nan"), dtype=sums)
        choice_sums = torch.full((runs, *shares.shape), float("nan"), dtype=sums)
        bad = host.host_tree_backward(
            *self.arguments(), kernel, i64(leaf_bytes), at(self.slopes), at(upper), i64(upper.shape[1]), at(winner),
            i64(0 if winner is None else winner.shape[1]), at(grad_table), at(run_sums),
            at(grad_x) if need_x else None, i64(grad_x.shape[1]), at(leaf_grads) if need_x or count else None,
            at(candidates), i64(count), at(shares), at(choice_sums),
        )  # fmt: skip
        assert bad == -1
        return grad_x[:, : p.batch].t().view(self.x.shape), grad_table, shares[..., :count]


@pytest.mark.parametrize("problem", PROBLEMS, ids=Problem.name)
def test_values_and_winners(host: ctypes.CDLL, problem: Problem) -> None:
    operands = Operands(problem)
    y, winner = operands.forward(host)
    x, table, _, leaves = operands.exact()
    expected, first = tree.forward_reference(TreeConv(x, table, None, leaves, problem.geometry))
    torch.testing.assert_close(y.double(), expected, atol=TOLERANCE[problem.dtype], rtol=0)
    if problem.straight or problem.dtype == torch.float64:  # without rounding there are no near ties
        assert torch.equal(winner, first)


@pytest.mark.parametrize("need_x", [True, False])
@pytest.mark.parametrize("leaf_bytes", [2**30, 1], ids=["at once", "in slices"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=Problem.name)
def test_gradients(host: ctypes.CDLL, problem: Problem, leaf_bytes: int, need_x: bool) -> None:
    operands = Operands(problem)
    y, winner = operands.forward(host)
    grad = torch.randn(y.shape).to(problem.dtype)
    grad_x, grad_table, _ = operands.backward(host, grad, need_x, leaf_bytes)
    expected = tree.backward_reference(grad.double(), winner, TreeConv(*operands.exact(), problem.geometry), True)
    error = TOLERANCE[problem.dtype]
    wide = 1e-11 if problem.dtype == torch.float64 else 1e-3
    torch.testing.assert_close(grad_table.double(), expected[1], atol=wide, rtol=1e-4)
    if need_x:
        torch.testing.assert_close(grad_x.double(), expected[0], atol=error * 4, rtol=error)


@pytest.mark.parametrize("count", [2, 4, 9])
@pytest.mark.parametrize("leaf_bytes", [2**30, 1], ids=["at once", "in slices"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=Problem.name)
def test_gradients_of_shares(host: ctypes.CDLL, problem: Problem, leaf_bytes: int, count: int) -> None:
    operands = Operands(problem)
    y, winner = operands.forward(host)
    grad = torch.randn(y.shape).to(problem.dtype)
    places = problem.channels * problem.kernel[0] * problem.kernel[1]
    candidates = torch.randint(places, (problem.trees, 2**problem.depth, count), dtype=torch.int32)
    x, *rest = operands.exact()
    expected = tree.backward_reference(grad.double(), winner, TreeConv(x, *rest, problem.geometry, candidates), True)
    error = TOLERANCE[problem.dtype]
    wide = 1e-11 if problem.dtype == torch.float64 else 1e-3
    for need_x in (True, False):
        grad_x, *others = operands.backward(host, grad, need_x, leaf_bytes, candidates)
        for got, want in zip(others, expected[1:], strict=True):
            torch.testing.assert_close(got.double(), want, atol=wide, rtol=1e-4)
        if need_x:
            torch.testing.assert_close(grad_x.double(), expected[0], atol=error * 4, rtol=error)


def test_slices_are_whole_tiles_and_fit(host: ctypes.CDLL) -> None:
    problem, share = Problem(batch=1000, trees=64, windows=(16, 16)), (ctypes.c_int64 * 3)()
    row_bytes = 64 * 256 * 8 * 4
    for limit in (1, 130 * row_bytes, 700 * row_bytes, 2**40):
        host.host_tree_share(0, i64(1000), problem.shape(), i64(limit), share)
        samples, windows, runs = share
        assert 1 < windows <= 32
        assert samples % 128 == 0
        assert samples == 128 or samples * row_bytes <= limit
        assert runs == 8 * -(-256 // windows)


def test_a_leaf_outside_the_receptive_field_is_found(host: ctypes.CDLL) -> None:
    operands = Operands(Problem())
    operands.leaves[1, 2, 5] = 3
    with pytest.raises(AssertionError, match="21"):
        operands.backward(host, torch.zeros(5, 3, 2, 2), True, 1)


class BitOperands(Operands):
    """The same on packed bits, in rows whose padding holds ones."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(replace(problem, dtype=F32))
        self.gates = torch.randint(16, (len(self.table),), dtype=torch.uint8)
        self.words = pack_bits_reference(self.x.flatten(1) > 0.5, 64).view(-1, *self.x.shape[1:])
        self.bits = rows(self.words[0].numel(), self.row_bytes, torch.uint8)
        self.bits[:, : -(-problem.batch // 8)] = pack_bits_reference(self.x.flatten(1) > 0.5, 8).t().view(torch.uint8)
        if problem.batch % 8:  # bits past the batch
            self.bits[:, problem.batch // 8] |= 256 - (1 << problem.batch % 8)
        self.digits = (problem.geometry.positions - 1).bit_length()
        self.y = rows(self.y_rows.shape[0], self.row_bytes, torch.uint8)
        self.winner = rows(self.digits * len(self.y), self.row_bytes, torch.uint8)

    @property
    def row_bytes(self) -> int:
        return len(self.words) * 8

    def arguments(self) -> tuple[object, ...]:
        x = self.bits
        return i64(self.problem.batch), at(x), i64(x.shape[1]), at(self.gates), at(self.leaves), self.problem.shape()

    def bits_of(self, made: Tensor) -> Tensor:
        """Packed rows as bool ``[batch, rows]``."""
        batch = self.problem.batch
        return unpack_bits_reference(made[:, : -(-batch // 8)].t().contiguous().view(torch.int8), batch)


@pytest.mark.parametrize("problem", PROBLEMS, ids=Problem.name)
def test_packed_bits(host: ctypes.CDLL, problem: Problem) -> None:
    operands = BitOperands(problem)
    batch, y, winner = problem.batch, operands.y, operands.winner
    host.host_bit_tree_forward(*operands.arguments(), at(y), at(winner), i64(y.shape[1]))
    conv = BitTreeConv(operands.words, operands.gates, operands.leaves, problem.geometry, operands.slopes.double())
    expected, digits = bit_tree.forward_reference(conv)
    for got, want in ((y, expected), (winner, digits)):
        assert torch.equal(operands.bits_of(got), unpack_bits_reference(want.flatten(1), batch))

    grad = torch.randn(batch, *expected.shape[1:])
    wanted = bit_tree.backward_reference(grad.double(), digits, conv, True)
    upper, kernel = feature_major(grad.flatten(1)), (ctypes.c_int32 * 2)(*problem.kernel)
    for leaf_bytes, need_x in ((2**30, True), (1, True), (2**30, False)):
        share = (ctypes.c_int64 * 3)()
        host.host_tree_share(0, i64(batch), problem.shape(), i64(leaf_bytes), share)
        samples, _, runs = share
        run_sums = torch.full((runs, *operands.table.shape), float("nan"))
        leaf_grads = rows(len(y) * 2**problem.depth, samples, F32)
        grad_table, grad_x = torch.full_like(operands.table, float("nan")), rows(len(operands.bits), batch, F32)
        host.host_bit_tree_backward(
            *operands.arguments(), kernel, i64(leaf_bytes), at(operands.slopes), at(upper), i64(upper.shape[1]),
            at(winner), i64(winner.shape[1]), at(grad_table), at(run_sums), at(grad_x) if need_x else None,
            i64(grad_x.shape[1]), at(leaf_grads) if need_x else None,
        )  # fmt: skip
        torch.testing.assert_close(grad_table.double(), wanted[1], atol=1e-3, rtol=1e-4)
        if need_x:
            got = grad_x[:, :batch].t().view(operands.x.shape)
            torch.testing.assert_close(got.double(), wanted[0].double(), atol=1e-4, rtol=1e-5)
