"""Convolution and pooling over lines and volumes: by the kernels of images, with an axis folded away."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.nn.conv import LogicTreeConv2d, OrPool2d

Triple = int | tuple[int, int, int]


class LogicTreeConv1d(LogicTreeConv2d):
    """:class:`LogicTreeConv2d` over a line, such as a signal: an image of one row.

    Args:
        in_channels: As there.
        out_channels: As there.
        kernel_size: Length of the receptive field.
        tree_depth: As there.
        padding: Zeros on both sides.
        stride: Step of the receptive field.
        **options: The other arguments of :class:`LogicTreeConv2d`.

    Shape:
        - Input: ``[batch, in_channels, L]``.
        - Output: ``[batch, out_channels, L']``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        tree_depth: int,
        padding: int = 0,
        stride: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, (1, kernel_size), tree_depth, (0, padding), (1, stride), **options)

    def forward(self, x: Tensor, pool: OrPool2d | None = None) -> Tensor:
        """Evaluates the trees: ``[batch, in_channels, L]`` to ``[batch, out_channels, L']``."""
        _check_rank(self, x, 3, "length")
        return super().forward(x.unsqueeze(2), pool).squeeze(2)

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds the trees at all places; ``wires`` are ``[in_channels, L]``."""
        _check_wires(wires, 2, "length")
        return super().add_to_circuit(builder, wires[:, None])[:, 0]


class OrPool1d(OrPool2d):
    """:class:`OrPool2d` over a line: ``[batch, channels, L]`` to ``[batch, channels, L']``.

    Args:
        kernel_size: Length of a window.
        stride: Step of the window; ``kernel_size`` if not given.
        padding: Places on both sides that no maximum comes from, at most half a window.
    """

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__((1, kernel_size), None if stride is None else (1, stride), (0, padding))

    def forward(self, x: Tensor) -> Tensor:
        """Takes the maximum of each window."""
        return super().forward(x.unsqueeze(2)).squeeze(2)

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds an OR over each window; ``wires`` are ``[channels, L]``."""
        _check_wires(wires, 2, "length")
        return super().add_to_circuit(builder, wires[:, None])[:, 0]


class LogicTreeConv3d(LogicTreeConv2d):
    """:class:`LogicTreeConv2d` over a volume ``[D, H, W]``.

    The planes that a receptive field spans become channels of an image, and its places along the depth samples, so the
    kernels of images do the rest; the planes are copied once for each place of the kernel along the depth.

    Args:
        in_channels: As there.
        out_channels: As there.
        kernel_size: Depth, height and width of the receptive field.
        tree_depth: As there.
        padding: Zeros on every side.
        stride: Steps of the receptive field.
        **options: The other arguments of :class:`LogicTreeConv2d`.

    Shape:
        - Input: ``[batch, in_channels, D, H, W]``.
        - Output: ``[batch, out_channels, D', H', W']``, batch innermost in memory.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Triple,
        tree_depth: int,
        padding: Triple = 0,
        stride: Triple = 1,
        **options: Any,
    ) -> None:
        kernel, border, steps = _triple(kernel_size), _triple(padding), _triple(stride)
        if min(in_channels, kernel[0], steps[0]) < 1 or border[0] < 0:
            raise ValueError(f"LogicTreeConv3d({in_channels}, …, {kernel_size}): sizes must be at least 1")
        self.depth, self.depth_stride, self.depth_padding = kernel[0], steps[0], border[0]
        super().__init__(
            in_channels * kernel[0],
            out_channels,
            kernel[1:],
            tree_depth,
            border[1:],
            steps[1:],
            **options,
        )

    def _field(self, channels: int, kernel: tuple[int, int]) -> tuple[int, int, int]:
        return channels // self.depth, self.depth * kernel[0], kernel[1]

    def _planes(self, depth: int) -> int:
        padded = depth + 2 * self.depth_padding
        if padded < self.depth:
            raise ValueError(f"a kernel of {self.depth} planes does not fit into {padded}, padding included")
        return (padded - self.depth) // self.depth_stride + 1

    def forward(self, x: Tensor, pool: OrPool2d | None = None) -> Tensor:
        """Evaluates the trees: ``[batch, in_channels, D, H, W]`` to ``[batch, out_channels, D', H', W']``."""
        _check_rank(self, x, 5, "depth, height, width", self.in_channels // self.depth)
        batch, places = x.shape[0], self._planes(x.shape[2])
        rows = nn.functional.pad(x.permute(1, 2, 3, 4, 0), (0, 0, 0, 0, 0, 0, self.depth_padding, self.depth_padding))
        reach = (places - 1) * self.depth_stride + 1
        planes = [rows[:, z : z + reach : self.depth_stride] for z in range(self.depth)]  # [C, D', H, W, batch] each
        folded = torch.stack(planes, dim=1).movedim(2, 4).flatten(4).flatten(0, 1)  # [C · kernel, H, W, D' · batch]
        y = super().forward(folded.permute(3, 0, 1, 2), pool)
        return torch.unflatten(y, 0, (places, batch)).permute(1, 2, 0, 3, 4)

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds the trees at all places; ``wires`` are ``[in_channels, D, H, W]``."""
        _check_wires(wires, 4, "depth, height, width")
        places = self._planes(wires.shape[1])
        if self.depth_padding:
            sides = ((0, 0), (self.depth_padding, self.depth_padding), (0, 0), (0, 0))
            wires = np.pad(wires, sides, constant_values=builder.constant(False))
        maps = []
        for first in range(0, places * self.depth_stride, self.depth_stride):
            planes = wires[:, first : first + self.depth]
            maps.append(super().add_to_circuit(builder, planes.reshape(-1, *planes.shape[2:])))
        return np.stack(maps, axis=1)


class OrPool3d(nn.Module):
    """:class:`OrPool2d` over a volume: of every plane first, then along the depth.

    Args:
        kernel_size: Depth, height and width of a window.
        stride: Steps of the window; ``kernel_size`` if not given.
        padding: Places on every side that no maximum comes from, at most half a window.

    Shape:
        - Input: ``[batch, channels, D, H, W]``.
        - Output: ``[batch, channels, D', H', W']``. Of equal values the first in the window gets the gradient.
    """

    def __init__(self, kernel_size: Triple, stride: Triple | None = None, padding: Triple = 0) -> None:
        super().__init__()
        kernel, border = _triple(kernel_size), _triple(padding)
        steps = kernel if stride is None else _triple(stride)
        self.planes = OrPool2d(kernel[1:], steps[1:], border[1:])
        self.depth = OrPool2d((kernel[0], 1), (steps[0], 1), (border[0], 0))

    def forward(self, x: Tensor) -> Tensor:
        """Takes the maximum of each window."""
        y = torch.unflatten(self.planes(x.flatten(1, 2)), 1, x.shape[1:3])
        return torch.unflatten(self.depth(y.flatten(3)), 3, y.shape[3:])

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds an OR over each window; ``wires`` are ``[channels, D, H, W]``."""
        _check_wires(wires, 4, "depth, height, width")
        planes = self.planes.add_to_circuit(builder, wires.reshape(-1, *wires.shape[2:]))
        size = planes.shape[1:]
        joined = self.depth.add_to_circuit(builder, planes.reshape(*wires.shape[:2], -1))
        return joined.reshape(*joined.shape[:2], *size)


def _check_rank(layer: LogicTreeConv2d, x: Tensor, rank: int, sizes: str, channels: int | None = None) -> None:
    channels = layer.in_channels if channels is None else channels
    if x.ndim != rank or x.shape[1] != channels:
        name = type(layer).__name__
        raise ValueError(f"{name} got an input of shape {list(x.shape)} and takes [batch, {channels}, {sizes}]")


def _check_wires(wires: NodeIds, rank: int, sizes: str) -> None:
    if wires.ndim != rank:
        raise ValueError(f"it takes wires [channels, {sizes}], got {list(wires.shape)}")


def _triple(value: Triple) -> tuple[int, int, int]:
    if isinstance(value, int):
        return value, value, value
    depth, height, width = value
    return depth, height, width
