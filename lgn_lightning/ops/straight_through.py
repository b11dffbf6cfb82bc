"""A stack of straight-through layers and a group sum as one op on packed bits: schema, reference, gradients, function.

The forward pass evaluates hard gates on packed samples, and what it keeps for the backward pass is the packed input of
each layer: a 32nd of what float activations take. The backward pass walks the layers from the last to the first; with
bits u, v of a gate and its soft table t, ∂y/∂t_ij = [u = i][v = j], ∂y/∂u = t_1v − t_0v and ∂y/∂v = t_u1 − t_u0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lgn_lightning.ops import reference, schema
from lgn_lightning.ops.bit_activations import BITS, empty_words
from lgn_lightning.ops.choices import check_candidates, reference_backward, softmax_backward


def bit_logic(
    x: Tensor,
    tables: Sequence[Tensor],
    gates: Sequence[Tensor],
    a: Sequence[Tensor],
    b: Sequence[Tensor],
    k: int,
    tau: float = 1.0,
    factors: Sequence[float] | None = None,
    logits: Sequence[Tensor | None] | None = None,
    shares: Sequence[Tensor | None] | None = None,
    candidates: Sequence[Tensor | None] | None = None,
    words: Tensor | None = None,
    of_logits: Sequence[bool] | None = None,
) -> Tensor:
    """Evaluates layers of hard gates one after another and sums groups; the gradient is that of the soft tables.

    Args:
        x: ``[batch, in]``, bool or floating point; a bit is ``x > 0.5``, whose gradient is passed straight through.
        tables: Soft tables of each layer, float32 ``[n, 4]``, which receive the gradient.
        gates: Ids of the hard gates of each layer, uint8 ``[n]``.
        a: First inputs of the gates of each layer, int32 ``[n]``.
        b: Second inputs, likewise.
        k: Number of groups of the last layer, the number of classes.
        tau: Temperature that the sums are divided by.
        factors: Of each layer, what the gradient that flows to its inputs is multiplied by; 1 if not given.
        logits: Of each layer with learned connections, those of its candidates, float32 ``[n, 2, K]``, which receive
            the gradient of :func:`~lgn_lightning.ops.learn_choices` through the softmax; None for the others.
        shares: Of these layers, the softmax of the logits, as :func:`~lgn_lightning.ops.choose` gives it; no gradient
            flows to it. None for the others.
        candidates: Of each layer with learned connections, its candidates, int32 ``[n, 2, K]``; None for the others.
            Wires of such a layer are not expected to come again: nothing is prepared for them and kept.
        words: The bits of ``x`` if they are packed already, as in
            :class:`~lgn_lightning.ops.bit_activations.BitActivations`; ``x`` is their edge then.
        of_logits: Of each layer, whether ``tables`` holds the logits whose sigmoids are the soft table; they receive
            the gradient then, and the table is made in the backward pass alone. False if not given.

    Returns:
        Scores, float32 ``[batch, k]``.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If tables are not float32, gates not uint8 or indices not int32.
    """
    factors = [1.0] * len(tables) if factors is None else list(factors)
    logits = [None] * len(tables) if logits is None else logits
    shares = [None] * len(tables) if shares is None else shares
    candidates = [None] * len(tables) if candidates is None else candidates
    of_logits = [False] * len(tables) if of_logits is None else list(of_logits)
    parts = {"tables": tables, "gates": gates, "a": a, "b": b, "factors": factors, "of_logits": of_logits}
    parts |= {"logits": logits, "shares": shares, "candidates": candidates}
    if len({len(part) for part in parts.values()}) != 1 or not tables:
        counts = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
        raise ValueError(f"{counts}: each must have one entry a layer")
    if x.ndim != 2:
        raise ValueError(f"x has shape {list(x.shape)}, but the op takes [batch, features]")
    for table, ids, first, second in zip(tables, gates, a, b, strict=True):
        if not ids.shape == first.shape == second.shape == table.shape[:1] or table.shape[1:] != (4,):
            raise ValueError(
                f"table {list(table.shape)}, gates {list(ids.shape)}, a {list(first.shape)} and b {list(second.shape)} "
                "of a layer do not fit: [n, 4], [n], [n] and [n] do"
            )
        if (table.dtype, ids.dtype, first.dtype, second.dtype) != (torch.float32, torch.uint8, *[torch.int32] * 2):
            raise TypeError(
                f"table is {table.dtype}, gates {ids.dtype}, a {first.dtype} and b {second.dtype}, but must be "
                "float32, uint8, int32 and int32"
            )
    for logit, share, wires, ids in zip(logits, shares, candidates, gates, strict=True):
        if len({part is None for part in (logit, share, wires)}) != 1:
            raise ValueError("a layer has one of logits, shares and candidates without the others")
        if logit is not None and share is not None and wires is not None:
            check_candidates(logit, wires, len(ids))
            check_candidates(share, wires, len(ids))
    if k < 1 or gates[-1].shape[0] % k:
        raise ValueError(
            f"{gates[-1].shape[0]} features do not divide into k = {k} equal groups; choose a width that is a multiple "
            "of k"
        )
    stack = _Stack(len(tables), k, tau, factors, of_logits)
    shares = [None if share is None else share.detach() for share in shares]
    return cast(Tensor, _BitLogic.apply(stack, x, words, *tables, *logits, *gates, *a, *b, *shares, *candidates))


class _Stack(NamedTuple):
    """What is no tensor among the arguments of a stack."""

    layers: int
    k: int
    tau: float
    factors: list[float]
    of_logits: list[bool]


class _BitLogic(torch.autograd.Function):
    """The op with its gradient.

    Lists of tensors come one after the other: formulas that torch registers for an op build trees of such lists at
    every call, which takes as long as a small net's kernels, and zeros for the words' gradients.
    """

    @staticmethod
    def forward(ctx: Any, stack: _Stack, x: Tensor, words: Tensor | None, *parts: Tensor | None) -> Tensor:
        tables, _, gates, a, b, shares, candidates = _by_kind(parts, stack.layers)
        candidates = [x.new_empty((0,), dtype=torch.int32) if wires is None else wires for wires in candidates]
        scores, bits = torch.ops.lgn.bit_logic(x, gates, a, b, candidates, stack.k, stack.tau, words)
        ctx.stack, ctx.dtype = stack, x.dtype
        ctx.save_for_backward(*bits, *tables, *a, *b, *shares, *candidates)
        return scores  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        stack, need_x = ctx.stack, ctx.needs_input_grad[1]
        bits, tables, a, b, shares, candidates = _by_kind(ctx.saved_tensors, stack.layers)
        empty = grads[0].new_empty((0,), dtype=torch.float32)
        learn = ctx.needs_input_grad[3 + stack.layers : 3 + 2 * stack.layers]
        values = [share if share is not None and wanted else empty for share, wanted in zip(shares, learn, strict=True)]
        grad_x, grad_tables, grad_logits = schema.backward(
            "bit_logic_backward",
            grads[0],
            bits,
            tables,
            a,
            b,
            values,
            candidates,
            stack.of_logits,
            stack.tau,
            stack.factors,
            need_x,
        )
        grad_logits = [grad if wanted else None for grad, wanted in zip(grad_logits, learn, strict=True)]
        rest = [None] * (5 * stack.layers)
        return None, grad_x.to(ctx.dtype) if need_x else None, None, *grad_tables, *grad_logits, *rest


def _by_kind(parts: Sequence[Any], layers: int) -> list[list[Any]]:
    return [list(parts[i : i + layers]) for i in range(0, len(parts), layers)]


def gate_ids(logits: Tensor) -> Tensor:
    """Ids of the two-input gates that logits settle on.

    Args:
        logits: Floating point ``[n, 4]``, one a table entry, which is 1 if its logit is positive; or ``[n, 16]``, one a
            gate, of which the first largest counts. Natively compared in single precision.

    Returns:
        uint8 ``[n]``, without a gradient.

    Raises:
        ValueError: If ``logits`` has another shape.
    """
    if logits.ndim != 2 or logits.shape[1] not in (4, 16):
        raise ValueError(f"logits has shape {list(logits.shape)}, but gate_ids takes [gates, 4] or [gates, 16]")
    return torch.ops.lgn.gate_ids(logits.detach())  # type: ignore[no-any-return]


def _gate_ids(logits: Tensor) -> Tensor:
    if logits.shape[1] == 16:
        return logits.argmax(1).to(torch.uint8)
    # Of bytes, since sums of bools with shifts would pass through int64.
    t00, t01, t10, t11 = (logits > 0).to(torch.uint8).unbind(1)
    return t00 * 8 + t01 * 4 + t10 * 2 + t11


def _reference(
    x: Tensor,
    gates: list[Tensor],
    a: list[Tensor],
    b: list[Tensor],
    candidates: list[Tensor],
    k: int,
    tau: float,
    packed: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Scores ``[batch, k]``, and the packed inputs of each layer, int64 ``[ceil(batch / 64), in]``."""
    words = [reference.pack_bits(x if x.dtype == torch.bool else x > 0.5, BITS) if packed is None else packed.clone()]
    for ids, first, second in zip(gates, a, b, strict=True):
        words.append(reference.logic_packed(words[-1], ids, first, second))
    return reference.group_sum_packed(words.pop(), k, x.shape[0]).float() / tau, words


def _reference_backward(
    grad: Tensor,
    words: list[Tensor],
    tables: list[Tensor],
    a: list[Tensor],
    b: list[Tensor],
    shares: list[Tensor],
    candidates: list[Tensor],
    of_logits: list[bool],
    tau: float,
    factors: list[float],
    need_grad_x: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Gradients of ``x`` (empty if not wanted), float32, of the tables, and of logits (empty where shares are)."""
    g = (grad.float().t() / tau).repeat_interleave(a[-1].shape[0] // grad.shape[1], dim=0).t()
    grad_tables: list[Tensor] = []
    grad_logits: list[Tensor] = []
    tables = [torch.sigmoid(table) if given else table for table, given in zip(tables, of_logits, strict=True)]
    for layer in range(len(tables) - 1, -1, -1):
        bits = reference.unpack_bits(words[layer], grad.shape[0]).float()
        wanted = need_grad_x or layer > 0
        wires = a[layer], b[layer], candidates[layer]
        grad_choice = bits.new_empty((0,))
        if len(shares[layer]) > 0:
            grad_choice = softmax_backward(reference_backward(g, bits, tables[layer], *wires), shares[layer])
        grad_logits.insert(0, grad_choice)
        g, grad_table = reference.logic_backward(g, bits, tables[layer], a[layer], b[layer], wanted)
        if of_logits[layer]:
            grad_table = grad_table * tables[layer] * (1 - tables[layer])
        g = g * factors[layer]
        grad_tables.insert(0, grad_table)
    return g, grad_tables, grad_logits


def _fake(
    x: Tensor, gates: list[Tensor], a: list[Tensor], b: list[Tensor], candidates: list[Tensor], k: int, *rest: Any
) -> tuple[Tensor, list[Tensor]]:
    widths = [x.shape[1], *(first.shape[0] for first in a[:-1])]
    scores = x.new_empty((x.shape[0], k), dtype=torch.float32)
    rows = (x.shape[0] + BITS - 1) // BITS
    return scores, [empty_words("bit_logic", x, rows, width) for width in widths]


def _fake_backward(
    grad: Tensor,
    words: list[Tensor],
    tables: list[Tensor],
    a: list[Tensor],
    b: list[Tensor],
    shares: list[Tensor],
    candidates: list[Tensor],
    *rest: Any,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    *_, need_grad_x = rest
    features = words[0].shape[1]
    grad_x = (
        schema.feature_major("bit_logic_backward", grad, features, torch.float32)
        if need_grad_x
        else grad.new_empty((0,), dtype=torch.float32)
    )
    logits = [share.new_empty(share.shape, dtype=torch.float32) for share in shares]
    return grad_x, [table.new_empty(table.shape) for table in tables], logits


schema.define(
    "gate_ids(Tensor logits) -> Tensor",
    _gate_ids,
    lambda logits: logits.new_empty((logits.shape[0],), dtype=torch.uint8),
)
schema.define(
    "bit_logic(Tensor x, Tensor[] gates, Tensor[] a, Tensor[] b, Tensor[] candidates, int k, float tau,"
    " Tensor? words=None) -> (Tensor, Tensor[])",
    _reference,
    _fake,
)
schema.define(
    "bit_logic_backward(Tensor grad, Tensor[] words, Tensor[] tables, Tensor[] a, Tensor[] b, Tensor[] shares,"
    " Tensor[] candidates, bool[] of_logits, float tau, float[] factors, bool need_grad_x)"
    " -> (Tensor, Tensor[], Tensor[])",
    _reference_backward,
    _fake_backward,
)
