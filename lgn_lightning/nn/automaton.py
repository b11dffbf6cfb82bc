"""`LogicAutomaton`: a cellular automaton whose rule is a net of gates, the same for all cells of a grid."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lgn_lightning.base.choice import check_choice
from lgn_lightning.circuit.api import Circuit, CircuitBuilder
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.build.counting import function_of_count
from lgn_lightning.circuit.build.trace import trace_part
from lgn_lightning.circuit.native import BuildError
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.circuit.passes.tabulate import tabulate
from lgn_lightning.nn.checked_input import CheckedInput, check_range
from lgn_lightning.nn.group_sum import GroupSum
from lgn_lightning.nn.sequential import LogicSequential, logic_layers
from lgn_lightning.nn.straight_through import round_to_bits

#: Rows and columns that a cell perceives.
FIELD = 3
BORDERS = ("torus", "zeros")


class LogicAutomaton(CheckedInput):
    """Applies one rule to all cells of a grid, step by step (DiffLogic CA, Miotti et al., arXiv 2506.04912).

    A cell perceives its own state and that of its eight neighbours, and the rule gives its next state: each bit is the
    majority of ``votes`` gates. In training, the output is the share of the votes instead, which has a margin.
    Straight-through rules compute on packed bits of all cells of a batch. As a circuit, the rule is one kernel, with a
    loop over the grid for each step; a rule of up to ten inputs is built of its truth table.

    Args:
        rule: Layers that map ``[cells, 9 · channels]`` to ``[cells, votes · channels]``; inputs are in the order
            channel, row, column, outputs channel by channel.
        channels: Bits of a cell.
        votes: Gates that vote on a bit.
        steps: How often the rule is applied.
        border: What a cell at the border perceives beyond it: the opposite side (``"torus"``) or ``"zeros"``.
        update: Share of the cells that take their next state at a step; below 1, asynchronous, they are drawn at random
            in training. A circuit and the net in ``.eval()`` mode update all.
        every: Whether the output in training has the grids after every step, for losses on all of them.
        visible: Channels of the output, the first ones; the others are what cells tell each other. All if None.

    Shape:
        - Input: grids ``[batch, channels, H, W]``, numbers in [0, 1].
        - Output: ``[batch, visible, H, W]``; in training with ``every`` ``[batch, steps, visible, H, W]``.

    Raises:
        ValueError: If an argument is not one of the choices; when called, if the grids have other channels or are
            smaller than what a cell perceives.
    """

    def __init__(
        self,
        rule: nn.Module,
        channels: int,
        votes: int = 1,
        steps: int = 1,
        border: str = "torus",
        update: float = 1.0,
        every: bool = False,
        visible: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("border", border, BORDERS)
        if min(channels, votes, steps) < 1 or not 0 < update <= 1:
            raise ValueError(
                f"channels={channels}, votes={votes} and steps={steps} must be 1 or more, update={update} in (0, 1]"
            )
        if visible is not None and not 0 < visible <= channels:
            raise ValueError(f"visible={visible}: 1 to all of {channels} channels are read")
        layers = list(rule) if isinstance(rule, nn.Sequential) else [rule]
        #: Gives the share of the votes of each bit.
        self.rule = LogicSequential(*layers, GroupSum(channels, float(votes)))
        self.channels, self.votes, self.steps = channels, votes, steps
        self.border, self.update, self.every = border, update, every
        self.visible = channels if visible is None else visible

    def forward(self, x: Tensor) -> Tensor:
        """Applies the rule."""
        if x.ndim != 4 or x.shape[1] != self.channels or min(x.shape[2:]) < FIELD:
            raise ValueError(
                f"LogicAutomaton got {list(x.shape)} and takes grids [batch, {self.channels}, H, W] of {FIELD} × "
                f"{FIELD} cells or more"
            )
        if self.looks() and x.dtype != torch.bool:
            check_range(x, "LogicAutomaton", "put Threshold before it")
        grids = self.grids(x, self.steps)
        if self.every and self.training:
            return torch.stack(grids, 1)[:, :, : self.visible]
        return grids[-1][:, : self.visible]

    def grids(self, x: Tensor, steps: int) -> list[Tensor]:
        """All channels after each of so many steps, in the present mode: bits, or in training the votes' shares."""
        grid = x if x.is_floating_point() else x.float()
        grids = []
        rounds = not self.training or all(layer.sampler.hard for layer in logic_layers(self.rule).values())
        for _ in range(steps):
            shares = self._step(grid)
            if self.training and self.update < 1:
                drawn = torch.rand(len(x), 1, *x.shape[2:], device=x.device) < self.update
                shares = torch.where(drawn, shares, grid)
            grid = round_to_bits(shares) if rounds and self.votes > 1 else shares
            grids.append(shares if self.training else grid)
        return grids

    def _step(self, grid: Tensor) -> Tensor:
        batch, channels, height, width = grid.shape
        # Cells innermost, as layers of gates have their samples.
        cells = grid.permute(1, 2, 3, 0)
        padded = self._padded(cells)
        field = [padded[:, i : i + height, j : j + width] for i in range(FIELD) for j in range(FIELD)]
        perceived = torch.stack(field, 1).reshape(FIELD * FIELD * channels, -1).t()
        following: Tensor = self.rule(perceived)
        return following.t().reshape(channels, height, width, batch).permute(3, 0, 1, 2)

    def _padded(self, cells: Tensor) -> Tensor:
        """``[channels, H, W, batch]`` with a border of one cell."""
        if self.border == "zeros":
            return functional.pad(cells, (0, 0, 1, 1, 1, 1))
        cells = torch.cat([cells[:, -1:], cells, cells[:, :1]], 1)
        return torch.cat([cells[:, :, -1:], cells, cells[:, :, :1]], 2)

    def rule_circuit(self) -> Circuit:
        """The rule as a circuit: 9 · channels inputs, one class a channel, whose score is its next bit."""
        builder = CircuitBuilder()
        builder.inputs(FIELD * FIELD * self.channels)
        wires = np.arange(builder.num_inputs, dtype=np.int32)
        for layer in self.rule[:-1]:
            wires = trace_part(layer, builder, wires)
        if wires.size != self.channels * self.votes:
            raise ValueError(f"the rule gives {wires.size} bits, not {self.votes} votes on {self.channels} channels")
        if self.votes > 1:
            most = [2 * ones > self.votes for ones in range(self.votes + 1)]
            wires = function_of_count(builder, wires.reshape(self.channels, self.votes), most)
        return builder.finish(wires)

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds the rule at every cell, once a step."""
        if wires.ndim != 3 or len(wires) != self.channels:
            raise ValueError(f"it takes grids of {self.channels} channels, got wires {list(wires.shape)}")
        kernel = self.rule_circuit()
        with suppress(BuildError):  # without a C++ compiler the rule stays as it is
            kernel = tabulate(kernel)
        padding = (1, 1)
        for _ in range(self.steps):
            if self.border == "torus":
                wires, padding = np.pad(wires, ((0, 0), (1, 1), (1, 1)), mode="wrap"), (0, 0)
            wires = builder.convolve(wires, kernel, (FIELD, FIELD), padding=padding)
        return wires[: self.visible]

    def extra_repr(self) -> str:
        update = f", update={self.update}" if self.update < 1 else ""
        return f"channels={self.channels}, votes={self.votes}, steps={self.steps}, border={self.border!r}{update}"


def life_circuit() -> Circuit:
    """Conway's Game of Life as a circuit of nine cells, in the order of rows: what the middle one is next.

    It is the rule that a learned one can be compared with, on all 512 neighbourhoods.
    """
    tables = np.arange(512)
    alive = tables[:, None] >> (8 - np.arange(9)) & 1  # cell 0 the most significant bit
    around = alive.sum(1) - alive[:, 4]
    wanted = (around == 3) | ((around == 2) & (alive[:, 4] == 1))
    builder = CircuitBuilder()
    nodes: list[Any] = builder.inputs(9).tolist()
    values = [builder.constant(bool(bit)) for bit in wanted]
    for node in reversed(nodes):  # Shannon expansion, the last cell first
        pairs = list(zip(values[::2], values[1::2], strict=True))
        known: dict[tuple[int, int], int] = {}
        for zero, one in pairs:
            if (zero, one) not in known:
                off = builder.gates([2], [zero], [node])[0]
                on = builder.gates([1], [one], [node])[0]
                known[zero, one] = zero if zero == one else int(builder.gates([7], [off], [on])[0])
        values = [known[pair] for pair in pairs]
    return builder.finish(values)
