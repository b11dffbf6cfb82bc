"""The CUDA kernels of lookup tables, run on the host, against the float64 reference."""

from __future__ import annotations

import ctypes

import pytest
import torch

from lgn_lightning.ops.bits import pack_bits_reference
from lgn_lightning.ops.lut import lut_backward_reference, lut_ids_reference, lut_packed_reference, lut_reference
from tests.cuda_host import STORAGE, at, build, feature_major, i64, padded, rows

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-12}
INPUTS = [2, 3, 4, 5, 6]
# Samples, features and gates: one lane, whole tiles and parts of them, more tiles than warps share a gate.
SHAPES = [(1, 7, 5), (37, 9, 12), (128, 11, 3), (130, 6, 9), (1100, 10, 4)]


@pytest.fixture(scope="session")
def host() -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(build("lut_driver.cpp", "cuda/lut_plan.cpp")))
    for name in ("host_lut_slice", "host_lut_backward"):
        getattr(loaded, name).restype = ctypes.c_int64
    return loaded


class Operands:
    """Random tensors of a layer, as torch's shapes and as rows."""

    def __init__(self, shape: tuple[int, int, int], inputs: int, dtype: torch.dtype) -> None:
        self.batch, self.features, self.gates = shape
        self.inputs, self.dtype = inputs, dtype
        self.sums = torch.float64 if dtype == torch.float64 else torch.float32
        self.x = torch.rand(self.batch, self.features).to(dtype)
        self.table = torch.rand(self.gates, 1 << inputs, dtype=self.sums)
        # The last feature has no gate, unless the only one; gates may have an input twice.
        self.indices = torch.randint(max(self.features - 1, 1), (inputs, self.gates), dtype=torch.int32)
        self.x_rows = feature_major(self.x)

    def exact(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.x.double(), self.table.double(), self.indices

    def sizes(self) -> tuple[object, ...]:
        return STORAGE[self.dtype], self.inputs, i64(self.gates), i64(self.batch)

    def arguments(self) -> tuple[object, ...]:
        x = self.x_rows
        return *self.sizes(), at(x), i64(x.shape[1]), at(self.table), at(self.indices)

    def backward(
        self, host: ctypes.CDLL, grad: torch.Tensor, need_x: bool, part_bytes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        samples = host.host_lut_slice(*self.sizes(), i64(part_bytes))
        upper, grad_x = feature_major(grad), rows(self.features, self.batch, self.dtype)
        parts = rows(self.inputs * self.gates, samples, self.sums)
        assert parts.shape[1] == samples, "exactly as large as the kernels are told"
        grad_table = torch.full_like(self.table, float("nan"))
        bad = host.host_lut_backward(
            *self.arguments(), at(upper), i64(upper.shape[1]), at(grad_table), i64(samples),
            at(grad_x) if need_x else None, i64(grad_x.shape[1]), at(parts) if need_x else None, i64(self.features),
        )  # fmt: skip
        assert bad == -1, f"index {bad} is none of the features"
        return grad_x[:, : self.batch].t(), grad_table


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(host: ctypes.CDLL, shape: tuple[int, int, int], inputs: int, dtype: torch.dtype) -> None:
    operands = Operands(shape, inputs, dtype)
    y = rows(operands.gates, operands.batch, dtype)
    host.host_lut_forward(*operands.arguments(), at(y), i64(y.shape[1]))
    expected = lut_reference(*operands.exact())
    torch.testing.assert_close(y[:, : operands.batch].t().double(), expected, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients(host: ctypes.CDLL, shape: tuple[int, int, int], inputs: int, dtype: torch.dtype) -> None:
    operands = Operands(shape, inputs, dtype)
    grad = torch.randn(operands.batch, operands.gates).to(dtype)
    expected = lut_backward_reference(grad.double(), *operands.exact(), True)
    error, wide = TOLERANCE[dtype], 1e-11 if dtype == torch.float64 else 1e-3
    for need_x, part_bytes in ((True, 2**30), (True, 1), (False, 2**30)):  # at once, in slices of a tile, table alone
        grad_x, grad_table = operands.backward(host, grad, need_x, part_bytes)
        torch.testing.assert_close(grad_table.double(), expected[1], atol=wide, rtol=1e-4)
        if need_x:
            scale = max(expected[0].abs().max().item(), 1.0)
            torch.testing.assert_close(grad_x.double(), expected[0], atol=error * scale, rtol=error)


def test_slices_are_whole_tiles_and_fit(host: ctypes.CDLL) -> None:
    row_bytes = 4 * 500 * 4
    for limit in (1, 130 * row_bytes, 700 * row_bytes, 2**40):
        samples = host.host_lut_slice(STORAGE[torch.float32], 4, i64(500), i64(1000), i64(limit))
        assert samples % 128 == 0
        assert samples == 128 or samples * row_bytes <= limit
        assert samples <= 1024
    assert samples == 1024


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("batch", [1, 31, 128, 129, 5000])
def test_packed(host: ctypes.CDLL, batch: int, inputs: int) -> None:
    features, gates = 21, 40
    x, logits = torch.rand(batch, features) > 0.5, torch.randn(gates, 1 << inputs)
    logits[0, 0], logits[1, 1] = 1, 0.0  # the sign bit of 64, and what is not above 0
    ids = torch.empty(gates, dtype=torch.int64)
    host.host_lut_ids(at(logits), i64(gates), i64(1 << inputs), at(ids))
    assert torch.equal(ids, lut_ids_reference(logits))
    words = pack_bits_reference(x, 8)
    pitch = padded(len(words), torch.uint8)
    source, y = rows(features, pitch, torch.uint8), rows(gates, pitch, torch.uint8)
    source[:, : len(words)] = words.t().view(torch.uint8)
    indices = torch.randint(features, (inputs, gates), dtype=torch.int32)
    host.host_lut_packed(
        at(source), i64(pitch), at(ids), at(indices), inputs, i64(gates), i64(len(words)), at(y), i64(pitch)
    )
    expected = lut_packed_reference(words, ids, indices)
    assert torch.equal(y[:, : len(words)].t(), expected.view(torch.uint8))


def test_an_index_outside_the_features_is_found(host: ctypes.CDLL) -> None:
    operands = Operands((5, 8, 3), 4, torch.float32)
    operands.indices[2, 1] = 8
    with pytest.raises(AssertionError, match="index 7 is none"):
        operands.backward(host, torch.zeros(5, 3), True, 1)
