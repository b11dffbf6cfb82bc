"""Passes over looped circuits: they keep every score and the loops, and work on a kernel once, not at every place."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.looped import AnyLooped, Gates, Loop, LoopedNetlist
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO, Known, rewired
from lgn_lightning.circuit.passes import flat
from lgn_lightning.circuit.passes.tabulate import tabulate
from lgn_lightning.gates import CONSTANT_GATES


def fuse_windows(circuit: AnyLooped) -> AnyLooped:
    """Merges a loop with the OR windows over its results where nothing else reads them: they are then never stored."""
    reads = np.zeros(circuit.tail.num_inputs, np.int64)
    read_by_each: list[NDArray[np.integer]] = [*map(_nodes_read, circuit.stages), circuit.tail.inputs_read]
    for nodes in read_by_each:
        read = np.zeros(reads.size, np.bool_)
        read[nodes] = True
        reads += read  # once a reader, however often it reads the node
    stages = list(circuit.numbered())
    fused: list[Gates | Loop] = [stage for _, stage in stages]
    for index, (first, stage) in enumerate(stages):
        if not isinstance(stage, Loop) or stage.places.pooled or reads[first : first + stage.num_nodes].max() != 1:
            continue
        nodes = np.arange(first, first + stage.num_nodes).reshape(stage.shape)
        for later in range(index + 1, len(stages)):
            reader = stages[later][1]
            if isinstance(reader, Loop) and _only_windows(reader) and np.array_equal(reader.wires, nodes):
                windows = {"window": reader.places.window, "window_stride": reader.places.window_stride}
                fused[later] = Loop(stage.kernel, stage.wires, replace(stage.places, **windows))
    # The loops that were merged have no readers any more.
    return remove_dead_channels(replace(circuit, stages=tuple(fused)))


def fold_kernels(circuit: AnyLooped) -> AnyLooped:
    """Runs the passes for two-input gates on each kernel, on the plain gates and on the tail.

    What is found about a channel (that it is constant, or equal to another one) is used in the stages behind it.
    """
    read = np.zeros(circuit.tail.num_inputs, np.bool_)
    read[circuit.tail.inputs_read] = True
    for stage in circuit.stages:
        read[_nodes_read(stage)] = True
    folded = _Folded(circuit)
    for first, stage in circuit.numbered():
        nodes = np.arange(first, first + stage.num_nodes)
        if isinstance(stage, Loop):
            folded.add_loop(stage, nodes)
        elif read[nodes].any():
            folded.add_gates(stage, first, nodes[read[nodes]])
    tail = flat.simplify(rewired(circuit.tail, folded.known, folded.count))
    return replace(circuit, stages=tuple(folded.stages), tail=tail)


class _Folded:
    """The stages after the folding, as far as they are made.

    Attributes:
        known: What each node of before is now, ``[nodes]``: a node's number, or `ZERO` or `ONE`, which are negative.
        count: Nodes of the new stages so far, the inputs included.
    """

    def __init__(self, circuit: LoopedNetlist) -> None:
        self.known = np.arange(circuit.tail.num_inputs)
        self.count = circuit.num_inputs
        self.stages: list[Gates | Loop] = []
        self._constants: int | None = None  # the node that is 0; the next one is 1

    def add_gates(self, stage: Gates, first: int, wanted: NDArray[np.int64]) -> None:
        """Adds what is left of plain gates, of which these nodes are read."""
        own = stage.as_circuit(first, wanted.astype(np.int32))
        small = flat.simplify(rewired(own, self.known[:first], self.count))
        self.known[wanted] = _values(small)
        self._append(Gates(small.gates, small.a, small.b))

    def add_loop(self, stage: Loop, nodes: NDArray[np.int64]) -> None:
        """Adds a loop of a folded kernel; ``nodes`` are its results."""
        image = self.known[stage.wires]
        channels = _equal_channels(image, any(stage.places.padding))
        kernel, size = stage.kernel, stage.kernel.num_inputs // len(channels)
        inputs = np.where(channels[:, None] < 0, channels[:, None], channels[:, None] * size + np.arange(size))
        small = tabulate(flat.simplify(rewired(kernel, inputs.reshape(-1), kernel.num_inputs)))
        wires = self._wires(image, channels)
        # Outputs that are one node of the kernel are one channel.
        _, index, inverse = np.unique(small.outputs, return_index=True, return_inverse=True)
        values = _values(small)[:, None]
        places = np.arange(nodes.size // small.outputs.size)
        equal = self.count + index[inverse][:, None] * places.size + places
        # A kernel's inputs are no nodes here: what counts is whether a value is constant.
        self.known[nodes] = np.where(values < 0, values, equal).reshape(-1)
        self._append(Loop(small, wires, stage.places))

    def _wires(self, image: NDArray[np.int64], channels: NDArray[np.int64]) -> NDArray[np.int32]:
        """The nodes of an image. Places of a channel that are constant, where others are not, need nodes, too."""
        if self._constants is None and (image[channels >= 0] < 0).any():
            self._constants = self.count
            zero = np.zeros(2, np.int32)
            self._append(Gates(np.array(CONSTANT_GATES, np.uint8), zero, zero))
        constants = 0 if self._constants is None else self._constants + ZERO - image
        return np.where(image >= 0, image, constants).astype(np.int32)

    def _append(self, stage: Gates | Loop) -> None:
        self.stages.append(stage)
        self.count += stage.num_nodes


def remove_dead_channels(circuit: AnyLooped) -> AnyLooped:
    """Removes channels, kernel gates and plain gates in front of the tail that nothing reads; inputs stay."""
    live = np.zeros(circuit.tail.num_inputs, np.bool_)
    live[circuit.tail.inputs_read] = True
    kept: list[tuple[NDArray[np.int64], Netlist, Loop | None]] = []
    for first, stage in reversed(list(circuit.numbered())):
        nodes = np.arange(first, first + stage.num_nodes)
        if isinstance(stage, Loop):
            by_channel = nodes.reshape(len(stage.kernel.outputs), -1)
            alive = live[by_channel].any(axis=1)
            outputs = stage.kernel.outputs[alive]
            if outputs.size:
                kernel = replace(stage.kernel, outputs=outputs, num_classes=outputs.size)
                loop = _without_unread_channels(replace(stage, kernel=flat.remove_dead_gates(kernel)))
                live[loop.wires] = True
                kept.append((by_channel[alive].reshape(-1), loop.kernel, loop))
        elif live[nodes].any():
            nodes = nodes[live[nodes]]
            part = flat.remove_dead_gates(stage.as_circuit(first, nodes.astype(np.int32)))
            live[part.inputs_read] = True
            kept.append((nodes, part, None))
    # Numbers of before → numbers of now, stage by stage.
    number = np.zeros(circuit.tail.num_inputs, np.int64)
    count = circuit.num_inputs
    number[:count] = np.arange(count)
    stages: list[Gates | Loop] = []
    for nodes, part, old in reversed(kept):
        if old is not None:
            stages.append(replace(old, wires=number[old.wires].astype(np.int32)))
            number[nodes] = np.arange(count, count + nodes.size)
        else:
            moved = rewired(part, number[: part.num_inputs], count, constants=False)
            stages.append(Gates(moved.gates, moved.a, moved.b))
            number[nodes] = moved.outputs
        count += stages[-1].num_nodes
    return replace(circuit, stages=tuple(stages), tail=rewired(circuit.tail, number, count, constants=False))


def remove_dead_gates(circuit: AnyLooped) -> AnyLooped:
    """Removes what no output depends on; inputs stay."""
    return remove_dead_channels(replace(circuit, tail=flat.remove_dead_gates(circuit.tail)))


def _nodes_read(stage: Gates | Loop) -> NDArray[np.int32]:
    return stage.wires if isinstance(stage, Loop) else np.concatenate([stage.a, stage.b])


def _only_windows(stage: Loop) -> bool:
    """Whether a loop is nothing but OR windows."""
    plain = replace(stage.places, window=(1, 1), window_stride=(1, 1))
    kernel = stage.kernel
    return (
        (plain.kernel, plain.stride, plain.padding) == ((1, 1), (1, 1), (0, 0))
        and kernel.num_gates == 0
        and np.array_equal(kernel.outputs, np.arange(kernel.num_inputs))
    )


def _values(circuit: Netlist) -> Known:
    """What is known of each output: its node, or that it is constant."""
    values = circuit.outputs.astype(np.int64)
    gates = np.flatnonzero(values >= circuit.num_inputs)
    tables = circuit.gates[values[gates] - circuit.num_inputs]
    values[gates] = np.where(tables == 0, ZERO, np.where(tables == 15, ONE, values[gates]))
    return values


def _equal_channels(image: Known, padded: bool) -> Known:
    """For each channel ``[channels, H, W]`` the first equal one, or that it is constant, padding included."""
    rows = np.ascontiguousarray(image.reshape(len(image), -1))
    seen: dict[bytes, int] = {}
    first = np.array([seen.setdefault(row.tobytes(), index) for index, row in enumerate(rows)])
    first[(rows == ZERO).all(axis=1)] = ZERO
    if not padded:
        first[(rows == ONE).all(axis=1)] = ONE
    return first


def _without_unread_channels(loop: Loop) -> Loop:
    """Drops the channels of the image that the kernel does not read."""
    kernel = loop.kernel
    size = kernel.num_inputs // len(loop.wires)
    channels = np.unique(kernel.inputs_read // size)
    if channels.size == 0:
        channels = np.zeros(1, np.int64)  # constants read nothing; an image has a channel
    number = np.zeros(len(loop.wires), np.int64)
    number[channels] = np.arange(channels.size)
    source = np.repeat(number * size, size) + np.tile(np.arange(size), len(loop.wires))
    return Loop(rewired(kernel, source, channels.size * size, constants=False), loop.wires[channels], loop.places)
