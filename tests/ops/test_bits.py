"""Ops on packed bits: references against the 16 gates and Python's numbers, native kernels against the references."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.gates import TRUTH_TABLES
from lgn_lightning.ops.bits import (
    group_sum_packed_reference,
    logic_packed_reference,
    pack_bits_reference,
    unpack_bits_reference,
)

words = st.sampled_from([8, 16, 32, 64])


@st.composite
def bool_matrices(draw: st.DrawFn, columns: st.SearchStrategy[int]) -> Tensor:
    rows, n, seed = draw(st.integers(0, 140)), draw(columns), draw(st.integers(0, 2**32 - 1))
    return torch.rand(rows, n, generator=torch.Generator().manual_seed(seed)) > 0.5


def packed_by_numpy(x: Tensor, bits: int) -> list[list[int]]:
    rows = -(-x.shape[0] // bits)
    values = [[0] * x.shape[1] for _ in range(rows)]
    for sample, feature in x.nonzero().tolist():
        values[sample // bits][feature] |= 1 << sample % bits
    return [[v - (1 << bits) if v >> (bits - 1) else v for v in row] for row in values]


@given(x=bool_matrices(st.integers(1, 6)), bits=words)
def test_pack_and_unpack(x: Tensor, bits: int) -> None:
    packed = pack_bits_reference(x, bits)
    assert torch.iinfo(packed.dtype).bits == bits
    assert packed.tolist() == packed_by_numpy(x, bits)
    assert torch.equal(unpack_bits_reference(packed, x.shape[0]), x)
    column_major = packed.t().contiguous().t()
    assert torch.equal(unpack_bits_reference(column_major, x.shape[0]), x)


@given(x=bool_matrices(st.integers(1, 6)), bits=words, seed=st.integers(0, 99))
def test_logic_packed(x: Tensor, bits: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gates = torch.randperm(16, generator=generator).to(torch.uint8)
    a, b = torch.randint(x.shape[1], (2, 16), dtype=torch.int32, generator=generator)
    packed = logic_packed_reference(pack_bits_reference(x, bits), gates, a, b)
    tables = torch.tensor(TRUTH_TABLES, dtype=torch.bool)[gates.long()]
    expected = tables[torch.arange(16), 2 * x[:, a].long() + x[:, b].long()]
    assert torch.equal(unpack_bits_reference(packed, x.shape[0]), expected)


@given(x=bool_matrices(st.sampled_from([6, 12])), bits=words, k=st.sampled_from([1, 2, 3, 6]))
def test_group_sum_packed(x: Tensor, bits: int, k: int) -> None:
    packed = pack_bits_reference(x, bits)
    expected = x.numpy().reshape(x.shape[0], k, x.shape[1] // k).sum(2)
    for words_ in (packed, packed.t().contiguous().t()):
        counts = group_sum_packed_reference(words_, k, x.shape[0])
        assert counts.dtype == torch.int32
        assert counts.tolist() == expected.tolist()


@given(bool_matrices(st.integers(1, 40)), words, st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_native_is_the_reference(
    native_device: str, x: Tensor, bits: int, k: int, feature_major: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(x.shape[1], (2, 7 * k), dtype=torch.int32, generator=generator)
    gates = torch.randint(16, (7 * k,), dtype=torch.uint8, generator=generator)
    on = (x.t().contiguous().t() if feature_major else x).to(native_device)
    packed = ops.pack_bits(on, bits)
    assert torch.equal(packed.cpu(), pack_bits_reference(x, bits))
    assert torch.equal(ops.unpack_bits(packed.contiguous(), len(x)), on)
    y = ops.logic_packed(packed, gates.to(native_device), a.to(native_device), b.to(native_device))
    assert torch.equal(y.cpu(), logic_packed_reference(packed.cpu(), gates, a, b))
    sums = ops.group_sum_packed(y, k, len(x))
    assert torch.equal(sums.cpu(), group_sum_packed_reference(y.cpu(), k, len(x)))
