"""Reference of every op in plain torch: the oracle of the tests and the fallback of a machine without a compiler.

Everything is computed feature-major, on the transposed view ``[features, batch]``, with hand-written backwards. A gate
is evaluated as c0 + c1·a + c2·b + c3·ab, where the coefficients c follow from its table (Petersen et al., 2022, Table 1
collapsed to four numbers a gate).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lgn_lightning.gates import NUM_GATES


def hard_table(gates: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Gives the tables of given gates.

    Args:
        gates: Gate ids, integer ``[n]``.
        dtype: Dtype of the result.

    Returns:
        ``[n, 4]``, each entry 0 or 1.
    """
    # From the bits of the ids and not from a cached tensor, which would have to outlive inference mode, tracing and
    # CUDA graphs, nor from a list, whose copy to a GPU would wait for it.
    shifts = torch.arange(3, -1, -1, device=gates.device)
    return (gates.long()[:, None] >> shifts & 1).to(dtype)


def _truth_tables(device: torch.device, dtype: torch.dtype) -> Tensor:
    return hard_table(torch.arange(NUM_GATES, device=device), dtype)


def softmax_table(logits: Tensor) -> Tensor:
    """Expected table of a gate drawn from the softmax of its 16 logits (Petersen et al., 2022, eq. 1): ``[n, 4]``."""
    return torch.softmax(logits, dim=1) @ _truth_tables(logits.device, logits.dtype)


def softmax_table_backward(grad: Tensor, logits: Tensor) -> Tensor:
    """Gradient of :func:`softmax_table`: ``grad [n, 4]``, ``logits [n, 16]`` to ``[n, 16]``."""
    probability = torch.softmax(logits, dim=1)
    grad_probability = grad @ _truth_tables(logits.device, logits.dtype).t()
    return probability * (grad_probability - (probability * grad_probability).sum(1, keepdim=True))


def _coefficients(table: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    t00, t01, t10, t11 = table.unsqueeze(-1).unbind(1)
    return t00, t10 - t00, t01 - t00, t11 - t10 - t01 + t00


def logic(x: Tensor, table: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Evaluates a layer of gates on real-valued inputs.

    Args:
        x: Inputs in [0, 1], ``[batch, in]``, floating point, any strides.
        table: Tables ``[n, 4]``, float32 (float64 if ``x`` is).
        a: Index of each gate's first input, int32 ``[n]``.
        b: Index of each gate's second input, int32 ``[n]``.

    Returns:
        ``[batch, n]`` in the dtype of ``x``, feature-major in memory.
    """
    rows = x.t()
    left = rows.index_select(0, a).to(table.dtype)
    right = rows.index_select(0, b).to(table.dtype)
    c0, c1, c2, c3 = _coefficients(table)
    return torch.addcmul(c2, c3, left).mul_(right).addcmul_(c1, left).add_(c0).to(x.dtype).t()


def logic_backward(
    grad: Tensor, x: Tensor, table: Tensor, a: Tensor, b: Tensor, need_grad_x: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`logic`.

    Args:
        grad: Gradient of the output, ``[batch, n]``.
        x: As in the forward pass.
        table: As in the forward pass.
        a: As in the forward pass.
        b: As in the forward pass.
        need_grad_x: Whether the gradient of ``x`` is wanted (not for the first layer).

    Returns:
        The gradients of ``x`` (empty if not wanted) and of ``table``.
    """
    rows, grad_rows = x.t(), grad.t().to(table.dtype)
    left = rows.index_select(0, a).to(table.dtype)
    right = rows.index_select(0, b).to(table.dtype)
    grad_left, grad_right = grad_rows * left, grad_rows * right
    g = grad_rows.sum(1)
    ga, gb = grad_left.sum(1), grad_right.sum(1)
    gab = torch.linalg.vecdot(grad_left, right)
    grad_table = torch.stack((g - ga - gb + gab, gb - gab, ga - gab, gab), dim=1)
    if not need_grad_x:
        return x.new_empty((0,)), grad_table
    _, c1, c2, c3 = _coefficients(table)
    grad_x = torch.zeros(rows.shape, dtype=table.dtype, device=x.device)
    grad_x.index_add_(0, a, torch.addcmul(c3 * grad_right, c1, grad_rows))
    grad_x.index_add_(0, b, torch.addcmul(c3 * grad_left, c2, grad_rows))
    return grad_x.to(x.dtype).t(), grad_table


def group_sum(x: Tensor, k: int, tau: float) -> Tensor:
    """Sums ``k`` equal groups of neighbouring features and divides by ``tau``: ``[batch, n]`` to ``[batch, k]``."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return (x.t().reshape(k, x.shape[1] // k, x.shape[0]).sum(1, dtype=dtype) / tau).t().contiguous()


def logic_group_sum(x: Tensor, table: Tensor, a: Tensor, b: Tensor, k: int, tau: float) -> Tensor:
    """:func:`group_sum` of :func:`logic`: ``[batch, in]`` to ``[batch, k]``."""
    return group_sum(logic(x, table, a, b), k, tau)


def logic_group_sum_backward(
    grad: Tensor, x: Tensor, table: Tensor, a: Tensor, b: Tensor, tau: float, need_grad_x: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`logic_group_sum` from ``grad [batch, k]``."""
    expanded = (grad.t() / tau).repeat_interleave(a.shape[0] // grad.shape[1], dim=0)
    return logic_backward(expanded.t(), x, table, a, b, need_grad_x)


def _bit_weights(words: torch.dtype, device: torch.device) -> Tensor:
    bits = torch.iinfo(words).bits
    return torch.ones(bits, dtype=torch.int64, device=device) << torch.arange(bits, device=device)


def pack_bits(x: Tensor, bits: int) -> Tensor:
    """Packs samples into words: bool ``[batch, n]`` to int ``[ceil(batch / bits), n]``; missing samples are 0."""
    words = {8: torch.int8, 16: torch.int16, 32: torch.int32, 64: torch.int64}[bits]
    rows = -(-x.shape[0] // bits)
    padded = torch.nn.functional.pad(x.to(torch.int64), (0, 0, 0, rows * bits - x.shape[0]))
    weights = _bit_weights(words, x.device)
    # The int64 sum wraps for the sign bit of 64-bit words, which is the two's complement that is wanted.
    return (padded.view(rows, bits, x.shape[1]) * weights[:, None]).sum(1).to(words)


def unpack_bits(x: Tensor, batch: int) -> Tensor:
    """Inverse of :func:`pack_bits`: words ``[rows, n]`` to bool ``[batch, n]``."""
    shifts = torch.arange(torch.iinfo(x.dtype).bits, device=x.device)
    return (x.to(torch.int64)[:, None] >> shifts[:, None] & 1).flatten(0, 1)[:batch].bool()


def logic_packed(x: Tensor, gates: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Evaluates gates on words of packed samples: ``[rows, in]``, uint8 gate ids ``[n]`` to ``[rows, n]``."""
    left, right = x.index_select(1, a), x.index_select(1, b)
    # All bits of a mask are set where the table has a 1: the output is the table looked up bit by bit.
    m00, m01, m10, m11 = -hard_table(gates, x.dtype).t()
    y: Tensor = (~left & (~right & m00 | right & m01)) | (left & (~right & m10 | right & m11))
    return y


def group_sum_packed(x: Tensor, k: int, batch: int) -> Tensor:
    """Counts set bits in ``k`` equal groups of neighbouring features: words ``[rows, n]`` to int32 ``[batch, k]``."""
    return unpack_bits(x, batch).reshape(batch, k, x.shape[1] // k).sum(2, dtype=torch.int32)
