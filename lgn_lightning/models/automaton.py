"""`LogicCA`: a cellular automaton on images of bits, a label a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from lgn_lightning.models.arguments import KnowsArguments
from lgn_lightning.models.layers import dense_layers
from lgn_lightning.models.sizes import layer_widths
from lgn_lightning.nn import GroupSum, LogicAutomaton, LogicSequential, Threshold
from lgn_lightning.nn.automaton import FIELD
from lgn_lightning.nn.parametrizations import Parametrization, make_parametrization
from lgn_lightning.nn.samplers import Sampler, make_sampler


class LogicCA(KnowsArguments, LogicSequential):
    """A cellular automaton whose rule is a dense net of gates, see :class:`~lgn_lightning.nn.LogicAutomaton`.

    Args:
        in_shape: Shape of a grid, ``(channels, rows, columns)``; a cell's bits are pixels above one half.
        width: Gates a layer of the rule; one number, or one a layer.
        depth: Number of layers, if ``width`` is one number. The last layer has the votes.
        votes: Gates that vote on a bit.
        steps: How often the rule is applied.
        border: ``"torus"`` or ``"zeros"``.
        update: Share of the cells that are updated at a step of the training.
        tau: Temperature: a cell's score is its bit, or the share of its votes in training, divided by it.
        connections: ``"random"``, ``"unique"``, ``"balanced"``, ``"learned"``, ``"mixture"`` or ``"slots"``; one word,
            or one a layer.
        num_candidates: Inputs that learned connections choose among, or slots.
        init: ``"gaussian"`` or ``"residual"``.
        grad_factor: Factor on the gradient between layers.
        implementation: As in :class:`~lgn_lightning.LogicLayer`.
        parametrization: ``"softmax"``, ``"sigmoid"``, ``"walsh"``, ``"warp"``, ``"covjac"`` or an instance, for all.
        sampler: ``"soft"``, ``"gumbel"``, ``"straight_through"``, ``"finite_difference"`` or an instance, shared by
            all layers.
        every: Whether the scores in training are those after every step, as
            :class:`~lgn_lightning.losses.GrowthLoss` takes them.
        visible: Channels that are read, the first ones; the others are what cells tell each other. All if None.

    Shape:
        - Input: uint8 ``[batch, channels, rows, columns]``, or floats in [0, 1].
        - Output: a score a cell and visible channel, ``[batch, visible · rows · columns]``; in training with ``every``
          ``[batch, steps, visible · rows · columns]``.

    Raises:
        ValueError: If the sizes do not fit one another.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        width: int | list[int] = 512,
        depth: int | None = None,
        votes: int = 512,
        steps: int = 1,
        border: str = "torus",
        update: float = 1.0,
        tau: float = 0.05,
        connections: str | list[str] = "learned",
        num_candidates: int = 8,
        init: str = "residual",
        grad_factor: float = 1.0,
        implementation: str | None = None,
        parametrization: str | Parametrization = "sigmoid",
        sampler: str | Sampler = "straight_through",
        visible: int | None = None,
        every: bool = False,
    ) -> None:
        channels, rows, columns = in_shape
        hidden = layer_widths(width, 4 if depth is None and isinstance(width, int) else depth)
        options: dict[str, Any] = {"init": init, "grad_factor": grad_factor, "implementation": implementation}
        options |= {"parametrization": make_parametrization(parametrization), "sampler": make_sampler(sampler)}
        widths = [FIELD * FIELD * channels, *hidden, votes * channels]
        rule = LogicSequential(*dense_layers(widths, connections, num_candidates, **options))
        automaton = LogicAutomaton(rule, channels, votes, steps, border, update, every, visible)
        cells = automaton.visible * rows * columns
        super().__init__(Threshold([0.5], in_shape, flatten=False), automaton, nn.Flatten(-3), GroupSum(cells, tau))
        self.in_shape, self.num_classes, self.bits_of_a_sum = tuple(in_shape), cells, 1
