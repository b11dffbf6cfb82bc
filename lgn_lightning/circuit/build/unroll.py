"""Kernels as gates: every place of the image gets gates of its own."""

import numpy as np

from lgn_lightning.circuit.build.sink import GateSink
from lgn_lightning.circuit.net.kernel import Places
from lgn_lightning.circuit.net.netlist import Netlist, NodeIds
from lgn_lightning.gates import OR


def unroll_kernel(sink: GateSink, wires: NodeIds, kernel: Netlist, places: Places) -> NodeIds:
    """Adds a kernel at every place of the image ``[channels, H, W]``, and the ORs of its windows.

    Nothing is simplified: a kernel at the border reads the constant 0, which the passes fold later. Returns the nodes
    of the outputs, int32 ``[outputs of the kernel, H', W']``.
    """
    if any(places.padding):
        borders = ((0, 0), (places.padding[0],) * 2, (places.padding[1],) * 2)
        wires = np.pad(wires, borders, constant_values=sink.constant(False))
    count = places.unpooled[0] * places.unpooled[1]
    rows, columns = (np.arange(n) * step for n, step in zip(places.unpooled, places.stride, strict=True))

    def read(inputs: NodeIds) -> NodeIds:  # [n] → nodes [n, places]
        channel, row, column = (part[:, None, None] for part in np.unravel_index(inputs, (len(wires), *places.kernel)))
        return np.asarray(wires[channel, row + rows[:, None], column + columns].reshape(inputs.size, count))

    # The gates of a level get nodes that follow one another: gate by gate, place by place.
    first = np.zeros(kernel.num_nodes, np.int64)

    def values(nodes: NodeIds) -> NodeIds:
        result = np.empty((nodes.size, count), np.int32)
        is_input = nodes < kernel.num_inputs
        result[is_input] = read(nodes[is_input])
        result[~is_input] = first[nodes[~is_input], None] + np.arange(count)
        return result

    level = kernel.gate_levels
    order = np.argsort(level, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(level[order])) + 1) if order.size else []:
        ids = np.repeat(kernel.gates[group], count)
        added = sink.gates(ids, values(kernel.a[group]).ravel(), values(kernel.b[group]).ravel())
        first[kernel.num_inputs + group] = added[::count]
    roots = values(kernel.outputs).reshape(-1, *places.unpooled)
    return _or_windows(sink, roots, places) if places.pooled else roots


def _or_windows(sink: GateSink, wires: NodeIds, places: Places) -> NodeIds:
    """Adds the ORs of windows over ``[channels, *places.unpooled]``, each a balanced tree."""
    (height, width), (down, across) = places.size, places.window_stride
    rows, columns = (height - 1) * down + 1, (width - 1) * across + 1
    values = [wires[:, i : i + rows : down, j : j + columns : across].ravel() for i, j in np.ndindex(places.window)]
    ids = np.full(values[0].size, OR, np.uint8)
    while len(values) > 1:
        pairs = [sink.gates(ids, a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[2 * len(pairs) :]
    return np.asarray(values[0].reshape(-1, height, width), np.int32)
