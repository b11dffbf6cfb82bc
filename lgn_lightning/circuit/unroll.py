"""Convolutions as gates: shared weights are unrolled, every place of the image gets gates of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.builder import CircuitBuilder, NodeIds
from lgn_lightning.gates import GATE_NAMES

Pair = tuple[int, int]
_OR = GATE_NAMES.index("or")


def unroll_trees(
    builder: CircuitBuilder,
    wires: NodeIds,
    gates: NDArray[np.uint8],
    leaves: NDArray[np.int32],
    size: Pair,
    stride: Pair,
    padding: Pair,
) -> NodeIds:
    """Adds the trees of a convolution at every place of the image.

    Nothing is simplified: a tree at the border reads the constant 0, which the passes fold later.

    Args:
        builder: Where to.
        wires: Nodes of the input, ``[channels, H, W]``.
        gates: Gate ids, tree by tree, ``[trees · (leaves − 1)]``; gate ``j`` of a tree has the nodes ``2j`` and
            ``2j + 1`` as operands, where nodes are first the leaves, then the gates.
        leaves: Channel, row and column in the kernel of each leaf, ``[3, trees, leaves]``.
        size: Height and width of the output.
        stride: Steps of the receptive field.
        padding: Rows and columns of zeros on every side.

    Returns:
        Nodes of the roots, int32 ``[trees, H', W']``.
    """
    if any(padding):
        borders = ((0, 0), (padding[0],) * 2, (padding[1],) * 2)
        wires = np.pad(wires, borders, constant_values=builder.constant(False))
    trees, count = leaves.shape[1:]
    shape = trees, *size
    rows, columns = (np.arange(n) * step for n, step in zip(size, stride, strict=True))
    channel, row, column = (part.T[..., None, None] for part in leaves)  # [leaves, trees, 1, 1]
    by_gate = gates.reshape(trees, count - 1).T
    nodes = [wires[channel[i], row[i] + rows[:, None], column[i] + columns].reshape(-1) for i in range(count)]
    for j in range(count - 1):
        ids = np.broadcast_to(by_gate[j][:, None, None], shape).reshape(-1)
        nodes.append(builder.gates(ids, nodes[2 * j], nodes[2 * j + 1]))
    return np.asarray(nodes[-1].reshape(shape), np.int32)


def or_windows(builder: CircuitBuilder, wires: NodeIds, size: Pair, window: Pair, stride: Pair) -> NodeIds:
    """Adds the ORs of a pooling, each a balanced tree.

    Args:
        builder: Where to.
        wires: Nodes of the input, ``[channels, H, W]``.
        size: Height and width of the output.
        window: Height and width of a window.
        stride: Steps of the window.

    Returns:
        int32 ``[channels, H', W']``.
    """
    shape = wires.shape[0], *size
    rows, columns = ((n - 1) * step + 1 for n, step in zip(size, stride, strict=True))
    values = [
        wires[:, i : i + rows : stride[0], j : j + columns : stride[1]].reshape(-1)
        for i in range(window[0])
        for j in range(window[1])
    ]
    ids = np.full(values[0].size, _OR, np.uint8)
    while len(values) > 1:
        pairs = [builder.gates(ids, a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[2 * len(pairs) :]
    return np.asarray(values[0].reshape(shape), np.int32)
