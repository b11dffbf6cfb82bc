"""Kernels: what a convolution computes at one place, as a circuit of its own, and where it is applied."""

import math
from dataclasses import dataclass

import numpy as np

from lgn_lightning.circuit.net.netlist import MAX_NODES, CircuitError, Netlist, NodeIds

Pair = tuple[int, int]


@dataclass(frozen=True)
class Places:
    """The places of an image at which a kernel is applied, and the windows over its results that are joined by OR.

    Attributes:
        image: Height and width of the input.
        kernel: Rows and columns that the kernel reads.
        stride: Steps of the kernel.
        padding: Rows and columns of zeros on every side of the input.
        window: Height and width of the OR windows; (1, 1) for none.
        window_stride: Steps of the windows.

    Raises:
        CircuitError: If a size is not positive, or the kernel or the window does not fit.
    """

    image: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    window: Pair = (1, 1)
    window_stride: Pair = (1, 1)

    def __post_init__(self) -> None:
        sizes = (*self.image, *self.kernel, *self.stride, *self.window, *self.window_stride)
        if min(sizes) < 1 or min(self.padding) < 0:
            raise CircuitError(f"all sizes must be at least 1 and paddings at least 0: {self}")
        if math.prod(self.padded) >= MAX_NODES:
            raise CircuitError(f"the padded image has more places than a circuit has nodes: {self}")
        if min(self.unpooled) < 1 or min(self.size) < 1:
            raise CircuitError(f"kernel larger than the padded image, or window larger than its result: {self}")

    @property
    def padded(self) -> Pair:
        """Height and width of the input with its padding."""
        height, width = (n + 2 * p for n, p in zip(self.image, self.padding, strict=True))
        return height, width

    @property
    def unpooled(self) -> Pair:
        """Rows and columns of places."""
        return _steps(self.image, self.kernel, self.stride, self.padding)

    @property
    def size(self) -> Pair:
        """Height and width of the output: of the windows, or of the places where there are none."""
        return _steps(self.unpooled, self.window, self.window_stride, (0, 0))

    @property
    def pooled(self) -> bool:
        return self.window != (1, 1) or self.window_stride != (1, 1)


def identity_kernel(channels: int) -> Netlist:
    """The kernel of one place that hands its channels on: a circuit without gates."""
    none = np.zeros(0, np.int32)
    return Netlist(channels, none.astype(np.uint8), none, none, np.arange(channels, dtype=np.int32), channels)


def check_kernel(wires: NodeIds, kernel: Netlist, places: Places) -> None:
    """Refuses a kernel that reads another number of inputs than its places give it, by a CircuitError."""
    wanted = len(wires) * places.kernel[0] * places.kernel[1]
    if kernel.num_inputs != wanted or kernel.arity != 2:
        raise CircuitError(
            f"a kernel of {places.kernel} places of {len(wires)} channels is a circuit of {wanted} inputs and of "
            f"two-input gates, got {kernel!r}"
        )


def _steps(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True))
    return height, width
