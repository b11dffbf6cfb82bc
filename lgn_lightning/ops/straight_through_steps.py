"""A stack of straight-through layers that is applied step by step, its state on packed bits: back-propagation in time.

The forward pass keeps the packed inputs of every layer of every step, so memory is linear in steps · bits. The backward
pass goes from the last step to the first and sends each through the layers as :func:`bit_logic` does.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lgn_lightning.ops import library
from lgn_lightning.ops.bits_activations import new_edge
from lgn_lightning.ops.straight_through import BitLayer, by_field, check_layer

__all__ = ["BitSteps", "bit_steps"]

#: Words of a row are padded to that many, as kernels make them.
_ROW_WORDS = 2


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
    return cast(Tensor, _BitSteps.apply(about, x, initial, lengths, *tensors))


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
        _, _, gates, a, b, shares, candidates = by_field(fields, about.layers)
        empty = x.new_empty((0,), dtype=torch.int32)
        candidates = [empty if wires is None else wires for wires in candidates]
        steps, (batch, count, width) = about.steps, x.shape
        words = torch.ops.lgn.round_to_bits(x.permute(1, 2, 0).contiguous().permute(2, 0, 1)[..., None])[..., 0]
        state = _packed_state(initial, steps.state, words)
        # A layer of one gate behind the others, whose inputs are then kept as those of any layer: the outputs of all.
        one = empty.new_zeros(1)
        stack = [*gates, one.to(torch.uint8)], [*a, one], [*b, one], [*candidates, empty]
        edge = new_edge(x, (batch, width + steps.state))
        kept: list[Tensor] = []
        keeps = any(ctx.needs_input_grad)
        read = _Readout(steps, batch, count, lengths)
        for t in range(count):
            into = _new_words(words, width + steps.state)
            into[:, :width].copy_(words[:, t])
            into[:, width:].copy_(state)
            _, bits = torch.ops.lgn.bit_logic(edge, *stack, 1, 1.0, into)
            if keeps:
                kept += bits
            out = bits[-1]
            state = _next_state(steps, out, into, state)
            read.add(t, out[:, : steps.own] if steps.own else state)
        ctx.about, ctx.shape, ctx.dtype, ctx.lengths = about, x.shape, x.dtype, lengths
        tables = fields[: about.layers]
        ctx.save_for_backward(*kept, *tables, *a, *b, *shares, *candidates)
        return read.result(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        about, (batch, count, width) = ctx.about, ctx.shape
        steps, layers = about.steps, about.layers
        saved = ctx.saved_tensors
        kept = by_field(saved[: count * (layers + 1)], layers + 1)
        tables, a, b, shares, candidates = by_field(saved[count * (layers + 1) :], layers)
        need_x, need_initial = ctx.needs_input_grad[1:3]
        learn = ctx.needs_input_grad[4 + layers : 4 + 2 * layers]
        empty = grads[0].new_empty((0,), dtype=torch.float32)
        shares = [share if share is not None and wanted else empty for share, wanted in zip(shares, learn, strict=True)]
        grad_x = grads[0].new_empty((count, width, batch), dtype=torch.float32) if need_x else None
        sums: list[Tensor] | None = None
        grad_state: Tensor | None = None  # [state, batch]; None is zero
        read = _ReadoutGradient(steps, grads[0], count, ctx.lengths)
        grad = grads[0].new_zeros((len(tables[-1]), batch), dtype=torch.float32)  # of a step's outputs
        written = False  # whether it holds those of a step that counts
        for t in reversed(range(count)):
            if steps.truncate and t + 1 < count and (t + 1) % steps.truncate == 0:
                grad_state = None
            *inputs, out = kept[t]
            of_output = read.at(t)
            if steps.memory == "delay":
                if not (need_x or need_initial):
                    grad_state = None  # it leads to no weights
                direct = grad[:0].new_zeros((width + steps.state, batch))
                if grad_state is not None:
                    direct[: steps.state] = grad_state
            if of_output is None and grad_state is None:  # nothing of it counts, or its state is cut off
                if grad_x is not None:
                    grad_x[t] = 0
                continue
            if steps.own and (of_output is not None or written):
                grad[: steps.own] = 0 if of_output is None else of_output
                written = of_output is not None
            elif of_output is not None:
                grad_state = of_output if grad_state is None else grad_state + of_output
            kept_state = None
            if steps.memory == "delay":
                kept_state = direct[width:]
            elif grad_state is None:
                grad[steps.own :] = 0
            else:
                kept_state = _state_gradient(steps, grad, grad_state, out, inputs[0][:, width:], batch)
            given = inputs, tables, a, b, shares, candidates, about.of_logits, 1.0, about.factors, True
            grad_in, grad_tables, grad_logits = library.backward("bit_logic_backward", grad.t(), *given)
            grad_in = grad_in.t()
            if grad_x is not None:
                grad_x[t] = grad_in[:width] + direct[:width] if steps.memory == "delay" else grad_in[:width]
            grad_state = grad_in[width:] if kept_state is None else grad_in[width:] + kept_state
            found = [*grad_tables, *grad_logits]
            sums = found if sums is None else [total.add_(part) for total, part in zip(sums, found, strict=True)]
        assert sums is not None  # the last step counts
        grad_logits = [part if wanted else None for part, wanted in zip(sums[layers:], learn, strict=True)]
        of_x = None if grad_x is None else grad_x.permute(2, 0, 1).to(ctx.dtype)
        of_initial = None
        if need_initial:
            zeros = grads[0].new_zeros((steps.state, 1), dtype=torch.float32)
            of_initial = (zeros if grad_state is None else grad_state).sum(1)
        return None, of_x, of_initial, None, *sums[:layers], *grad_logits, *[None] * (5 * layers)


def _new_words(like: Tensor, features: int) -> Tensor:
    """Empty words ``[rows, features]``, feature-major."""
    rows = like.shape[0]
    pitch = -(-max(rows, 1) // _ROW_WORDS) * _ROW_WORDS
    return like.new_empty_strided((rows, features), (1, pitch))


def _packed_state(initial: Tensor | None, state: int, like: Tensor) -> Tensor:
    words = _new_words(like, state)
    return words.zero_() if initial is None else words.copy_(-(initial > 0.5).to(torch.int64))


def _next_state(steps: BitSteps, out: Tensor, into: Tensor, state: Tensor) -> Tensor:
    if steps.memory == "delay":
        return into[:, : steps.state]
    rest = out[:, steps.own :]
    if steps.memory == "gates":
        return rest
    update, candidate = rest[:, : steps.state], rest[:, steps.state :]
    return state ^ update & (state ^ candidate)


def _state_gradient(
    steps: BitSteps, grad: Tensor, grad_state: Tensor, out: Tensor, state: Tensor, batch: int
) -> Tensor | None:
    """Writes the gradient of the next state into that of the last layer; returns what goes to the state directly."""
    own, n = steps.own, steps.state
    if steps.memory == "gates":
        grad[own:] = grad_state
        return None
    bits = torch.ops.lgn.unpack_bits(torch.cat([out[:, own:], state], 1), batch).t().float()
    update, candidate, before = bits[:n], bits[n : 2 * n], bits[2 * n :]
    grad[own : own + n] = grad_state * (candidate - before)
    grad[own + n :] = grad_state * update
    return cast(Tensor, grad_state * (1 - update))


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
        if not self.sums:
            return like.new_zeros((self.batch, self.steps.k), dtype=torch.float32)
        sums = torch.stack(self.sums, 1) if self.steps.readout == "every" else self.sums[0]
        return sums / self.steps.tau


class _ReadoutGradient:
    """Gives the gradient of the output bits of a step, ``[out, batch]``; None where it is zero."""

    def __init__(self, steps: BitSteps, grad: Tensor, count: int, lengths: Tensor | None) -> None:
        self.steps, self.grad, self.count, self.lengths = steps, grad.float() / steps.tau, count, lengths
        self.group = (steps.own or steps.state) // steps.k

    def at(self, t: int) -> Tensor | None:
        grad = self.grad
        if self.steps.readout == "every":
            grad = grad[:, t]
        elif self.lengths is not None:
            grad = grad * _counts_at(self.steps, self.lengths, t)[:, None]
        elif self.steps.readout == "last" and t + 1 < self.count:
            return None
        return grad.t().repeat_interleave(self.group, 0)


def _counts_at(steps: BitSteps, lengths: Tensor, t: int) -> Tensor:
    """1 where a step counts in the score of a sample, ``[batch]``."""
    return (lengths == t + 1 if steps.readout == "last" else lengths > t).float()
