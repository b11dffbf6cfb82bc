"""The ops of lookup tables: against a formula, native against the reference, and torch's own checks of an op."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops.bits import pack_bits_reference, unpack_bits_reference
from lgn_lightning.ops.lut import lut_backward_reference, lut_ids_reference, lut_packed_reference, lut_reference

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}
INPUTS = [2, 3, 4, 5, 6]
lgn = torch.ops.lgn


pytestmark = pytest.mark.usefixtures("asked_backend")


def formula(x: Tensor, table: Tensor, indices: Tensor) -> Tensor:
    """Σ_e t_e · Π_i (x_i or 1 − x_i)."""
    k = len(indices)
    digits = torch.arange(1 << k)[:, None] >> torch.arange(k - 1, -1, -1) & 1  # [2^k, k]
    operands = x[:, indices.long()].unsqueeze(-1)  # [batch, k, n, 1]
    share = torch.where(digits.t()[:, None] == 1, operands, 1 - operands).prod(1)  # [batch, n, 2^k]
    return (share * table).sum(-1)


def operands(batch: int, in_dim: int, n: int, k: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    table = torch.rand(n, 1 << k, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    return torch.rand(batch, in_dim).to(dtype), table, torch.randint(in_dim, (k, n), dtype=torch.int32)


def strided(x: Tensor, form: str) -> Tensor:
    """The same values in another memory format."""
    if form == "feature_major":
        return x.t().contiguous().t()
    if form == "padded":  # whole cache lines whose padding holds NaN
        padded = torch.full((x.shape[1], -(-x.shape[0] // 64) * 64 + 64), float("nan"), dtype=x.dtype)
        padded[:, : x.shape[0]] = x.t()
        return padded[:, : x.shape[0]].t()
    return x


sizes = st.tuples(st.integers(0, 300), st.integers(1, 30), st.integers(0, 40))
FORMS = ["batch_major", "feature_major", "padded"]


@settings(max_examples=60, deadline=None)
@given(
    sizes,
    st.sampled_from(INPUTS),
    st.sampled_from(list(TOLERANCE)),
    st.sampled_from(FORMS),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_values_and_gradients_are_those_of_the_formula(
    size: tuple[int, int, int], k: int, dtype: torch.dtype, form: str, need_grad_x: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    x, table, indices = operands(*size, k, dtype)
    grad = torch.randn(size[0], size[2]).to(dtype)
    exact = x.double().requires_grad_(), table.double().requires_grad_()
    expected = formula(*exact, indices)
    grad_x, grad_table = torch.autograd.grad(expected, exact, grad.double())
    x, grad = strided(x, form), strided(grad, form)
    tolerance = TOLERANCE[dtype]
    for forward, backward in ((lgn.lut, lgn.lut_backward), (lut_reference, lut_backward_reference)):
        y = forward(x, table, indices)
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=tolerance)
        got_x, got_table = backward(grad, x, table, indices, need_grad_x)
        assert got_table.dtype == table.dtype
        # The table's gradient is summed in float32 over the batch, whatever x is.
        wide = 1e-12 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(got_table.double(), grad_table, atol=wide * 10, rtol=wide)
        if need_grad_x:
            torch.testing.assert_close(got_x.double(), grad_x, atol=20 * tolerance, rtol=10 * tolerance)
        else:
            assert got_x.shape == (0,)


def test_two_inputs_are_the_gates_of_logic() -> None:
    x, table, indices = operands(50, 9, 20, 2)
    torch.testing.assert_close(ops.lut(x, table, indices), ops.logic(x, table, *indices))
    gates = torch.arange(16)
    assert torch.equal(ops.lut_table(gates, 2), ops.hard_table(gates))


@pytest.mark.parametrize("k", INPUTS)
def test_gradcheck(k: int) -> None:
    x, table, indices = operands(5, 8, 3, k, torch.float64)
    assert torch.autograd.gradcheck(lambda x, t: ops.lut(x, t, indices), (x.requires_grad_(), table.requires_grad_()))


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from(INPUTS), st.sampled_from([8, 16, 32, 64]), st.integers(0, 2**31))
def test_packed_is_the_lookup(size: tuple[int, int, int], k: int, bits: int, seed: int) -> None:
    torch.manual_seed(seed)
    batch, in_dim, n = size
    x = torch.rand(batch, in_dim) < 0.5
    logits = torch.randn(n, 1 << k)
    indices = torch.randint(in_dim, (k, n), dtype=torch.int32)
    ids = ops.lut_ids(logits)
    assert torch.equal(ids, lut_ids_reference(logits))
    assert torch.equal(ops.lut_table(ids, k, torch.bool), logits > 0)
    entry = (x[:, indices.long()].long() << torch.arange(k - 1, -1, -1)[:, None]).sum(1)  # [batch, n]
    expected = (logits > 0)[torch.arange(n), entry]
    words = pack_bits_reference(x, bits)
    for packed in (ops.lut_packed(words, ids, indices), lut_packed_reference(words, ids, indices)):
        assert torch.equal(unpack_bits_reference(packed, batch), expected)
    assert torch.equal(ops.lut(x.float(), ops.lut_table(ids, k), indices) > 0.5, expected)


@pytest.mark.parametrize("k", [3, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(k: int, dtype: torch.dtype) -> None:
    x, table, indices = operands(37, 9, 12, k, dtype)
    for needed in (True, False):
        torch.library.opcheck(lgn.lut_backward.default, (torch.randn(37, 12).to(dtype), x, table, indices, needed))
    torch.library.opcheck(lgn.lut.default, (x.requires_grad_(), table.requires_grad_(), indices))
    ids = ops.lut_ids(torch.randn(12, 1 << k))
    torch.library.opcheck(lgn.lut_packed.default, (ops.pack_bits(x > 0.5, 16), ids, indices))
    torch.library.opcheck(lgn.lut_ids.default, (table.detach(),))


@pytest.mark.parametrize("batch", [64, 100, 700])
def test_same_bits_at_any_number_of_threads(batch: int) -> None:
    torch.manual_seed(0)
    x, table, indices = operands(batch, 300, 900, 4)
    grad = torch.randn(batch, 900)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append([lgn.lut(x, table, indices), *lgn.lut_backward(grad, x, table, indices, True)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_arguments_that_do_not_fit() -> None:
    x, table, indices = operands(5, 8, 3, 4)
    with pytest.raises(ValueError, match=r"x has shape \[5\]"):
        ops.lut(x[:, 0], table, indices)
    with pytest.raises(TypeError, match=r"x is torch\.bool"):
        ops.lut(x > 0.5, table, indices)
    with pytest.raises(ValueError, match=r"table has shape \[3, 8\], but indices \[4, 3\] take \[3, 16\]"):
        ops.lut(x, table[:, :8], indices)
    with pytest.raises(TypeError, match=r"table is torch\.float64"):
        ops.lut(x, table.double(), indices)
    with pytest.raises(TypeError, match=r"indices is torch\.int64"):
        ops.lut(x, table, indices.long())
    with pytest.raises(ValueError, match="k from 2 to 6"):
        ops.lut(x, table, indices[:1])
    with pytest.raises(ValueError, match=r"logits has shape \[3, 5\]"):
        ops.lut_ids(table[:, :5])
    words, ids = ops.pack_bits(x > 0.5), ops.lut_ids(table)
    with pytest.raises(TypeError, match="x is"):
        ops.lut_packed(x, ids, indices)
    with pytest.raises(TypeError, match=r"ids is torch\.int32"):
        ops.lut_packed(words, ids.int(), indices)
    with pytest.raises(ValueError, match=r"ids \[2\] and indices \[4, 3\]"):
        ops.lut_packed(words, ids[:2], indices)
    indices[2, 1] = 8
    with pytest.raises(IndexError, match=r"gate 1 has input 8, but x has only 8 features|out of range"):
        ops.lut(x, table, indices)
