"""`LogicCell`: one step of a net that remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lgn_lightning.base.choice import check_choice
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.build.trace import trace_part
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.gates import A_AND_NOT_B, AND, OR
from lgn_lightning.nn.gate_layer import GateLayer
from lgn_lightning.nn.straight_through import round_to_bits

#: Kinds of memory, and how many outputs of the net a bit of state takes.
MEMORIES = {"gates": 1, "multiplexer": 2, "delay": 0}
_INITIALS = ("zeros", "learned")
#: Gates of a state bit that is kept or exchanged.
_MULTIPLEXER = (AND, A_AND_NOT_B, OR)


class LogicCell(nn.Module):
    """One step: (input bits, state bits) → (output bits, next state bits), by a net of gates.

    The net reads ``[input, state]`` and gives ``[output, next state]``; of a multiplexer
    ``[output, update, candidate]`` instead, and the next state is ``update ? candidate : state``, as in gated recurrent
    units (RDDLGN, arXiv 2508.06097, has them of gates). Without output bits of its own the cell's output is its next
    state.

    Args:
        net: Maps ``[..., in_dim + state_dim]`` to ``[..., out_dim + state_dim]``, or what ``memory`` says.
        in_dim: Bits of an input.
        state_dim: Bits of state.
        out_dim: Bits of output; 0 for the next state.
        memory: What the next state is: ``"gates"`` of the net; a ``"multiplexer"``; or a ``"delay"`` line of wires, the
            first bits of [input, state], the newest first. The net of that gives the output alone.
        initial: State before the first step: ``"zeros"``, or ``"learned"`` bits.

    Attributes:
        initial_logits: Of learned bits, one where positive, ``[state_dim]``; None without.

    Shape:
        - Input: ``[batch, in_dim]`` and state ``[batch, state_dim]``, numbers in [0, 1].
        - Output: ``[batch, out_dim or state_dim]`` and ``[batch, state_dim]``.

    Raises:
        ValueError: If the widths do not close, at the latest at the first step, or an argument is none of the choices.
    """

    initial_logits: nn.Parameter | None

    def __init__(
        self,
        net: nn.Module,
        in_dim: int,
        state_dim: int,
        out_dim: int = 0,
        memory: str = "gates",
        initial: str = "zeros",
    ) -> None:
        super().__init__()
        if in_dim < 1 or state_dim < 1 or out_dim < 0:
            raise ValueError(f"a cell has 1 input bit and 1 state bit or more, not {in_dim} and {state_dim}")
        check_choice("memory", memory, MEMORIES)
        check_choice("initial", initial, _INITIALS)
        if memory == "delay" and not out_dim:
            raise ValueError("a delay line has no gates of its own: give out_dim")
        self.net, self.memory, self.initial = net, memory, initial
        self.in_dim, self.state_dim, self.own_dim = in_dim, state_dim, out_dim
        self._check_widths()
        self.initial_logits = None
        if initial == "learned":
            device = next((weights.device for weights in net.parameters()), None)
            self.initial_logits = nn.Parameter(torch.full((state_dim,), -0.1, device=device))

    @property
    def out_dim(self) -> int:
        """Bits of output: those of its own, or the state's."""
        return self.own_dim or self.state_dim

    @property
    def net_dims(self) -> tuple[int, int]:
        """Inputs and outputs of the net."""
        return self.in_dim + self.state_dim, self.own_dim + MEMORIES[self.memory] * self.state_dim

    def _check_widths(self) -> None:
        """Checks the ends of nets that say them; the forward pass checks those of the others."""
        parts = list(self.net) if isinstance(self.net, nn.Sequential) else [self.net]
        if parts and hasattr(parts[0], "in_dim") and hasattr(parts[-1], "out_dim"):
            self._check_ends(parts[0].in_dim, parts[-1].out_dim)

    def _check_ends(self, taken: Any, given: Any) -> None:
        wanted = self.net_dims
        if (taken, given) != wanted:
            parts = {"gates": "[output, next state]", "multiplexer": "[output, update, candidate]", "delay": "output"}
            raise ValueError(
                f"the cell does not close: its net takes {taken} bits and gives {given}, but [input, state] are "
                f"{self.in_dim} + {self.state_dim} = {wanted[0]} bits, and {parts[self.memory]} {wanted[1]}"
            )

    def initial_state(self) -> Tensor | None:
        """The bits before the first step, floats ``[state_dim]``; None for zeros.

        In soft training learned ones are the sigmoids of their logits, with straight-through layers, and in evaluation,
        they are bits with that gradient.
        """
        if self.initial_logits is None:
            return None
        soft = torch.sigmoid(self.initial_logits)
        return soft if self.training and not self._hard else round_to_bits(soft)

    @property
    def _hard(self) -> bool:
        return all(layer.sampler.hard for layer in self.net.modules() if isinstance(layer, GateLayer))

    def initial_bits(self) -> NDArray[np.bool_]:
        """The bits before the first step, bool ``[state_dim]``."""
        if self.initial_logits is None:
            return np.zeros(self.state_dim, np.bool_)
        return np.asarray((self.initial_logits.detach() > 0).cpu().numpy(), np.bool_)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        given = torch.cat([x, state], -1)
        y = self.net(given)
        self._check_ends(given.shape[-1], y.shape[-1])
        own, rest = y[..., : self.own_dim], y[..., self.own_dim :]
        if self.memory == "delay":
            return own, given[..., : self.state_dim]
        if self.memory == "multiplexer":
            update, candidate = rest.split(self.state_dim, -1)
            state = update * candidate + (1 - update) * state
        else:
            state = rest
        return (own if self.own_dim else state), state

    def delayed(self, x: Tensor, state: Tensor) -> Tensor:
        """The state of a delay line after the steps ``[batch, steps, in_dim]``, whose newest bits come first."""
        return torch.cat([x.flip(1).flatten(1), state], -1)[:, : self.state_dim]

    def step_in_circuit(self, builder: NetlistBuilder, wires: NodeIds, state: NodeIds) -> tuple[NodeIds, NodeIds]:
        """Adds the gates of a step: nodes of the inputs and of the state to those of output and next state."""
        y = trace_part(self.net, builder, np.concatenate([wires, state]))
        self._check_ends(len(wires) + len(state), y.size)
        own, rest = y[: self.own_dim], y[self.own_dim :]
        if self.memory == "delay":
            return own, np.concatenate([wires, state])[: self.state_dim]
        if self.memory == "gates":
            return (own if self.own_dim else rest), rest
        update, candidate = rest[: self.state_dim], rest[self.state_dim :]
        taken, kept, either = (np.full(self.state_dim, gate) for gate in _MULTIPLEXER)
        following = builder.gates(either, builder.gates(taken, candidate, update), builder.gates(kept, state, update))
        return (own if self.own_dim else following), following

    def extra_repr(self) -> str:
        sizes = f"in_dim={self.in_dim}, state_dim={self.state_dim}, out_dim={self.own_dim}"
        return f"{sizes}, memory={self.memory!r}, initial={self.initial!r}"
