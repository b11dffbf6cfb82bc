"""A stack of straight-through layers that is applied step by step, its state on packed bits: back-propagation in time.

The forward pass keeps the packed inputs and the state of every step, so memory is linear in steps · bits. The backward
pass goes from the last step to the first, evaluates the layers of each again, and sends the gradient through them as
:func:`bit_logic` does.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lgn_lightning.ops import library
from lgn_lightning.ops.bits_activations import new_edge, word_pitch
from lgn_lightning.ops.straight_through import BitLayer, by_field, check_layer

__all__ = ["BitSteps", "bit_steps"]


class BitSteps(NamedTuple):
    """What a step's outputs are, and what is made of all steps.

    Attributes:
        own: Output bits, the first of the last layer; 0 if the outputs are the next state.
        state: Bits of state.
        memory: What the next state is: the rest of the last layer (``"gates"``), a ``"multiplexer"`` by its
            [update, candidate], or a ``"delay"`` line, the first bits of [input, state].
        readout: ``"last"``, ``"sum"`` or ``"every"`` step.
        k: Groups of the outputs that are summed.
        tau: What these sums are divided by.
        truncate: Steps after which the gradient of the state ends; 0 for never.
    """

    own: int
    state: int
    memory: str
    readout: str
    k: int
    tau: float = 1.0
    truncate: int = 0


def bit_steps(
    x: Tensor, layers: Sequence[BitLayer], steps: BitSteps, initial: Tensor | None = None, lengths: Tensor | None = None
) -> Tensor:
    """Applies layers of hard gates to the inputs and the state of each step in turn; gradients as in :func:`bit_logic`.

    Args:
        x: ``[batch, steps, in]``, bool or floating point; a bit is ``x > 0.5``.
        layers: From [in + state] inputs to what `BitSteps` describes.
        steps: That.
        initial: State before the first step, floats ``[state]``, rounded to bits; zeros if None.
        lengths: Steps of each sample that count, int64 ``[batch]``; all if None.

    Returns:
        Sums of groups, float32 ``[batch, k]``, or ``[batch, steps, k]`` of every step.
    """
    for layer in layers:
        check_layer(layer)
    table, gates, a, b, factors, of_logits, logits, shares, candidates = map(list, zip(*layers, strict=True))
    shares = [None if share is None else share.detach() for share in shares]
    about = _About(len(layers), steps, factors, of_logits)
    tensors = (*table, *logits, *gates, *a, *b, *shares, *candidates)
    scores = cast(Tensor, _BitSteps.apply(about, x, initial, None if lengths is None else lengths.long(), *tensors))
    return scores if steps.readout == "every" else scores[:, 0]


class _About(NamedTuple):
    """What is no tensor."""

    layers: int
    steps: BitSteps
    factors: list[float]
    of_logits: list[bool]


class _BitSteps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, about: _About, x: Tensor, initial: Tensor | None, lengths: Tensor | None, *fields: Tensor | None
    ) -> Tensor:
        tables, _, gates, a, b, shares, candidates = by_field(fields, about.layers)
        candidates = [x.new_empty((0,), dtype=torch.int32) if wires is None else wires for wires in candidates]
        words = torch.ops.lgn.round_to_bits(x.permute(1, 2, 0).contiguous().permute(2, 0, 1)[..., None])[..., 0]
        own, state, memory, readout, k, tau, _ = about.steps
        wires = gates, a, b, candidates
        given = len(x), own, state, memory, readout, k, tau, any(ctx.needs_input_grad)
        scores, inputs = torch.ops.lgn.bit_steps(words, initial, lengths, *wires, *given)
        ctx.about, ctx.dtype, ctx.lengths = about, x.dtype, lengths
        ctx.save_for_backward(inputs, *gates, *tables, *a, *b, *shares, *candidates)
        return cast(Tensor, scores)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        about, layers = ctx.about, ctx.about.layers
        inputs, *saved = ctx.saved_tensors
        *kept, shares, candidates = by_field(saved, layers)
        need_x, need_initial = ctx.needs_input_grad[1:3]
        learn = ctx.needs_input_grad[4 + layers : 4 + 2 * layers]
        empty = grads[0].new_empty((0,), dtype=torch.float32)
        shares = [share if share is not None and wanted else empty for share, wanted in zip(shares, learn, strict=True)]
        own, state, memory, readout, _, tau, truncate = about.steps
        given = about.of_logits, own, state, memory, readout, tau, truncate, about.factors, need_x, need_initial
        found = library.backward("bit_steps_backward", grads[0], inputs, ctx.lengths, *kept, shares, candidates, *given)
        of_x, of_initial, of_tables, of_logits = found
        of_logits = [grad if wanted else None for grad, wanted in zip(of_logits, learn, strict=True)]
        of_x, of_initial = of_x.to(ctx.dtype) if need_x else None, of_initial if need_initial else None
        return None, of_x, of_initial, None, *of_tables, *of_logits, *[None] * (5 * layers)


Tensors = list[Tensor]


def _fake(words: Tensor, initial: Any, lengths: Any, *rest: Any) -> tuple[Tensor, Tensor]:
    _, _, _, _, batch, _, state, _, readout, k, _, keep = rest
    _, count, width = words.shape
    scores = words.new_empty((batch, count if readout == "every" else 1, k), dtype=torch.float32)
    return scores, _new_inputs(words, count if keep else 1, width + state)


def _new_inputs(words: Tensor, count: int, width: int) -> Tensor:
    """Empty words ``[rows, count, width]``, feature-major."""
    rows = words.shape[0]
    pitch = word_pitch(rows)
    return words.new_empty_strided((rows, count, width), (1, width * pitch, pitch))


@library.op(
    "bit_steps(Tensor words, Tensor? initial, Tensor? lengths, Tensor[] gates, Tensor[] a, Tensor[] b,"
    " Tensor[] candidates, int batch, int own, int state, str memory, str readout, int k, float tau, bool keep)"
    " -> (Tensor, Tensor)",
    _fake,
)
def bit_steps_reference(
    words: Tensor,
    initial: Tensor | None,
    lengths: Tensor | None,
    gates: Tensors,
    a: Tensors,
    b: Tensors,
    candidates: Tensors,
    batch: int,
    own: int,
    state: int,
    memory: str,
    readout: str,
    k: int,
    tau: float,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Scores ``[batch, reads, k]`` of each step that is read, and the packed inputs and state ``[rows, steps, …]``.

    ``words`` are the packed inputs, int64 ``[rows, steps, in]``. Unless kept, those of one step come back.
    """
    steps, (_, count, width) = BitSteps(own, state, memory, readout, k, tau), words.shape
    inputs = _new_inputs(words, count if keep else 1, width + state)
    following = _packed_state(initial, state, words)
    read = _Readout(steps, batch, count, lengths)
    for t in range(count):
        into = inputs[:, t if keep else 0]
        into[:, :width].copy_(words[:, t])
        into[:, width:].copy_(following)
        out = _evaluate(into, batch, gates, a, b, candidates)[-1]
        following = _next_state(steps, out, into).clone()
        read.add(t, out[:, :own] if own else following)
    return read.result(words), inputs


def _evaluate(into: Tensor, batch: int, gates: Tensors, a: Tensors, b: Tensors, candidates: Tensors) -> Tensors:
    """The packed inputs of each layer of a step, and the outputs of the last."""
    # A layer of one gate behind the others, whose inputs are then kept as those of any layer.
    one, empty = a[0].new_zeros(1), a[0].new_empty((0,))
    stack = [*gates, one.to(torch.uint8)], [*a, one], [*b, one], [*candidates, empty]
    edge = new_edge(into, (batch, into.shape[1]))
    return cast(Tensors, torch.ops.lgn.bit_logic(edge, *stack, 1, 1.0, into)[1])


def _fake_backward(
    grad: Tensor, inputs: Tensor, lengths: Any, gates: Any, tables: Tensors, a: Any, b: Any, shares: Tensors, *rest: Any
) -> tuple[Tensor, Tensor, Tensors, Tensors]:
    state, need_x, need_initial = rest[3], *rest[-2:]
    batch, count, width = grad.shape[0], inputs.shape[1], inputs.shape[2] - state
    of_x = grad.new_empty((count, width, batch) if need_x else (0,), dtype=torch.float32)
    return (
        of_x.permute(2, 0, 1) if need_x else of_x,
        grad.new_empty((state if need_initial else 0,), dtype=torch.float32),
        [table.new_empty(table.shape) for table in tables],
        [share.new_empty(share.shape, dtype=torch.float32) for share in shares],
    )


@library.op(
    "bit_steps_backward(Tensor grad, Tensor inputs, Tensor? lengths, Tensor[] gates, Tensor[] tables, Tensor[] a,"
    " Tensor[] b, Tensor[] shares, Tensor[] candidates, bool[] of_logits, int own, int state, str memory, str readout,"
    " float tau, int truncate, float[] factors, bool need_grad_x, bool need_grad_initial)"
    " -> (Tensor, Tensor, Tensor[], Tensor[])",
    _fake_backward,
)
def bit_steps_backward_reference(
    grad: Tensor,
    inputs: Tensor,
    lengths: Tensor | None,
    gates: Tensors,
    tables: Tensors,
    a: Tensors,
    b: Tensors,
    shares: Tensors,
    candidates: Tensors,
    of_logits: list[bool],
    own: int,
    state: int,
    memory: str,
    readout: str,
    tau: float,
    truncate: int,
    factors: list[float],
    need_grad_x: bool,
    need_grad_initial: bool,
) -> tuple[Tensor, Tensor, Tensors, Tensors]:
    """Gradients of the inputs ``[batch, steps, in]`` and of the initial state, of the tables, and of logits."""
    steps = BitSteps(own, state, memory, readout, grad.shape[2], tau, truncate)
    (_, count, both), batch = inputs.shape, len(grad)
    width, of_outputs = both - state, grad.new_zeros((len(tables[-1]), batch), dtype=torch.float32)
    of_x = of_outputs.new_zeros((count, width, batch))
    sums = [torch.zeros_like(tensor, dtype=torch.float32) for tensor in (*tables, *shares)]
    of_state = None  # [state, batch]; None is zero
    read = _ReadoutGradient(steps, grad, count, lengths)
    for t in reversed(range(count)):
        if truncate and t + 1 < count and (t + 1) % truncate == 0:
            of_state = None
        of_output = read.at(t)
        if memory == "delay" and not (need_grad_x or need_grad_initial):
            of_state = None  # it leads to no weights
        if of_output is not None and not own:
            of_state = of_output if of_state is None else of_state + of_output
        if of_output is None and of_state is None:
            continue
        into = inputs[:, t]
        *kept, out = _evaluate(into, batch, gates, a, b, candidates)
        if own:
            of_outputs[:own] = 0 if of_output is None else of_output
        direct = of_outputs.new_zeros((both, batch))
        if of_state is None:
            of_outputs[own:] = 0
        elif memory == "delay":
            direct[:state] = of_state
        elif memory == "gates":
            of_outputs[own:] = of_state
        else:
            bits = torch.ops.lgn.unpack_bits(torch.cat([out[:, own:], into[:, width:]], 1), batch).t().float()
            update, candidate, before = bits[:state], bits[state : 2 * state], bits[2 * state :]
            of_outputs[own:] = torch.cat([of_state * (candidate - before), of_state * update])
            direct[width:] = of_state * (1 - update)
        given = kept, tables, a, b, shares, candidates, of_logits, 1.0, factors, True
        of_in, of_tables, of_choices = torch.ops.lgn.bit_logic_backward(of_outputs.t(), *given)
        direct += of_in.t()
        of_x[t], of_state = direct[:width], direct[width:]
        for total, part in zip(sums, [*of_tables, *of_choices], strict=True):
            total += part
    of_initial = of_outputs.new_zeros(state) if of_state is None else of_state.sum(1)
    return (
        of_x.permute(2, 0, 1) if need_grad_x else of_x.new_empty((0,)),
        of_initial if need_grad_initial else of_x.new_empty((0,)),
        sums[: len(tables)],
        sums[len(tables) :],
    )


def _packed_state(initial: Tensor | None, state: int, like: Tensor) -> Tensor:
    words = like.new_zeros((like.shape[0], state))
    return words if initial is None else words.copy_(-(initial > 0.5).to(torch.int64))


def _next_state(steps: BitSteps, out: Tensor, into: Tensor) -> Tensor:
    if steps.memory == "delay":
        return into[:, : steps.state]
    rest = out[:, steps.own :]
    if steps.memory == "gates":
        return rest
    update, candidate, state = rest[:, : steps.state], rest[:, steps.state :], into[:, -steps.state :]
    return state ^ update & (state ^ candidate)


class _Readout:
    """Collects the sums of groups of the steps that count."""

    def __init__(self, steps: BitSteps, batch: int, count: int, lengths: Tensor | None) -> None:
        self.steps, self.batch, self.count, self.lengths = steps, batch, count, lengths
        self.ends = {count} if lengths is None else set(lengths.tolist())
        self.sums: list[Tensor] = []

    def add(self, t: int, bits: Tensor) -> None:
        if self.steps.readout == "last" and t + 1 not in self.ends:
            return
        counts = torch.ops.lgn.group_sum_packed(bits, self.steps.k, self.batch).float()
        if self.lengths is not None and self.steps.readout != "every":
            counts = counts * _counts_at(self.steps, self.lengths, t)[:, None]
        if self.steps.readout == "every" or not self.sums:
            self.sums.append(counts)
        else:
            self.sums[0] += counts

    def result(self, like: Tensor) -> Tensor:
        sums = self.sums or [like.new_zeros((self.batch, self.steps.k), dtype=torch.float32)]
        return torch.stack(sums, 1) / self.steps.tau


class _ReadoutGradient:
    """Gives the gradient of the output bits of a step, ``[out, batch]``; None where it is zero."""

    def __init__(self, steps: BitSteps, grad: Tensor, count: int, lengths: Tensor | None) -> None:
        self.steps, self.grad, self.count, self.lengths = steps, grad.float() / steps.tau, count, lengths
        self.group = (steps.own or steps.state) // steps.k

    def at(self, t: int) -> Tensor | None:
        every = self.steps.readout == "every"
        grad = self.grad[:, t if every else 0]
        if self.lengths is not None and not every:
            grad = grad * _counts_at(self.steps, self.lengths, t)[:, None]
        elif self.steps.readout == "last" and t + 1 < self.count:
            return None
        return grad.t().repeat_interleave(self.group, 0)


def _counts_at(steps: BitSteps, lengths: Tensor, t: int) -> Tensor:
    """1 where a step counts in the score of a sample, ``[batch]``."""
    return (lengths == t + 1 if steps.readout == "last" else lengths > t).float()
