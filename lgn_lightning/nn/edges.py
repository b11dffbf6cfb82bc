"""Edge and curvature channels: fixed filters on thermometer bits that are themselves a handful of gates a pixel."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.gates import A_AND_NOT_B, AND, OR
from lgn_lightning.ops.bits_activations import BitActivations, new_edge

#: Neighbours of a pixel as (axis of [channels, height, width], step): left, right, above, below; opposites in pairs.
NEIGHBOURS = ((2, -1), (2, 1), (1, -1), (1, 1))


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
        self._check(x)
        bits = x.permute(1, 2, 3, 0).contiguous()
        out = bits.new_empty(self.out_shape[0], *bits.shape[1:])
        out[len(bits) :] = torch.cat(self._channels(bits > 0.5))
        out[: len(bits)] = bits  # last: these may have a gradient
        return out.permute(3, 0, 1, 2)

    def forward_bits(self, x: BitActivations) -> BitActivations:
        """The same of packed bits without a gradient, of which a word holds those of 64 images."""
        self._check(x.edge)
        words = x.words.permute(1, 2, 3, 0)
        out = torch.cat([words, *self._channels(words)]).permute(3, 0, 1, 2)
        return BitActivations(out, new_edge(x.edge, (x.edge.shape[0], *self.out_shape)))

    def _check(self, x: Tensor) -> None:
        channels, height, width = self.in_shape
        if tuple(x.shape[1:]) != (self.thresholds * channels, height, width):
            wanted = f"[batch, {self.thresholds * channels}, {height}, {width}]"
            raise ValueError(f"EdgeChannels takes {wanted}, got {list(x.shape)}")

    def _channels(self, bits: Tensor) -> list[Tensor]:
        """The added channels of thermometer bits, bools or packed words ``[thresholds · channels, H, W, …]``."""
        codes = bits.view(self.thresholds, self.in_shape[0], *bits.shape[1:])
        found = []
        for contrast in self.contrasts:
            above = [_above(codes, axis, step, contrast) for axis, step in NEIGHBOURS]
            found += above
            if self.curvature:  # a pixel is below its neighbour where that is above the pixel on its other side
                below = [_moved(above[i ^ 1], axis, step) for i, (axis, step) in enumerate(NEIGHBOURS)]
                found += [side[i] & side[i + 1] for i in (0, 2) for side in (above, below)]
        return found

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds the gates of the channels; ``wires`` are the thermometer bits."""
        channels, height, width = self.in_shape
        if wires.size != self.thresholds * channels * height * width:
            raise ValueError(f"it takes {self.thresholds} thresholds of images {self.in_shape}, got {wires.shape}")
        bits = wires.reshape(self.thresholds, channels, height, width)
        parts = [bits.reshape(-1, height, width)]
        for contrast in self.contrasts:
            low, high = bits[: self.thresholds - contrast], bits[contrast:]
            above = [_any_above(builder, high, _neighbours(low, high, *side)) for side in NEIGHBOURS]
            parts += above
            if self.curvature:
                below = [_any_above(builder, _neighbours(high, low, *side), low) for side in NEIGHBOURS]
                parts += [_gates(builder, AND, side[i], side[i + 1]) for i in (0, 2) for side in (above, below)]
        return np.concatenate(parts)

    def extra_repr(self) -> str:
        names = ("thresholds", "in_shape", "contrasts", "curvature")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def _above(codes: Tensor, axis: int, step: int, contrast: int) -> Tensor:
    """Where a pixel is more than a contrast above its neighbour, of codes ``[thresholds, channels, H, W, …]``.

    For some threshold t the pixel exceeds t + contrast and its neighbour does not exceed t. Nothing is above what lies
    beyond the border.
    """
    size = codes.shape[axis + 1] - 1
    pixels = codes.narrow(axis + 1, max(-step, 0), size)
    neighbours = codes.narrow(axis + 1, max(step, 0), size)
    found = pixels[contrast] & ~neighbours[0]
    for level in range(1, len(codes) - contrast):
        found |= pixels[level + contrast] & ~neighbours[level]
    return functional.pad(found, _border(found.ndim, axis, step))


def _moved(channel: Tensor, axis: int, step: int) -> Tensor:
    """What a channel says at each pixel's neighbour; nothing beyond the border."""
    size = channel.shape[axis] - 1
    return functional.pad(channel.narrow(axis, max(step, 0), size), _border(channel.ndim, axis, step))


def _border(ndim: int, axis: int, step: int) -> list[int]:
    """Padding of the pixels that have no neighbour, for :func:`torch.nn.functional.pad`: last axis first."""
    before, after = (1, 0) if step < 0 else (0, 1)
    return [0, 0] * (ndim - 1 - axis) + [before, after]


def _neighbours(codes: NodeIds, own: NodeIds, axis: int, step: int) -> NodeIds:
    """Nodes of each pixel's neighbour, ``[levels, channels, H, W]``; ``own`` where it has none, so nothing is above."""
    size = codes.shape[axis + 1]
    places = np.arange(size) + step
    inside = ((places >= 0) & (places < size)).reshape(-1, *[1] * (2 - axis))
    return np.where(inside, codes.take(places.clip(0, size - 1), axis + 1), own)


def _any_above(builder: NetlistBuilder, high: NodeIds, low: NodeIds) -> NodeIds:
    """Adds gates: whether for some threshold ``high`` has the bit and ``low`` has not, ``[T, …] → […]``."""
    found = _gates(builder, A_AND_NOT_B, high, low)
    while len(found) > 1:  # a balanced tree of ORs
        half = len(found) // 2
        merged = _gates(builder, OR, found[:half], found[half : 2 * half])
        found = np.concatenate([merged, found[2 * half :]])
    return np.asarray(found[0])


def _gates(builder: NetlistBuilder, gate: int, a: NodeIds, b: NodeIds) -> NodeIds:
    return builder.gates(np.full(a.size, gate, np.uint8), a.ravel(), b.ravel()).reshape(a.shape)
