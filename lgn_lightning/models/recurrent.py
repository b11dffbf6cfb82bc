"""`LogicRNN`: a recurrent net of gates on sequences: rows of a table, rows or pixels of an image, or bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.sizes import check_classes, per_layer
from lgn_lightning.models.arguments import KnowsArguments
from lgn_lightning.models.layers import dense_layers
from lgn_lightning.models.sizes import layer_widths
from lgn_lightning.nn import GroupSum, LogicCell, LogicLayer, LogicRecurrent, LogicSequential, StepEncoder, Threshold
from lgn_lightning.nn.cell import MEMORIES
from lgn_lightning.nn.columns import Columns
from lgn_lightning.nn.group_sum import recommended_tau
from lgn_lightning.nn.parametrizations import Parametrization, make_parametrization
from lgn_lightning.nn.recurrent import Steps
from lgn_lightning.nn.samplers import Sampler, make_sampler


class LogicRNN(KnowsArguments, LogicSequential):
    """Cells of gates that are applied step by step, and a group sum of what they say (RDDLGN, arXiv 2508.06097).

    A cell is a dense net from [input, state] to [output, next state], see :class:`~lgn_lightning.nn.LogicCell`. What a
    step is, one of the first three arguments behind ``num_classes`` says.

    Args:
        num_classes: Number of classes.
        num_bits: Of sequences of rows: bits of a row, of the data; ``lgn fit`` fills in what a recipe leaves null.
        in_shape: Of images: ``(channels, height, width)``.
        in_bits: Of sequences of bits: bits of a step.
        state: Bits of state.
        width: Gates of the hidden layers of the cell; one number, or one a layer. Behind them stands a layer of the
            outputs and the next state, which must be at least half as wide.
        depth: Number of hidden layers, if ``width`` is one number.
        out: Output bits of a step, divisible by the number of classes; 0 for the next state itself.
        memory: What the next state is: ``"gates"``; a ``"multiplexer"``, which keeps or exchanges each bit; or a
            ``"delay"`` line of wires, the newest inputs first.
        keep: Share of the state bits of ``"gates"`` that begin as kept: the gates of each layer that lie on their way
            read them as first inputs, which residual initialization passes on. Long memory trains from there.
        initial: State before the first step, ``"zeros"`` or ``"learned"``.
        layers: Cells above one another: each reads what the one below says at each step.
        readout: ``"last"`` step's scores, their ``"sum"`` over the steps, or those of ``"every"`` step.
        scan: How images become steps, ``"rows"`` or ``"pixels"``.
        thresholds: Of images: intensities that pixels are compared with.
        tau: Temperature of the group sum; ``"auto"`` takes :func:`~lgn_lightning.nn.recommended_tau`.
        truncate: Steps after which the gradient of the state ends; 0 for never.
        connections: ``"random"``, ``"unique"``, ``"balanced"``, ``"learned"``, ``"mixture"`` or ``"slots"``; one word,
            or one a layer of a cell.
        num_candidates: Inputs that learned connections choose among, or slots.
        init: ``"gaussian"`` or ``"residual"``.
        grad_factor: Factor on the gradient between layers.
        implementation: As in :class:`~lgn_lightning.LogicLayer`.
        parametrization: ``"softmax"``, ``"sigmoid"``, ``"walsh"``, ``"warp"``, ``"covjac"`` or an instance, for all.
        sampler: ``"soft"``, ``"gumbel"``, ``"straight_through"``, ``"finite_difference"`` or an instance, shared by
            all layers.
        noise: Of rows: share of the input bits that are flipped in training.
        steps: Steps of the sequences that it is trained on, for reports.

    Shape:
        - Input: see :class:`~lgn_lightning.nn.StepEncoder`.
        - Output: scores ``[batch, num_classes]``; of every step ``[batch, num_classes, steps]``, where those behind the
          end of a sequence are its last ones.

    Raises:
        ValueError: If the sizes do not fit one another.
    """

    def __init__(
        self,
        num_classes: int | None,
        num_bits: int | None = None,
        in_shape: Sequence[int] | None = None,
        in_bits: int | None = None,
        state: int = 64,
        width: int | list[int] = 256,
        depth: int | None = None,
        out: int = 0,
        memory: str = "gates",
        keep: float = 1.0,
        initial: str = "zeros",
        layers: int = 1,
        readout: str = "last",
        scan: str = "rows",
        thresholds: Sequence[float] = (0.5,),
        tau: float | Literal["auto"] = "auto",
        truncate: int = 0,
        connections: str | list[str] = "random",
        num_candidates: int = 8,
        init: str = "residual",
        grad_factor: float = 1.0,
        implementation: str | None = None,
        parametrization: str | Parametrization = "sigmoid",
        sampler: str | Sampler = "straight_through",
        noise: float = 0.0,
        steps: int | None = None,
    ) -> None:
        if num_classes is None or (num_bits, in_shape, in_bits).count(None) != 2:
            raise ValueError("give num_classes, and one of num_bits (rows), in_shape (images) and in_bits (bits)")
        if layers < 1:
            raise ValueError(f"layers={layers}: there is at least one cell")
        check_choice("memory", memory, MEMORIES)
        if not 0 <= keep <= 1:
            raise ValueError(f"keep={keep} is a share of the state, 0 to 1")
        check_classes(num_classes, out or state)
        if in_shape is not None:
            channels, _, columns = in_shape
            frame = (channels, 1, columns if scan == "rows" else 1)
            encoder = StepEncoder(Threshold(thresholds, frame), scan)
        elif num_bits is not None:
            encoder = StepEncoder(Columns(num_bits, noise=noise))
        else:
            encoder = StepEncoder(num_bits=in_bits)
        hidden = layer_widths(width, 1 if depth is None and isinstance(width, int) else depth)
        options: dict[str, Any] = {"init": init, "grad_factor": grad_factor, "implementation": implementation}
        options |= {"parametrization": make_parametrization(parametrization), "sampler": make_sampler(sampler)}
        wirings = per_layer("connections", connections, [*hidden, 0], "layers of a cell")
        parts: list[LogicRecurrent] = []
        for number in range(layers):
            inputs = encoder.out_dim if number == 0 else parts[-1].out_dim
            widths = [inputs + state, *hidden, out + MEMORIES[memory] * state]
            net = dense_layers(widths, wirings, num_candidates, **options)
            if memory == "gates":
                keep_state([layer for layer in net if isinstance(layer, LogicLayer)], round(keep * state))
            cell = LogicCell(LogicSequential(*net), inputs, state, out, memory, initial)
            parts.append(LogicRecurrent(cell, steps, readout if number + 1 == layers else "every", truncate))
        group = (out or state) // num_classes
        tau = recommended_tau(group) if tau == "auto" else tau
        super().__init__(encoder, *parts, GroupSum(num_classes, tau))
        self.num_classes = num_classes
        #: Bits that a score is the sum of, see `Target`.
        self.bits_of_a_sum = group * (steps if readout == "sum" and steps is not None else 1)
        if in_shape is not None:
            self.in_shape = tuple(in_shape)

    def forward(self, x: Any) -> Any:
        """Scores of sequences."""
        y = super().forward(x)
        if isinstance(y, Steps):
            places = torch.arange(y.bits.shape[1], device=y.lengths.device).minimum(y.lengths[:, None] - 1)
            y = y.bits.gather(1, places[:, :, None].expand_as(y.bits))
        return y.transpose(1, 2) if y.ndim == 3 else y


@torch.no_grad()
def keep_state(layers: Sequence[LogicLayer], bits: int) -> None:
    """Lets the last ``bits`` gates of each layer read the last of the layer before as first inputs, one each.

    With residual initialization these bits then stay as they are from step to step. Layers narrower than that keep what
    fits.
    """
    for layer in layers:
        count = min(bits, layer.out_dim, layer.in_dim)
        if not count:
            continue
        source = torch.arange(layer.in_dim - count, layer.in_dim, dtype=torch.int32)
        if layer.learned is None:
            a, _ = layer.indices
            a[-count:] = source.to(a.device)
            continue
        candidates, logits = layer.learned.candidates, layer.learned.logits
        own = candidates[-count:, 0]
        place = (own == source.to(own.device)[:, None]).int().argmax(1)  # 0 where it is none of them
        rows = torch.arange(count, device=own.device)
        own[rows, place] = source.to(own.device)
        logits[-count:, 0][rows, place] = logits[-count:, 0].amax(1) + 1
