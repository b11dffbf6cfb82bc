"""Hard gates on packed samples: words in which every bit is a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from lgn_lightning.ops import library
from lgn_lightning.ops.checks import check_groups, check_wires, check_words, word_dtype
from lgn_lightning.ops.dense import hard_table

__all__ = ["group_sum_packed", "logic_packed", "pack_bits", "unpack_bits"]


def pack_bits(x: Tensor, bits: int = 32) -> Tensor:
    """Packs a batch of booleans into words, sample ``i·bits + j`` into bit ``j`` of word ``i``.

    Args:
        x: bool ``[batch, n]``.
        bits: Word width: 8, 16, 32 or 64.

    Returns:
        Signed integers of that width, ``[ceil(batch / bits), n]``; the bits past the batch are 0.

    Raises:
        ValueError: If ``bits`` is another number.
        TypeError: If ``x`` is not boolean.
    """
    word_dtype(bits)
    if x.dtype != torch.bool or x.ndim != 2:
        raise TypeError(f"pack_bits takes a bool tensor [batch, n], not {x.dtype} {list(x.shape)}")
    return torch.ops.lgn.pack_bits(x, bits)  # type: ignore[no-any-return]


def unpack_bits(x: Tensor, batch: int) -> Tensor:
    """Inverse of :func:`pack_bits`: words ``[ceil(batch / bits), n]`` to bool ``[batch, n]``.

    Raises:
        ValueError: If ``batch`` samples do not take that number of words.
        TypeError: If ``x`` is no matrix of words.
    """
    check_words(x, batch)
    return torch.ops.lgn.unpack_bits(x, batch)  # type: ignore[no-any-return]


def logic_packed(x: Tensor, gates: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Evaluates one layer of hard gates on packed samples.

    Args:
        x: Words ``[rows, in]`` from :func:`pack_bits`.
        gates: Gate ids, uint8 ``[n]``.
        a: Index of each gate's first input, int32 ``[n]``.
        b: Index of each gate's second input, int32 ``[n]``.

    Returns:
        Words ``[rows, n]``.

    Raises:
        ValueError: If the shapes of ``gates``, ``a`` and ``b`` differ.
        TypeError: If ``x`` is no matrix of words, ``gates`` is not uint8 or the indices are not int32.
    """
    check_words(x)
    if gates.dtype != torch.uint8:
        raise TypeError(f"gates is {gates.dtype}, but gate ids are torch.uint8")
    check_wires(gates.shape[0], a, b)
    return torch.ops.lgn.logic_packed(x, gates, a, b)  # type: ignore[no-any-return]


def group_sum_packed(x: Tensor, k: int, batch: int) -> Tensor:
    """Counts the set bits of each sample in ``k`` equal groups: words ``[rows, n]`` to int32 ``[batch, k]``.

    Raises:
        ValueError: If ``n`` is not divisible by ``k``, or ``batch`` samples do not take that number of words.
        TypeError: If ``x`` is no matrix of words.
    """
    check_words(x, batch)
    check_groups(x.shape[1], k)
    return torch.ops.lgn.group_sum_packed(x, k, batch)  # type: ignore[no-any-return]


def empty_packed(op: str, like: Tensor, rows: int, features: int, dtype: torch.dtype) -> Tensor:
    """Empty words ``[rows, features]`` in the memory format of the op's kernel."""
    if library.has_native(op, like.device.type):
        return library.feature_major(op, like, features, dtype, rows)
    return like.new_empty((rows, features), dtype=dtype)


@library.op(
    "pack_bits(Tensor x, int bits) -> Tensor",
    lambda x, bits: empty_packed("pack_bits", x, -(-x.shape[0] // bits), x.shape[1], word_dtype(bits)),
)
def pack_bits_reference(x: Tensor, bits: int) -> Tensor:
    """:func:`pack_bits` in plain torch."""
    rows = -(-x.shape[0] // bits)
    padded = torch.nn.functional.pad(x.to(torch.int64), (0, 0, 0, rows * bits - x.shape[0]))
    weights = torch.ones(bits, dtype=torch.int64, device=x.device) << torch.arange(bits, device=x.device)
    # The int64 sum wraps for the sign bit of 64-bit words, which is the two's complement that is wanted.
    return (padded.view(rows, bits, x.shape[1]) * weights[:, None]).sum(1).to(word_dtype(bits))


@library.op(
    "unpack_bits(Tensor x, int batch) -> Tensor", lambda x, batch: x.new_empty((batch, x.shape[1]), dtype=torch.bool)
)
def unpack_bits_reference(x: Tensor, batch: int) -> Tensor:
    """:func:`unpack_bits` in plain torch."""
    check_words(x, batch)
    shifts = torch.arange(torch.iinfo(x.dtype).bits, device=x.device)
    return (x.to(torch.int64)[:, None] >> shifts[:, None] & 1).flatten(0, 1)[:batch].bool()


@library.op(
    "logic_packed(Tensor x, Tensor gates, Tensor a, Tensor b) -> Tensor",
    lambda x, gates, a, b: empty_packed("logic_packed", x, x.shape[0], a.shape[0], x.dtype),
)
def logic_packed_reference(x: Tensor, gates: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """:func:`logic_packed` in plain torch."""
    # All bits of a mask are set where the table has a 1.
    return lookup(-hard_table(gates, x.dtype).t(), x.index_select(1, a), x.index_select(1, b))


def lookup(masks: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Looks tables up bit by bit; the four masks, entry by entry along the first dimension, are all bits or none."""
    m00, m01, m10, m11 = masks.unbind(0)
    return (~left & (~right & m00 | right & m01)) | (left & (~right & m10 | right & m11))


@library.op(
    "group_sum_packed(Tensor x, int k, int batch) -> Tensor",
    lambda x, k, batch: x.new_empty((batch, k), dtype=torch.int32),
)
def group_sum_packed_reference(x: Tensor, k: int, batch: int) -> Tensor:
    """:func:`group_sum_packed` in plain torch."""
    return unpack_bits_reference(x, batch).reshape(batch, k, x.shape[1] // k).sum(2, dtype=torch.int32)
