"""Layers of lookup tables of 2 to 6 inputs.

A table of k inputs has 2^k entries, the first input being the most significant digit of an entry's number. Between bits
it is interpolated multilinearly, y = Σ_e t_e · Π_i (x_i if e has digit i, else 1 − x_i), which for k = 2 is
:func:`~lgn_lightning.ops.logic`. The gate id of k inputs is the truth table read as a number, entry 0 the most
significant of 2^k bits: for k = 6 these are all the bits of an int64.
"""

import torch
from torch import Tensor

from lgn_lightning.ops import library
from lgn_lightning.ops.bits import empty_packed
from lgn_lightning.ops.checks import check_floating, check_indices, check_matrix, check_table, check_words

__all__ = ["lut", "lut_ids", "lut_packed", "lut_table"]

#: A truth table of six inputs is one 64-bit word.
MAX_INPUTS = 6


def lut(x: Tensor, table: Tensor, indices: Tensor) -> Tensor:
    """Evaluates one layer of lookup tables on real-valued inputs.

    Args:
        x: Inputs in [0, 1]: float ``[batch, in]``, any strides; feature-major is not copied.
        table: Tables ``[n, 2^k]``, float32 (float64 if ``x`` is).
        indices: Index of each table's inputs, int32 ``[k, n]``, each below ``in``; k is 2 to 6.

    Returns:
        ``[batch, n]`` in the dtype of ``x``, feature-major in memory.
    """
    check_matrix(x)
    check_floating(x)
    _check_table(x, table, indices)
    return torch.ops.lgn.lut(x, table, indices)  # type: ignore[no-any-return]


def lut_packed(x: Tensor, ids: Tensor, indices: Tensor) -> Tensor:
    """Evaluates hard lookup tables, ids as of `lut_ids`, on packed samples: words ``[rows, in]`` → ``[rows, n]``.

    ``indices`` are those of each table's inputs, int32 ``[k, n]``.
    """
    check_words(x)
    _check_inputs(indices)
    if ids.dtype != torch.int64:
        raise TypeError(f"ids is {ids.dtype}, but truth tables are torch.int64")
    if ids.shape != indices.shape[1:]:
        raise ValueError(f"ids {list(ids.shape)} and indices {list(indices.shape)} do not fit: [n] and [k, n] do")
    return torch.ops.lgn.lut_packed(x, ids, indices)  # type: ignore[no-any-return]


def lut_ids(logits: Tensor) -> Tensor:
    """Truth tables, as numbers, of the gates that logits settle on: an entry is 1 if its logit is positive.

    Floating point ``[n, 2^k]``, k from 1 to 6, to int64 ``[n]``, without a gradient: entry 0 is the most significant
    of 2^k bits.
    """
    return torch.ops.lgn.lut_ids(logits.detach())  # type: ignore[no-any-return]


def lut_table(ids: Tensor, inputs: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The inverse of :func:`lut_ids`: tables ``[n, 2^inputs]`` of 0 and 1."""
    shifts = torch.arange((1 << inputs) - 1, -1, -1, device=ids.device)
    return (ids[:, None] >> shifts & 1).to(dtype)


def _check_table(x: Tensor, table: Tensor, indices: Tensor) -> None:
    _check_inputs(indices)
    check_table(x, table, (indices.shape[1], 1 << indices.shape[0]), f"indices {list(indices.shape)}")


def _check_inputs(indices: Tensor) -> None:
    if indices.ndim != 2 or not 2 <= indices.shape[0] <= MAX_INPUTS:
        raise ValueError(f"indices has shape {list(indices.shape)}, but must be [k, n] with k from 2 to {MAX_INPUTS}")
    check_indices(indices=indices)


@library.op(
    "lut(Tensor x, Tensor table, Tensor indices) -> Tensor",
    lambda x, table, indices: library.feature_major("lut", x, indices.shape[1], x.dtype),
)
def lut_reference(x: Tensor, table: Tensor, indices: Tensor) -> Tensor:
    """:func:`lut` in plain torch, differentiable: halves the table by one input after the other, the last one first."""
    values = table.unsqueeze(-1)
    for bit in reversed(_operands(x, table, indices)):
        values = torch.lerp(values[:, 0::2], values[:, 1::2], bit)
    return values[:, 0].to(x.dtype).t()


@library.op(
    "lut_backward(Tensor grad, Tensor x, Tensor table, Tensor indices, bool need_grad_x) -> (Tensor, Tensor)",
    library.fake_layer_gradients("lut_backward"),
)
def lut_backward_reference(
    grad: Tensor, x: Tensor, table: Tensor, indices: Tensor, need_grad_x: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` (empty if not wanted) and of ``table``, from ``grad [batch, n]``."""
    operands = _operands(x, table, indices)
    halves = [table.unsqueeze(-1)]  # the tables before each input is set
    for bit in reversed(operands[1:]):
        halves.append(torch.lerp(halves[-1][:, 0::2], halves[-1][:, 1::2], bit))
    grad_rows = torch.zeros(x.shape[1], x.shape[0], dtype=table.dtype, device=x.device) if need_grad_x else None
    node = grad.t().to(table.dtype).unsqueeze(1)
    for index, bit, values in zip(indices, operands, reversed(halves), strict=True):
        if grad_rows is not None:
            grad_rows.index_add_(0, index, (node * (values[:, 1::2] - values[:, 0::2])).sum(1))
        with_bit = node * bit
        node = torch.stack((node - with_bit, with_bit), 2).flatten(1, 2)
    grad_table = node.sum(2)
    return x.new_empty((0,)) if grad_rows is None else grad_rows.to(x.dtype).t(), grad_table


def _operands(x: Tensor, table: Tensor, indices: Tensor) -> list[Tensor]:
    """The inputs of every table, ``[n, 1, batch]`` each."""
    _check_table(x, table, indices)
    rows = x.t()
    return [rows.index_select(0, index).to(table.dtype).unsqueeze(1) for index in indices]


@library.op(
    "lut_packed(Tensor x, Tensor ids, Tensor indices) -> Tensor",
    lambda x, ids, indices: empty_packed("lut_packed", x, x.shape[0], ids.shape[0], x.dtype),
)
def lut_packed_reference(x: Tensor, ids: Tensor, indices: Tensor) -> Tensor:
    _check_inputs(indices)
    # All bits of a word are set where the table has a 1; then tables are halved as above.
    words = -lut_table(ids, indices.shape[0], x.dtype).t().unsqueeze(0)  # [1, 2^k, n]
    for index in reversed(indices.unbind(0)):
        bit = x.index_select(1, index).unsqueeze(1)
        words = words[:, 0::2] ^ (bit & (words[:, 0::2] ^ words[:, 1::2]))
    return words[:, 0].expand(x.shape[0], -1).contiguous()


@library.op("lut_ids(Tensor logits) -> Tensor")
def lut_ids_reference(logits: Tensor) -> Tensor:
    if logits.shape[1] not in [1 << k for k in range(1, MAX_INPUTS + 1)]:
        raise ValueError(f"logits has shape {list(logits.shape)}, but lut_ids takes [n, 2^k], k from 1 to 6")
    # The sum of a row of int64 wraps for the sign bit, which is the two's complement that is wanted.
    shifts = torch.arange(logits.shape[1] - 1, -1, -1, device=logits.device)
    return ((logits > 0).long() << shifts).sum(1)


library.define_layer_gradient("lut", 3)
