"""Looped circuits: `LoopedBuilder` records kernels with their places, `unroll` gives every place gates of its own."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.kernel import Places, check_kernel
from lgn_lightning.circuit.net.looped import Gates, Loop, LoopedNetlist
from lgn_lightning.circuit.net.netlist import Netlist, NodeIds


class LoopedBuilder(NetlistBuilder):
    """Collects a net as a `LoopedNetlist`; modules write into it as into any `NetlistBuilder`."""

    def __init__(self, input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self._stages: list[Gates | Loop] = []

    def at_places(self, wires: NodeIds, kernel: Netlist, places: Places) -> NodeIds:
        """Adds a stage that applies a kernel; see `NetlistBuilder.at_places`."""
        check_kernel(wires, kernel, places)
        self._close_gates()
        stage = Loop(kernel, wires.astype(np.int32), places)
        nodes = self._new_nodes(stage.num_nodes)
        self._stages.append(stage)
        return nodes.reshape(stage.shape)

    def finish_looped(self, outputs: ArrayLike, class_names: Sequence[str] | None = None) -> LoopedNetlist:
        """Returns the looped circuit of everything added; see `NetlistBuilder.finish`."""
        before = self._num_nodes - sum(part.size for part in self._gates)
        tail = self._circuit(before, outputs, class_names)  # the gates behind the last loop
        return LoopedNetlist(self.num_inputs, tuple(self._stages), tail, **self.encoding)

    def _close_gates(self) -> None:
        if self._gates:
            self._stages.append(Gates(*self.joined()))
            self._gates, self._a, self._b = [], [], []


def unroll(circuit: LoopedNetlist) -> Netlist:
    """Returns the circuit in which every place has gates of its own: the same scores."""
    builder = NetlistBuilder(circuit.image_shape)
    builder.levels, builder.comparisons = circuit.levels, circuit.comparisons
    node = builder.inputs(circuit.num_inputs)
    for _, stage in circuit.numbered():
        if isinstance(stage, Loop):
            added = builder.at_places(node[stage.wires], stage.kernel, stage.places).reshape(-1)
        else:
            added = builder.append(node, stage.gates, stage.a, stage.b)
        node = np.concatenate([node, added])
    node = np.concatenate([node, builder.append(node, circuit.tail.gates, circuit.tail.a, circuit.tail.b)])
    builder.group_sum(node[circuit.outputs], circuit.num_classes, circuit.tau)
    flat = builder.finish(node[circuit.outputs]).with_preparation(circuit.preparation)
    return flat.with_decoding(circuit.decoding).with_class_names(circuit.class_names)
