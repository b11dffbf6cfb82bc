"""Edge and curvature channels: fixed filters on thermometer bits that are themselves a handful of gates a pixel."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.gates import GATE_NAMES

#: Neighbours of a pixel as (axis of [channels, height, width], step): left, right, above, below; opposites in pairs.
NEIGHBOURS = ((2, -1), (2, 1), (1, -1), (1, 1))
_AND, _A_AND_NOT_B, _OR = (GATE_NAMES.index(name) for name in ("and", "a_and_not_b", "or"))


class EdgeChannels(nn.Module):
    """Adds to the thermometer bits of an image, for each contrast d, four edge bits and four curvature bits a pixel.

    With q the number of thresholds that a pixel exceeds, the *edge* bits of contrast d say whether q is more than d
    above the left, right, upper and lower neighbour: the sign of the first derivative, thresholded. The *curvature*
    bits say whether that holds of both horizontal neighbours (a ridge), whether both are more than d above the pixel
    (a valley), and the same vertically: the sign of the second derivative. Beyond the border the image is
    continued by its border pixels.

    Differences of thermometer codes need no arithmetic: q > q' + d exactly if for some threshold t the pixel exceeds
    t + d and its neighbour does not exceed t. So the channels are gates of the circuit, about 2 · (thresholds − d) for
    an edge bit, and the exported circuit takes the same images as the net.

    Args:
        thresholds: Number of thresholds of the encoder before it.
        in_shape: Shape of the image before the encoder, ``(channels, height, width)``.
        contrasts: Differences d in steps of the thresholds, each in 0 … thresholds − 1.
        curvature: Whether to add the curvature bits.

    Shape:
        - Input: 0 or 1, ``[batch, thresholds · channels, height, width]``, ordered by threshold and channel.
        - Output: ``[batch, thresholds · channels + contrasts · kinds · channels, height, width]``, the input bits
          first; kinds is 4, or 8 with curvature. Batch innermost in memory.

    Raises:
        ValueError: If a contrast is out of range; when called, if the input has another shape.
    """

    def __init__(
        self, thresholds: int, in_shape: Sequence[int], contrasts: Sequence[int] = (0,), curvature: bool = True
    ) -> None:
        super().__init__()
        if not contrasts or any(not 0 <= d < thresholds for d in contrasts) or len(set(contrasts)) != len(contrasts):
            raise ValueError(
                f"contrasts={list(contrasts)}: give different whole numbers in 0 … {thresholds - 1}, steps of the "
                f"{thresholds} thresholds"
            )
        self.thresholds = thresholds
        self.in_shape = tuple(in_shape)
        self.contrasts = tuple(contrasts)
        self.curvature = curvature

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the output."""
        channels, height, width = self.in_shape
        kinds = 2 * len(NEIGHBOURS) if self.curvature else len(NEIGHBOURS)
        return (self.thresholds + len(self.contrasts) * kinds) * channels, height, width

    def forward(self, x: Tensor) -> Tensor:
        """Adds the channels to a batch of bits."""
        channels, height, width = self.in_shape
        if tuple(x.shape[1:]) != (self.thresholds * channels, height, width):
            wanted = f"[batch, {self.thresholds * channels}, {height}, {width}]"
            raise ValueError(f"EdgeChannels takes {wanted}, got {list(x.shape)}")
        bits = x.permute(1, 2, 3, 0).contiguous()
        # [channels, height, width, batch]: int16 holds the sum of 254 thresholds and a contrast
        steps = bits.detach().view(self.thresholds, channels, height, width, x.shape[0]).sum(0).to(torch.int16)
        out = bits.new_empty(self.out_shape[0], *bits.shape[1:])
        place = self.thresholds * channels
        for contrast in self.contrasts:
            above, below = _compared(steps, contrast)
            found = list(above)
            if self.curvature:
                found += [side[i] & side[i + 1] for i in (0, 2) for side in (above, below)]
            for part in found:
                out[place : place + channels] = part
                place += channels
        out[: bits.shape[0]] = bits  # last: these may have a gradient
        return out.permute(3, 0, 1, 2)

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds the gates of the channels; ``wires`` are the thermometer bits."""
        channels, height, width = self.in_shape
        if wires.size != self.thresholds * channels * height * width:
            raise ValueError(f"it takes {self.thresholds} thresholds of images {self.in_shape}, got {wires.shape}")
        bits = wires.reshape(self.thresholds, channels, height, width)
        near = [bits.take(_clamped(bits.shape[axis + 1], step).numpy(), axis + 1) for axis, step in NEIGHBOURS]
        parts = [bits.reshape(-1, height, width)]
        for contrast in self.contrasts:
            count = self.thresholds - contrast
            above = [_any_above(builder, bits[contrast:], other[:count]) for other in near]
            parts += above
            if self.curvature:
                below = [_any_above(builder, other[contrast:], bits[:count]) for other in near]
                parts += [_gates(builder, _AND, side[i], side[i + 1]) for i in (0, 2) for side in (above, below)]
        return np.concatenate(parts)

    def extra_repr(self) -> str:
        names = ("thresholds", "in_shape", "contrasts", "curvature")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def _compared(steps: Tensor, contrast: int) -> tuple[list[Tensor], list[Tensor]]:
    """Where a pixel is more than a contrast above each of its neighbours, and below: bool, False beyond the border."""
    above: list[Tensor] = []
    below: list[Tensor] = []
    more = steps + contrast
    for axis, step in NEIGHBOURS:
        size = steps.shape[axis] - 1
        first, second = (max(-step, 0), max(step, 0))  # of the pixels that have this neighbour, and of the neighbours
        places = steps.narrow(axis, first, size), more.narrow(axis, first, size)
        others = steps.narrow(axis, second, size), more.narrow(axis, second, size)
        for found, higher, lower in ((above, places[0], others[1]), (below, others[0], places[1])):
            side = torch.zeros_like(steps, dtype=torch.bool)
            side.narrow(axis, first, size).copy_(higher > lower)
            found.append(side)
    return above, below


def _clamped(size: int, step: int, device: torch.device | None = None) -> Tensor:
    """Index of each pixel's neighbour along an axis; that of a border pixel is itself."""
    return (torch.arange(size, device=device) + step).clamp(0, size - 1)


def _any_above(builder: NetlistBuilder, high: NodeIds, low: NodeIds) -> NodeIds:
    """Adds gates: whether for some threshold ``high`` has the bit and ``low`` has not, ``[T, …] → […]``."""
    found = _gates(builder, _A_AND_NOT_B, high, low)
    while len(found) > 1:  # a balanced tree of ORs
        half = len(found) // 2
        merged = _gates(builder, _OR, found[:half], found[half : 2 * half])
        found = np.concatenate([merged, found[2 * half :]])
    return np.asarray(found[0])


def _gates(builder: NetlistBuilder, gate: int, a: NodeIds, b: NodeIds) -> NodeIds:
    return builder.gates(np.full(a.size, gate, np.uint8), a.ravel(), b.ravel()).reshape(a.shape)
