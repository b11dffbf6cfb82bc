"""`LogicRecurrent`: a cell applied step by step, trained by back-propagation through time."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lgn_lightning import ops
from lgn_lightning.base.choice import check_choice
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.build.sequential import SequentialBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.nn.cell import LogicCell
from lgn_lightning.nn.checked_input import CheckedInput, check_bits, check_range, free_to_look
from lgn_lightning.nn.deferred import deferring, hooked
from lgn_lightning.nn.group_sum import GroupSum
from lgn_lightning.nn.logic_layer import LogicLayer

READOUTS = ("last", "sum", "every")


class Steps(NamedTuple):
    """Bits of sequences of different lengths.

    Attributes:
        bits: ``[batch, steps, bits]``; what stands behind the end of a sequence does not count.
        lengths: Steps of each sequence, int64 ``[batch]``.
    """

    bits: Tensor
    lengths: Tensor


class LogicRecurrent(CheckedInput):
    """Applies a :class:`LogicCell` to each step of sequences of any length.

    In straight-through training, where the cell's net is a ``Sequential`` of :class:`~lgn_lightning.LogicLayer`, all
    steps run as one op on packed bits, see :func:`~lgn_lightning.ops.bit_steps`; a
    :class:`~lgn_lightning.GroupSum` behind it in a :class:`~lgn_lightning.LogicSequential` is part of it. Gates are
    then drawn once a batch. Elsewhere the steps are unrolled.

    Args:
        cell: The step.
        steps: Steps of the sequences of the training, for messages and reports; others are taken as well.
        readout: Output of the ``"last"`` step, the ``"sum"`` over all steps, or that of ``"every"`` step.
        truncate: Steps after which the gradient of the state ends (truncated back-propagation); 0 for never.
        checkpoint_every: Steps between two states that are kept, if the unrolled steps are computed anew in the
            backward pass to save memory; 0 keeps all.

    Shape:
        - Input: ``[batch, steps, in_dim]``, numbers in [0, 1], or :class:`Steps` where lengths differ.
        - Output: ``[batch, out_dim]``; of every step ``[batch, steps, out_dim]``, or :class:`Steps` of that.

    Raises:
        ValueError: If an argument is not one of the choices; when called, if a sequence has no step, or lengths do not
            fit.
    """

    def __init__(
        self,
        cell: LogicCell,
        steps: int | None = None,
        readout: str = "last",
        truncate: int = 0,
        checkpoint_every: int = 0,
    ) -> None:
        super().__init__()
        check_choice("readout", readout, READOUTS)
        if truncate < 0 or checkpoint_every < 0 or (steps is not None and steps < 1):
            raise ValueError(
                f"steps={steps}, truncate={truncate}, checkpoint_every={checkpoint_every} must be positive"
            )
        self.cell, self.steps, self.readout = cell, steps, readout
        self.truncate, self.checkpoint_every = truncate, checkpoint_every

    @property
    def in_dim(self) -> int:
        """Bits of a step."""
        return self.cell.in_dim

    @property
    def out_dim(self) -> int:
        """Bits of its output."""
        return self.cell.out_dim

    @property
    def num_state(self) -> int:
        """Bits of state of its circuit."""
        return self.cell.state_dim

    def forward(self, x: Tensor | Steps, group_sum: GroupSum | None = None) -> Any:
        """Applies the cell; a ``group_sum`` is applied to its output, in the same op if that can be."""
        x, lengths = x if isinstance(x, Steps) else (x, None)
        self._check(x, lengths)
        k, tau = (self.out_dim, 1.0) if group_sum is None else (group_sum.k, group_sum.divisor)
        layers = self._bit_layers(x) if self.out_dim % k == 0 else None  # else the group sum says what is wrong
        if layers is not None:
            cell = self.cell
            steps = ops.BitSteps(cell.own_dim, cell.state_dim, cell.memory, self.readout, k, tau, self.truncate)
            y = ops.bit_steps(x, layers, steps, cell.initial_state(), lengths)
            y = y if group_sum is None else group_sum.scores_of(y)
            return self._with_lengths(y, lengths)
        with deferring(None):  # states that are computed anew must be computed alike
            y = self._unrolled(x, lengths)
        return self._with_lengths(y if group_sum is None else group_sum(y), lengths)

    def _with_lengths(self, y: Tensor, lengths: Tensor | None) -> Tensor | Steps:
        return y if lengths is None or self.readout != "every" else Steps(y, lengths)

    def _check(self, x: Tensor, lengths: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[2] != self.in_dim:
            raise ValueError(f"LogicRecurrent got {list(x.shape)} and takes [batch, steps, {self.in_dim}]")
        if x.shape[1] == 0:
            raise ValueError("a sequence has no step: give at least one")
        looks = self.looks()
        if looks and x.dtype != torch.bool:
            soft = any(part.training for part in self.modules())  # `soft_gates` sets the mode of layers alone
            (check_range if soft else check_bits)(x, "LogicRecurrent", "put an encoder before it")
        if lengths is not None:
            if lengths.shape != x.shape[:1] or lengths.is_floating_point():
                raise ValueError(f"lengths are {lengths.dtype} {list(lengths.shape)}: give whole numbers [{len(x)}]")
            if (
                len(x)
                and (looks or free_to_look(lengths))
                and not 1 <= int(lengths.min()) <= int(lengths.max()) <= x.shape[1]
            ):
                ends = f"{int(lengths.min())} to {int(lengths.max())}"
                raise ValueError(f"lengths from {ends} do not fit sequences of {x.shape[1]} steps: 1 is the least")

    def states(self, x: Tensor | Steps) -> Tensor:
        """The state after each step, ``[batch, steps, state_dim]``, in the present mode; for those who watch."""
        bits = x.bits if isinstance(x, Steps) else x
        bits = bits if bits.is_floating_point() else bits.float()
        initial = self.cell.initial_state()
        zeros = bits.new_zeros(len(bits), self.cell.state_dim)
        state = zeros if initial is None else initial.to(bits.dtype).expand_as(zeros)
        found = []
        for t in range(bits.shape[1]):
            _, state = self.cell(bits[:, t], state)
            found.append(state)
        return torch.stack(found, 1)

    # Unrolled.

    def _unrolled(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = x if x.is_floating_point() else x.float()
        initial = self.cell.initial_state()
        state = x.new_zeros(len(x), self.cell.state_dim) if initial is None else initial.to(x.dtype).expand(len(x), -1)
        if self.cell.memory == "delay" and self.readout == "last" and lengths is None and not self.truncate:
            last: Tensor = self.cell(x[:, -1], self.cell.delayed(x[:, :-1], state))[0]
            return last  # no step before says anything
        total = x.new_zeros(len(x), self.out_dim)
        outputs: list[Tensor] = []
        chunk = self.checkpoint_every if self.checkpoint_every and torch.is_grad_enabled() else x.shape[1]
        for start in range(0, x.shape[1], chunk):
            part = x[:, start : start + chunk]
            if chunk < x.shape[1]:
                run = checkpoint(self._run, part, state, total, start, x.shape[1], lengths, use_reentrant=False)
                state, total, every = run
            else:
                state, total, every = self._run(part, state, total, start, x.shape[1], lengths)
            outputs += every
        return torch.stack(outputs, 1) if self.readout == "every" else total

    def _run(
        self, x: Tensor, state: Tensor, total: Tensor, start: int, steps: int, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Some of the steps: state and output so far to those after them, and the outputs of every one."""
        every: list[Tensor] = []
        for t in range(start, start + x.shape[1]):
            if self.truncate and t and t % self.truncate == 0:
                state = state.detach()
            y, state = self.cell(x[:, t - start], state)
            if self.readout == "every":
                every.append(y)
            elif lengths is not None:
                counts = lengths == t + 1 if self.readout == "last" else lengths > t
                total = total + y * counts.to(y.dtype)[:, None]
            elif self.readout == "sum":
                total = total + y
            elif t + 1 == steps:
                total = y
        return state, total, every

    # On packed bits.

    def _bit_layers(self, x: Tensor) -> list[ops.BitLayer] | None:
        """The layers of the cell, if all steps can run as one op on packed bits."""
        net = self.cell.net
        stack: list[Any] = list(net) if isinstance(net, nn.Sequential) else [net]
        fits = x.dtype in (torch.float32, torch.bool) and x.device.type in ("cpu", "cuda")
        if not fits or any(type(layer) is not LogicLayer or hooked(layer) or not _on_words(layer) for layer in stack):
            return None
        if not any(layer.training for layer in stack):
            return (
                [layer.hard_bit_layer() for layer in stack]
                if not (x.requires_grad and torch.is_grad_enabled())
                else None
            )
        if not all(layer.runs_on_bits for layer in stack):
            return None
        samples = [layer.sample_for_stack() for layer in stack]  # before any wires, as LogicSequential draws
        with torch.no_grad():
            wires = [layer.sample_connections() for layer in stack]
        return [layer.bit_layer(sample, wired) for layer, sample, wired in zip(stack, samples, wires, strict=True)]

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds one step; its state is that of the circuit."""
        if not isinstance(builder, SequentialBuilder):
            raise ValueError(
                "it has state, and a Circuit has none: SequentialCircuit.from_module(net) makes its circuit"
            )
        state = builder.take_state(self.cell.initial_bits())
        out, following = self.cell.step_in_circuit(builder, wires.reshape(-1), state)
        builder.next_state(following)
        if self.readout == "sum":
            builder.readout = "sum"
        return out

    def extra_repr(self) -> str:
        truncate = f", truncate={self.truncate}" if self.truncate else ""
        return f"readout={self.readout}, steps={self.steps}{truncate}"


def _on_words(layer: LogicLayer) -> bool:
    return not layer.plain and layer.weights.dtype != torch.float64
