"""The ops as functions: arguments checked once, here, so that the kernels need not and errors read the same."""

from __future__ import annotations

import torch
from torch import Tensor

from lgn_lightning.ops import schema
from lgn_lightning.ops.reference import hard_table

__all__ = [
    "group_sum",
    "group_sum_packed",
    "hard_table",
    "logic",
    "logic_group_sum",
    "logic_packed",
    "pack_bits",
    "softmax_table",
    "unpack_bits",
]


def softmax_table(logits: Tensor) -> Tensor:
    """Expected table of each gate under the softmax of its logits (Petersen et al., 2022, eq. 1).

    Args:
        logits: Float ``[n, 16]``.

    Returns:
        ``[n, 4]``, entries t00, t01, t10, t11 in [0, 1].

    Raises:
        ValueError: If ``logits`` has another shape.
    """
    if logits.ndim != 2 or logits.shape[1] != 16:
        raise ValueError(f"logits has shape {list(logits.shape)}, but softmax_table takes [gates, 16]")
    return torch.ops.lgn.softmax_table(logits)  # type: ignore[no-any-return]


def logic(x: Tensor, table: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Evaluates one layer of gates, y = t00(1−a)(1−b) + t01(1−a)b + t10·a(1−b) + t11·ab.

    Args:
        x: Inputs in [0, 1]: float ``[batch, in]``, any strides; feature-major is not copied.
        table: Tables ``[n, 4]``, float32 (float64 if ``x`` is).
        a: Index of each gate's first input, int32 ``[n]``, each below ``in``.
        b: Index of each gate's second input, likewise.

    Returns:
        ``[batch, n]`` in the dtype of ``x``, feature-major in memory.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If ``x`` is not floating point, the table not of the dtype above or the indices not int32.
    """
    _check_layer(x, table, a, b)
    return torch.ops.lgn.logic(x, table, a, b)  # type: ignore[no-any-return]


def group_sum(x: Tensor, k: int, tau: float = 1.0) -> Tensor:
    """Sums ``k`` equal groups of neighbouring features and divides by ``tau``.

    Args:
        x: ``[batch, n]``, floating point; ``n`` divisible by ``k``.
        k: Number of groups, the number of classes.
        tau: Temperature that the sums are divided by.

    Returns:
        ``[batch, k]``, float32 (float64 if ``x`` is).

    Raises:
        ValueError: If ``x`` is no matrix or ``n`` is not divisible by ``k``.
        TypeError: If ``x`` is not floating point.
    """
    _check_matrix(x)
    _check_floating(x)
    _check_groups(x.shape[1], k)
    return torch.ops.lgn.group_sum(x, k, tau)  # type: ignore[no-any-return]


def logic_group_sum(x: Tensor, table: Tensor, a: Tensor, b: Tensor, k: int, tau: float = 1.0) -> Tensor:
    """:func:`group_sum` of :func:`logic` in one op, whose backward never expands the gradient of the sum.

    Returns:
        ``[batch, k]``, float32 (float64 if ``x`` is).

    Raises:
        ValueError: If a shape does not fit or the number of gates is not divisible by ``k``.
        TypeError: If ``x`` is not floating point or the indices are not int32.
    """
    _check_layer(x, table, a, b)
    _check_groups(a.shape[0], k)
    return torch.ops.lgn.logic_group_sum(x, table, a, b, k, tau)  # type: ignore[no-any-return]


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
    schema.word_dtype(bits)
    if x.dtype != torch.bool or x.ndim != 2:
        raise TypeError(f"pack_bits takes a bool tensor [batch, n], not {x.dtype} {list(x.shape)}")
    return torch.ops.lgn.pack_bits(x, bits)  # type: ignore[no-any-return]


def unpack_bits(x: Tensor, batch: int) -> Tensor:
    """Inverse of :func:`pack_bits`: words ``[ceil(batch / bits), n]`` to bool ``[batch, n]``.

    Raises:
        ValueError: If ``batch`` samples do not take that number of words.
        TypeError: If ``x`` is no matrix of words.
    """
    _check_words(x, batch)
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
    _check_words(x)
    if gates.dtype != torch.uint8:
        raise TypeError(f"gates is {gates.dtype}, but gate ids are torch.uint8")
    if not gates.shape == a.shape == b.shape or a.ndim != 1:
        raise ValueError(
            f"gates {list(gates.shape)}, a {list(a.shape)} and b {list(b.shape)} do not fit: each must be [n]"
        )
    _check_indices(a, b)
    return torch.ops.lgn.logic_packed(x, gates, a, b)  # type: ignore[no-any-return]


def group_sum_packed(x: Tensor, k: int, batch: int) -> Tensor:
    """Counts the set bits of each sample in ``k`` equal groups: words ``[rows, n]`` to int32 ``[batch, k]``.

    Raises:
        ValueError: If ``n`` is not divisible by ``k``, or ``batch`` samples do not take that number of words.
        TypeError: If ``x`` is no matrix of words.
    """
    _check_words(x, batch)
    _check_groups(x.shape[1], k)
    return torch.ops.lgn.group_sum_packed(x, k, batch)  # type: ignore[no-any-return]


def _check_layer(x: Tensor, table: Tensor, a: Tensor, b: Tensor) -> None:
    _check_matrix(x)
    _check_floating(x)
    if table.shape != (a.shape[0], 4) or a.shape != b.shape:
        raise ValueError(
            f"table {list(table.shape)}, a {list(a.shape)} and b {list(b.shape)} do not fit: [n, 4], [n] and [n] do"
        )
    if table.dtype != schema.sum_dtype(x.dtype):
        raise TypeError(f"table is {table.dtype}, but x of {x.dtype} takes a table of {schema.sum_dtype(x.dtype)}")
    _check_indices(a, b)


def _check_matrix(x: Tensor) -> None:
    if x.ndim != 2:
        raise ValueError(f"x has shape {list(x.shape)}, but the op takes [batch, features]")


def _check_floating(x: Tensor) -> None:
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}, but the op takes floating point; convert it with x.float()")


def _check_indices(a: Tensor, b: Tensor) -> None:
    if a.dtype != torch.int32 or b.dtype != torch.int32:
        raise TypeError(f"a is {a.dtype} and b is {b.dtype}, but indices are torch.int32")


def _check_words(x: Tensor, batch: int | None = None) -> None:
    if x.ndim != 2 or x.dtype not in schema.WORDS.values():
        raise TypeError(f"x is {x.dtype} {list(x.shape)}, but packed samples are int8, int16, int32 or int64 [rows, n]")
    bits = torch.iinfo(x.dtype).bits
    if batch is not None and x.shape[0] != -(-batch // bits):
        raise ValueError(f"{x.shape[0]} rows of {bits}-bit words do not hold a batch of {batch}")


def _check_groups(features: int, k: int) -> None:
    if k < 1 or features % k:
        raise ValueError(
            f"{features} features do not divide into k = {k} equal groups; choose a width that is a multiple of k"
        )
