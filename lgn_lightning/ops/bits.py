"""Hard gates on packed samples: words in which every bit is a sample."""

import torch
from torch import Tensor

from lgn_lightning.ops import library
from lgn_lightning.ops.checks import check_groups, check_wires, check_words, word_dtype
from lgn_lightning.ops.dense import hard_table

__all__ = ["group_sum_packed", "logic_packed", "pack_bits", "unpack_bits"]


def pack_bits(x: Tensor, bits: int = 32) -> Tensor:
    """Packs a batch of booleans ``[batch, n]`` into words, sample ``i·bits + j`` into bit ``j`` of word ``i``.

    Returns signed integers of 8, 16, 32 or 64 bits, ``[ceil(batch / bits), n]``; the bits past the batch are 0.
    """
    word_dtype(bits)
    if x.dtype != torch.bool or x.ndim != 2:
        raise TypeError(f"pack_bits takes a bool tensor [batch, n], not {x.dtype} {list(x.shape)}")
    return torch.ops.lgn.pack_bits(x, bits)  # type: ignore[no-any-return]


def unpack_bits(x: Tensor, batch: int) -> Tensor:
    """Inverse of :func:`pack_bits`: words ``[ceil(batch / bits), n]`` to bool ``[batch, n]``."""
    check_words(x, batch)
    return torch.ops.lgn.unpack_bits(x, batch)  # type: ignore[no-any-return]


def logic_packed(x: Tensor, gates: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Evaluates hard gates, uint8 ``[n]``, of int32 wires ``[n]`` on packed samples: ``[rows, in]`` → ``[rows, n]``."""
    check_words(x)
    if gates.dtype != torch.uint8:
        raise TypeError(f"gates is {gates.dtype}, but gate ids are torch.uint8")
    check_wires(gates.shape[0], a, b)
    return torch.ops.lgn.logic_packed(x, gates, a, b)  # type: ignore[no-any-return]


def group_sum_packed(x: Tensor, k: int, batch: int) -> Tensor:
    """Counts the set bits of each sample in ``k`` equal groups: words ``[rows, n]`` to int32 ``[batch, k]``."""
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
    rows = -(-x.shape[0] // bits)
    padded = torch.nn.functional.pad(x.to(torch.int64), (0, 0, 0, rows * bits - x.shape[0]))
    weights = torch.ones(bits, dtype=torch.int64, device=x.device) << torch.arange(bits, device=x.device)
    # The int64 sum wraps for the sign bit of 64-bit words, which is the two's complement that is wanted.
    return (padded.view(rows, bits, x.shape[1]) * weights[:, None]).sum(1).to(word_dtype(bits))


@library.op(
    "unpack_bits(Tensor x, int batch) -> Tensor", lambda x, batch: x.new_empty((batch, x.shape[1]), dtype=torch.bool)
)
def unpack_bits_reference(x: Tensor, batch: int) -> Tensor:
    check_words(x, batch)
    shifts = torch.arange(torch.iinfo(x.dtype).bits, device=x.device)
    return (x.to(torch.int64)[:, None] >> shifts[:, None] & 1).flatten(0, 1)[:batch].bool()


@library.op(
    "logic_packed(Tensor x, Tensor gates, Tensor a, Tensor b) -> Tensor",
    lambda x, gates, a, b: empty_packed("logic_packed", x, x.shape[0], a.shape[0], x.dtype),
)
def logic_packed_reference(x: Tensor, gates: Tensor, a: Tensor, b: Tensor) -> Tensor:
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
    return unpack_bits_reference(x, batch).reshape(batch, k, x.shape[1] // k).sum(2, dtype=torch.int32)
