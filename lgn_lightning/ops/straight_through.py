"""A stack of straight-through layers and a group sum as one op on packed bits: schema, reference, gradients, function.

The forward pass evaluates hard gates on packed samples, and what it keeps for the backward pass is the packed input of
each layer: a 32nd of what float activations take. The backward pass walks the layers from the last to the first; with
bits u, v of a gate and its soft table t, ∂y/∂t_ij = [u = i][v = j], ∂y/∂u = t_1v − t_0v and ∂y/∂v = t_u1 − t_u0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
        words: The bits of ``x`` if they are packed already, as in
            :class:`~lgn_lightning.ops.bit_activations.BitActivations`; ``x`` is their edge then. On a CPU only.

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
    parts = {"tables": tables, "gates": gates, "a": a, "b": b, "factors": factors}
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
    no_shares, no_candidates = x.new_empty((0,), dtype=torch.float32), x.new_empty((0,), dtype=torch.int32)
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
    lists = [list(tables), list(gates), list(a), list(b)]
    lists.append([no_shares if logit is None else logit for logit in logits])
    lists.append([no_shares if share is None else share.detach() for share in shares])
    lists.append([no_candidates if wires is None else wires for wires in candidates])
    return torch.ops.lgn.bit_logic(x, *lists, k, tau, factors, words)[0]  # type: ignore[no-any-return]


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
    tables: list[Tensor],
    gates: list[Tensor],
    a: list[Tensor],
    b: list[Tensor],
    logits: list[Tensor],
    shares: list[Tensor],
    candidates: list[Tensor],
    k: int,
    tau: float,
    factors: list[float],
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
    tau: float,
    factors: list[float],
    need_grad_x: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Gradients of ``x`` (empty if not wanted), float32, of the tables, and of logits (empty where there are none)."""
    g = (grad.float().t() / tau).repeat_interleave(a[-1].shape[0] // grad.shape[1], dim=0).t()
    grad_tables: list[Tensor] = []
    grad_logits: list[Tensor] = []
    for layer in range(len(tables) - 1, -1, -1):
        bits = reference.unpack_bits(words[layer], grad.shape[0]).float()
        wanted = need_grad_x or layer > 0
        wires = a[layer], b[layer], candidates[layer]
        of_logits = bits.new_empty((0,))
        if len(candidates[layer]) > 0:
            of_logits = softmax_backward(reference_backward(g, bits, tables[layer], *wires), shares[layer])
        grad_logits.insert(0, of_logits)
        g, grad_table = reference.logic_backward(g, bits, tables[layer], a[layer], b[layer], wanted)
        g = g * factors[layer]
        grad_tables.insert(0, grad_table)
    return g, grad_tables, grad_logits


def _fake(
    x: Tensor, tables: list[Tensor], gates: list[Tensor], a: list[Tensor], b: list[Tensor], *rest: Any
) -> tuple[Tensor, list[Tensor]]:
    k = rest[3]
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
    logits = [wires.new_empty(wires.shape, dtype=torch.float32) for wires in candidates]
    return grad_x, [table.new_empty(table.shape) for table in tables], logits


schema.define(
    "gate_ids(Tensor logits) -> Tensor",
    _gate_ids,
    lambda logits: logits.new_empty((logits.shape[0],), dtype=torch.uint8),
)
schema.define(
    "bit_logic(Tensor x, Tensor[] tables, Tensor[] gates, Tensor[] a, Tensor[] b, Tensor[] logits, Tensor[] shares,"
    " Tensor[] candidates, int k, float tau, float[] factors, Tensor? words=None) -> (Tensor, Tensor[])",
    _reference,
    _fake,
)
schema.define(
    "bit_logic_backward(Tensor grad, Tensor[] words, Tensor[] tables, Tensor[] a, Tensor[] b, Tensor[] shares,"
    " Tensor[] candidates, float tau, float[] factors, bool need_grad_x) -> (Tensor, Tensor[], Tensor[])",
    _reference_backward,
    _fake_backward,
)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, list[Tensor]]) -> None:
    x, tables, _, a, b, _, shares, candidates, _, ctx.tau, ctx.factors, _ = inputs
    ctx.layers, ctx.dtype = len(tables), x.dtype
    for words in output[1]:
        words.requires_grad_(False)
    ctx.save_for_backward(*output[1], *tables, *a, *b, *shares, *candidates)


def _grad(ctx: Any, grad: Tensor, grad_words: Any) -> tuple[Any, ...]:
    n = ctx.layers
    saved = ctx.saved_tensors  # read once: saved-tensor hooks, such as those of torch.utils.checkpoint, run each time
    lists = [list(saved[i * n : (i + 1) * n]) for i in range(6)]
    need_x = ctx.needs_input_grad[0]
    grad_x, tables, logits = torch.ops.lgn.bit_logic_backward(grad, *lists, ctx.tau, ctx.factors, need_x)
    none = [None] * n
    return grad_x.to(ctx.dtype) if need_x else None, tables, none, none, none, logits, none, none, *(None,) * 4


torch.library.register_autograd("lgn::bit_logic", _grad, setup_context=_setup, lib=schema.LIBRARY)
