"""`LoopedBuilder`: a builder that records kernels with their places and unrolls nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lgn_lightning.circuit.build.builder import MAX_NODES, CircuitBuilder, NodeIds, check_kernel
from lgn_lightning.circuit.net.kernel import Places
from lgn_lightning.circuit.net.looped import Gates, Loop, LoopedCircuit
from lgn_lightning.circuit.net.netlist import Circuit


class LoopedBuilder(CircuitBuilder):
    """Collects a net as a `LoopedCircuit`; modules write into it as into any builder.

    Args:
        input_shape: As in `CircuitBuilder`.
    """

    def __init__(self, input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self._stages: list[Gates | Loop] = []

    def _at_places(self, wires: NodeIds, kernel: Circuit, places: Places) -> NodeIds:
        check_kernel(wires, kernel, places)
        self._close_gates()
        stage = Loop(kernel, wires.astype(np.int32), places)
        first, self._num_nodes = self._num_nodes, self._num_nodes + stage.num_nodes
        if self._num_nodes > MAX_NODES:
            raise ValueError(f"{self._num_nodes} nodes are asked for; a circuit holds at most {MAX_NODES}")
        self._stages.append(stage)
        return np.arange(first, self._num_nodes, dtype=np.int32).reshape(stage.shape)

    def finish_looped(self, outputs: ArrayLike, class_names: Sequence[str] | None = None) -> LoopedCircuit:
        """Returns the looped circuit of everything added; see `CircuitBuilder.finish`."""
        before = self._num_nodes - sum(part.size for part in self._gates)
        tail = self._circuit(before, outputs, class_names)  # of the gates that no loop came after
        shape = self.input_shape if self.levels is not None else None
        return LoopedCircuit(self.num_inputs, tuple(self._stages), tail, self.levels, shape)

    def _close_gates(self) -> None:
        if self._gates:
            parts = np.concatenate(self._gates), np.concatenate(self._a), np.concatenate(self._b)
            self._stages.append(Gates(*parts))
            self._gates, self._a, self._b = [], [], []
