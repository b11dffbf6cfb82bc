"""A stack of straight-through layers and a group sum as one op on packed bits.

The forward pass evaluates hard gates on packed samples, and what it keeps for the backward pass is the packed input of
each layer: a 32nd of what float activations take. The backward pass walks the layers from the last to the first; with
bits u, v of a gate and its soft table t, ∂y/∂t_ij = [u = i][v = j], ∂y/∂u = t_1v − t_0v and ∂y/∂v = t_u1 − t_u0.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lgn_lightning.ops import arguments, library
from lgn_lightning.ops.bits import group_sum_packed_reference, logic_packed_reference, unpack_bits_reference
from lgn_lightning.ops.bits_activations import BITS, empty_words, round_to_bits_reference
from lgn_lightning.ops.checks import check_groups, check_matrix
from lgn_lightning.ops.choices import check_choices, choices_backward_reference, choose_backward_reference
from lgn_lightning.ops.dense import logic_backward_reference

__all__ = ["BitLayer", "bit_logic", "gate_ids"]


Tensors = list[Tensor]


class BitLayer(NamedTuple):
    """A layer of hard gates and the soft table that its gradient is that of.

    Attributes:
        table: Soft table, float32 ``[n, 4]``, which receives the gradient.
        gates: Ids of the hard gates, uint8 ``[n]``.
        a: First inputs of the gates, int32 ``[n]``.
        b: Second inputs, likewise.
        factor: What the gradient that flows to the inputs is multiplied by.
        of_logits: Whether ``table`` holds the logits whose sigmoids are the soft table; they receive the gradient then,
            and the table is made in the backward pass alone.
        logits: Of the candidates of learned connections, float32 ``[n, 2, K]``, which receive the gradient of
            :func:`~lgn_lightning.ops.learn_choices` through the softmax.
        shares: The softmax of these, as :func:`~lgn_lightning.ops.choose` gives it; no gradient flows to it.
        candidates: Those candidates, int32 ``[n, 2, K]``. Such wires are not expected to come again: nothing is
            prepared for them and kept.
    """

    table: Tensor
    gates: Tensor
    a: Tensor
    b: Tensor
    factor: float = 1.0
    of_logits: bool = False
    logits: Tensor | None = None
    shares: Tensor | None = None
    candidates: Tensor | None = None


def bit_logic(x: Tensor, layers: Sequence[BitLayer], k: int, tau: float = 1.0, words: Tensor | None = None) -> Tensor:
    """Evaluates layers of hard gates one after another and sums groups; the gradient is that of the soft tables.

    Args:
        x: ``[batch, in]``, bool or floating point; a bit is ``x > 0.5``, whose gradient is passed straight through.
        layers: From the first to the last.
        k: Number of groups of the last layer, the number of classes.
        tau: Temperature that the sums are divided by.
        words: The bits of ``x`` if they are packed already, as in :class:`~lgn_lightning.ops.BitActivations`; ``x`` is
            their edge then.

    Returns:
        Scores, float32 ``[batch, k]``.
    """
    if not layers:
        raise ValueError("bit_logic takes at least one layer")
    check_matrix(x)
    for layer in layers:
        check_layer(layer)
    check_groups(len(layers[-1].gates), k)
    # Autograd sees no tensor inside a record or a list: the fields come one after the other, each of all layers.
    table, gates, a, b, factors, of_logits, logits, shares, candidates = map(list, zip(*layers, strict=True))
    shares = [None if share is None else share.detach() for share in shares]
    stack = _Stack(len(layers), k, tau, factors, of_logits)
    return cast(Tensor, _BitLogic.apply(stack, x, words, *table, *logits, *gates, *a, *b, *shares, *candidates))


def check_layer(layer: BitLayer) -> None:
    """Refuses a layer whose parts do not fit one another."""
    tensors = {name: getattr(layer, name) for name in ("table", "gates", "a", "b")}
    n = len(layer.gates)
    if [tuple(tensor.shape) for tensor in tensors.values()] != [(n, 4), (n,), (n,), (n,)]:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"{shapes} of a layer do not fit: [n, 4], [n], [n] and [n] do")
    if [tensor.dtype for tensor in tensors.values()] != [torch.float32, torch.uint8, torch.int32, torch.int32]:
        dtypes = ", ".join(f"{name} {tensor.dtype}" for name, tensor in tensors.items())
        raise TypeError(f"{dtypes} of a layer must be float32, uint8, int32 and int32")
    if len({part is None for part in (layer.logits, layer.shares, layer.candidates)}) != 1:
        raise ValueError("a layer has one of logits, shares and candidates without the others")
    if layer.logits is not None and layer.shares is not None and layer.candidates is not None:
        check_choices(layer.logits, layer.candidates, len(layer.gates))
        check_choices(layer.shares, layer.candidates, len(layer.gates))


class _Stack(NamedTuple):
    """What is no tensor among the arguments of a stack."""

    layers: int
    k: int
    tau: float
    factors: list[float]
    of_logits: list[bool]


class _BitLogic(torch.autograd.Function):
    """The op with its gradient.

    A formula registered with torch would build trees of the lists of tensors at every call, which takes as long as a
    small net's kernels, and zeros for the gradients of words.
    """

    @staticmethod
    def forward(ctx: Any, stack: _Stack, x: Tensor, words: Tensor | None, *fields: Tensor | None) -> Tensor:
        tables, _, gates, a, b, shares, candidates = by_field(fields, stack.layers)
        candidates = [x.new_empty((0,), dtype=torch.int32) if wires is None else wires for wires in candidates]
        scores, bits = torch.ops.lgn.bit_logic(x, gates, a, b, candidates, stack.k, stack.tau, words)
        ctx.stack, ctx.dtype = stack, x.dtype
        ctx.save_for_backward(*bits, *tables, *a, *b, *shares, *candidates)
        return scores  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        stack, need_x = ctx.stack, ctx.needs_input_grad[1]
        *kept, shares, candidates = by_field(ctx.saved_tensors, stack.layers)
        empty = grads[0].new_empty((0,), dtype=torch.float32)
        learn = ctx.needs_input_grad[3 + stack.layers : 3 + 2 * stack.layers]
        shares = [share if share is not None and wanted else empty for share, wanted in zip(shares, learn, strict=True)]
        rest = shares, candidates, stack.of_logits, stack.tau, stack.factors, need_x
        grad_x, grad_tables, grad_logits = library.backward("bit_logic_backward", grads[0], *kept, *rest)
        grad_logits = [grad if wanted else None for grad, wanted in zip(grad_logits, learn, strict=True)]
        grad_x = grad_x.to(ctx.dtype) if need_x else None
        return None, grad_x, None, *grad_tables, *grad_logits, *[None] * (5 * stack.layers)


def by_field(tensors: Sequence[Any], layers: int) -> list[list[Any]]:
    """Groups tensors that come field by field, each of all layers."""
    return [list(tensors[i : i + layers]) for i in range(0, len(tensors), layers)]


def gate_ids(logits: Tensor) -> Tensor:
    """Ids of the two-input gates that logits settle on, uint8 ``[n]``, without a gradient.

    ``logits`` are floating point ``[n, 4]``, one a table entry, which is 1 if its logit is positive; or ``[n, 16]``,
    one a gate, of which the first largest counts. Natively compared in single precision.
    """
    if logits.ndim != 2 or logits.shape[1] not in (4, 16):
        raise ValueError(f"logits has shape {list(logits.shape)}, but gate_ids takes [gates, 4] or [gates, 16]")
    return torch.ops.lgn.gate_ids(logits.detach())  # type: ignore[no-any-return]


@library.op("gate_ids(Tensor logits) -> Tensor")
def gate_ids_reference(logits: Tensor) -> Tensor:
    if logits.shape[1] == 16:
        return logits.argmax(1).to(torch.uint8)
    # Of bytes, since sums of bools with shifts would pass through int64.
    t00, t01, t10, t11 = (logits > 0).to(torch.uint8).unbind(1)
    return t00 * 8 + t01 * 4 + t10 * 2 + t11


def _fake(
    x: Tensor, gates: Tensors, a: Tensors, b: Tensors, candidates: Tensors, k: int, *rest: Any
) -> tuple[Tensor, Tensors]:
    widths = [x.shape[1], *(first.shape[0] for first in a[:-1])]
    scores = x.new_empty((x.shape[0], k), dtype=torch.float32)
    rows = (x.shape[0] + BITS - 1) // BITS
    return scores, [empty_words("bit_logic", x, rows, width) for width in widths]


def _fake_backward(
    grad: Tensor, words: Tensors, tables: Tensors, a: Any, b: Any, shares: Tensors, *rest: Any
) -> tuple[Tensor, Tensors, Tensors]:
    x = grad.new_empty((grad.shape[0], words[0].shape[1]), dtype=torch.float32)
    logits = [share.new_empty(share.shape, dtype=torch.float32) for share in shares]
    tables = [table.new_empty(table.shape) for table in tables]
    return library.empty_grad_x("bit_logic_backward", x, rest[-1]), tables, logits


@library.op(
    "bit_logic(Tensor x, Tensor[] gates, Tensor[] a, Tensor[] b, Tensor[] candidates, int k, float tau,"
    " Tensor? words=None) -> (Tensor, Tensor[])",
    _fake,
)
def bit_logic_reference(
    x: Tensor,
    gates: Tensors,
    a: Tensors,
    b: Tensors,
    candidates: Tensors,
    k: int,
    tau: float,
    words: Tensor | None = None,
) -> tuple[Tensor, Tensors]:
    """Scores ``[batch, k]``, and the packed inputs of each layer, int64 ``[ceil(batch / 64), in]``."""
    bits = [round_to_bits_reference(x) if words is None else words.clone()]
    for ids, first, second, wires in zip(gates, a, b, candidates, strict=True):
        arguments.check("bit_logic_layer", bits[-1], ids, first, second, wires)
        bits.append(logic_packed_reference(bits[-1], ids, first, second))
    return group_sum_packed_reference(bits.pop(), k, x.shape[0]).float() / tau, bits


@library.op(
    "bit_logic_backward(Tensor grad, Tensor[] words, Tensor[] tables, Tensor[] a, Tensor[] b, Tensor[] shares,"
    " Tensor[] candidates, bool[] of_logits, float tau, float[] factors, bool need_grad_x)"
    " -> (Tensor, Tensor[], Tensor[])",
    _fake_backward,
)
def bit_logic_backward_reference(
    grad: Tensor,
    words: Tensors,
    tables: Tensors,
    a: Tensors,
    b: Tensors,
    shares: Tensors,
    candidates: Tensors,
    of_logits: list[bool],
    tau: float,
    factors: list[float],
    need_grad_x: bool,
) -> tuple[Tensor, Tensors, Tensors]:
    """Gradients of ``x`` (empty if not wanted), float32, of the tables, and of logits (empty where shares are)."""
    g = (grad.float().t() / tau).repeat_interleave(a[-1].shape[0] // grad.shape[1], dim=0).t()
    grad_tables: Tensors = []
    grad_logits: Tensors = []
    layers = list(zip(words, tables, a, b, shares, candidates, of_logits, factors, strict=True))
    for packed, given, first, second, share, wires, sigmoid, factor in reversed(layers):
        arguments.check("bit_logic_backward_layer", grad, packed, given, first, second, share, wires)
        table = torch.sigmoid(given) if sigmoid else given
        bits = unpack_bits_reference(packed, grad.shape[0]).float()
        grad_choice = bits.new_empty((0,))
        if len(share) > 0:
            grad_shares = choices_backward_reference(g, bits, table, first, second, wires)
            grad_choice = choose_backward_reference(grad_shares, share)
        grad_logits.insert(0, grad_choice)
        wanted = need_grad_x or len(grad_logits) < len(layers)
        g, grad_table = logic_backward_reference(g, bits, table, first, second, wanted)
        grad_tables.insert(0, grad_table * table * (1 - table) if sigmoid else grad_table)
        g = g * factor
    return g, grad_tables, grad_logits
