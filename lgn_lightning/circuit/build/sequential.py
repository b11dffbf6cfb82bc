"""`SequentialBuilder`: collects a net of steps, whose state bits are inputs of the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist, NodeIds
from lgn_lightning.circuit.net.sequential import SequentialNetlist


class SequentialBuilder(NetlistBuilder):
    """Collects the step of a net; modules write into it as into any `NetlistBuilder`.

    Wherever the inputs of a step are declared, the state's are added behind them. A module with state takes its share
    by `take_state`, and says by `next_state` what becomes of it.

    Args:
        num_state: Bits of state of the whole net.
        input_shape: As in `NetlistBuilder`.
    """

    def __init__(self, num_state: int, input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.num_state = num_state
        self.readout = "last"
        self.scan: str | None = None
        self._frame = 0
        self._initial: list[NDArray[np.bool_]] = []
        self._next: list[NodeIds] = []

    def inputs(self, count: int) -> NodeIds:
        """Declares ``count`` inputs of a step, and the state behind them; returns those of the step alone."""
        nodes = super().inputs(count + self.num_state)
        self._frame = count
        return nodes[:count]

    def take_state(self, initial: NDArray[np.bool_]) -> NodeIds:
        """The nodes of the next bits of state, int32 ``[bits]``, which begin as ``initial`` says."""
        first = self._frame + sum(part.size for part in self._initial)
        self._initial.append(initial)
        if first + initial.size > self._frame + self.num_state:
            raise ValueError("the modules of the net have more state than was counted")
        return np.arange(first, first + initial.size, dtype=np.int32)

    def next_state(self, wires: NodeIds) -> None:
        """Says what the state that was taken last becomes, int32 ``[bits]``."""
        self._next.append(wires.reshape(-1).astype(np.int32))

    def finish_sequential(self, outputs: ArrayLike, class_names: Sequence[str] | None = None) -> SequentialNetlist:
        """Returns the circuit of everything added; see `NetlistBuilder.finish`."""
        scores = np.asarray(outputs, np.int32).reshape(-1)
        wires = np.concatenate([scores, *self._next])
        if wires.size - scores.size != self.num_state:
            raise CircuitError(f"{wires.size - scores.size} of {self.num_state} bits of state have a next value")
        num_classes = scores.size if self.num_classes is None else self.num_classes
        step = Netlist(self.num_inputs, *self.joined(), wires, wires.size)
        initial = np.concatenate([np.zeros(0, np.bool_), *self._initial])
        names = None if class_names is None else tuple(class_names)
        form = self.readout, self.scan, self.tau
        return SequentialNetlist(self._frame, step, initial, num_classes, *form, class_names=names, **self.encoding)


def state_of(net: Any) -> int:
    """Bits of state of a module: the sum of what its parts say, each by ``num_state``."""
    return sum(part.num_state for part in net.modules() if isinstance(getattr(part, "num_state", None), int))
