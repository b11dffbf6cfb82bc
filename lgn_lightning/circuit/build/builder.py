"""`NetlistBuilder`: what a module writes its gates into when a net becomes a circuit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.base.columns import Comparisons
from lgn_lightning.circuit.build.lut_decomposition import add_luts
from lgn_lightning.circuit.build.unroll import unroll_kernel
from lgn_lightning.circuit.net.kernel import Pair, Places, check_kernel, identity_kernel
from lgn_lightning.circuit.net.netlist import MAX_NODES, Netlist, NodeIds
from lgn_lightning.gates import CONSTANT_GATES, NUM_GATES


class MoreLevels(BaseException):
    """A second encoder asks for levels that the inputs lack: start again; no Exception, which nets may catch."""

    def __init__(self, levels: NDArray[np.uint8]) -> None:
        super().__init__(f"the levels {levels.tolist()} are not among those of the first encoder")
        self.levels = levels


class NetlistBuilder:
    """Collects inputs, gates and the group sum of a net, in topological order.

    A module takes part by a method ``add_to_circuit(self, builder, wires) -> wires``: it receives the node ids of its
    input features, shaped like one sample (``[features]``, or ``[channels, height, width]`` in a convolution), adds its
    gates and returns the node ids of its output features in the same way. An input encoder is the first module: it
    receives no wires and calls `threshold_inputs` or `column_inputs`. What does not fit is a ValueError everywhere.

    Args:
        input_shape: Image shape (C, H, W) for encoders that do not know it themselves.
    """

    def __init__(self, input_shape: Sequence[int] | None = None) -> None:
        self.input_shape = None if input_shape is None else _image_shape(input_shape)
        self.levels: NDArray[np.uint8] | None = None
        #: Levels that encoders behind the first one ask for.
        self.more_levels: Sequence[int] = ()
        #: First channel of the image that an encoder encodes, and channels of all images of the net together.
        self.channels: tuple[int, int] | None = None
        self.comparisons: Comparisons | None = None
        self.num_classes: int | None = None
        self.tau = 1.0
        self._num_inputs: int | None = None
        self._num_nodes = 0
        self._gates: list[NDArray[np.uint8]] = []
        self._a: list[NodeIds] = []
        self._b: list[NodeIds] = []
        self._constants: dict[bool, int] = {}

    @property
    def has_inputs(self) -> bool:
        """Whether the inputs have been declared."""
        return self._num_inputs is not None

    @property
    def num_inputs(self) -> int:
        """Declared inputs; ValueError if there are none."""
        if self._num_inputs is None:
            raise ValueError("the net declares no inputs: it has no logic layer and no encoder")
        return self._num_inputs

    @property
    def num_nodes(self) -> int:
        """Nodes so far."""
        return self._num_nodes

    def inputs(self, count: int) -> NodeIds:
        """Declares ``count`` plain boolean inputs, once, and returns their node ids, int32 ``[count]``."""
        if self._num_inputs is not None:
            raise ValueError("the inputs of this circuit were declared before: an encoder must be the first layer")
        if not 0 < count < MAX_NODES:
            raise ValueError(f"a circuit needs between 1 and {MAX_NODES - 1} inputs, got {count}")
        self._num_inputs = self._num_nodes = int(count)
        return np.arange(count, dtype=np.int32)

    def threshold_inputs(self, levels: ArrayLike, shape: Sequence[int] | None = None) -> NodeIds:
        """Declares thermometer-encoded pixels: an input bit is ``pixel > level``, levels from 0 to 255, ``[T]``.

        The image shape (C, H, W) is by default the builder's ``input_shape``. Returns node ids, int32 ``[T · C · H ·
        W]``, in the feature order [threshold, C, H, W].
        """
        wanted = np.asarray(levels)
        if wanted.ndim != 1 or wanted.size == 0 or np.any(wanted != wanted.astype(np.uint8)):
            raise ValueError(f"threshold levels must be a non-empty vector of bytes 0…255, got {wanted!r}")
        image = self.input_shape if shape is None else _image_shape(shape)
        if image is None:
            raise ValueError("the image shape of the threshold encoder is not known: pass input_shape=(C, H, W)")
        own = image[0]
        if self.channels is not None:
            image = (self.channels[1], *image[1:])
        if self.input_shape is not None and self.input_shape != image:
            raise ValueError(
                f"the net was built for images {image}, not {self.input_shape}: a circuit takes images of one size; "
                "leave input_shape out, or train a net on images of that size"
            )
        if self.levels is None or self.channels is None:
            more = [level for level in self.more_levels if level not in wanted]
            every = np.concatenate([wanted, more]).astype(np.uint8)
            self.inputs(every.size * int(np.prod(image)))
            self.levels, self.input_shape = every, image
        missing = wanted[~np.isin(wanted, self.levels)]
        if missing.size:
            raise MoreLevels(missing)
        places = [int(np.flatnonzero(self.levels == level)[0]) for level in wanted]
        bits = np.arange(self.levels.size * int(np.prod(image)), dtype=np.int32).reshape(-1, *image)
        first = 0 if self.channels is None else self.channels[0]
        return bits[places, first : first + own].reshape(-1)

    def column_inputs(self, comparisons: Comparisons) -> NodeIds:
        """Declares comparisons of a table's columns and returns their node ids, int32 ``[comparisons]``."""
        wires = self.inputs(len(comparisons))
        self.comparisons = comparisons
        return wires

    @property
    def encoding(self) -> dict[str, Any]:
        """What the inputs are, as arguments of a circuit."""
        shape = self.input_shape if self.levels is not None else None
        return {"levels": self.levels, "image_shape": shape, "comparisons": self.comparisons}

    def gates(self, gates: ArrayLike, a: ArrayLike, b: ArrayLike) -> NodeIds:
        """Adds two-input gates and returns their node ids, int32 ``[n]``.

        Args:
            gates: Gate ids 0…15, ``[n]``.
            a: Node ids of operand A, ``[n]``: nodes that exist, or earlier ones of the new gates.
            b: Node ids of operand B, ``[n]``.
        """
        ids, left, right = np.asarray(gates), np.asarray(a), np.asarray(b)
        if not ids.ndim == left.ndim == right.ndim == 1 or not ids.size == left.size == right.size:
            raise ValueError(f"gates, a and b must be vectors of one length: {ids.shape}, {left.shape}, {right.shape}")
        count = ids.size
        if count == 0:
            return np.zeros(0, np.int32)
        if ids.min() < 0 or ids.max() >= NUM_GATES:
            raise ValueError(f"gate ids must lie in 0…{NUM_GATES - 1}, got {ids.min()}…{ids.max()}")
        for name, operand in (("a", left), ("b", right)):
            beyond = operand.max() >= self._num_nodes  # then it may be a gate of these that comes earlier
            if operand.min() < 0 or (beyond and (operand >= np.arange(count) + self._num_nodes).any()):
                raise ValueError(
                    f"operand {name} reaches node {operand.max() if operand.min() >= 0 else operand.min()}, "
                    f"but only nodes 0…{self._num_nodes - 1} exist so far"
                )
        nodes = self._new_nodes(count)
        self._gates.append(ids.astype(np.uint8))
        self._a.append(left.astype(np.int32))
        self._b.append(right.astype(np.int32))
        return nodes

    def append(self, before: NodeIds, gates: ArrayLike, a: NodeIds, b: NodeIds) -> NodeIds:
        """Adds gates whose operands are numbered otherwise: the ids of the nodes ``before`` them are those there."""
        # Gates follow one another in both, so that those behind the nodes of before are shifted only.
        known, shift = before.size, self._num_nodes - before.size
        return self.gates(gates, *(np.where(x < known, before[np.minimum(x, known - 1)], x + shift) for x in (a, b)))

    def luts(self, tables: ArrayLike, wires: ArrayLike) -> NodeIds:
        """Adds lookup tables of 1 to 6 inputs, as two-input gates (Shannon expansion) that share equal parts.

        Args:
            tables: Outputs 0 or 1, ``[n, 2^k]``; row *r* is the output for the input bits of *r*, wire 0 the most
                significant: for k = 2 the entries are those of a gate's truth table.
            wires: Node ids of the inputs, ``[n, k]``; those of the outputs, int32 ``[n]``, are returned.
        """
        return add_luts(self, tables, wires)

    def convolve(
        self, wires: NodeIds, kernel: Netlist, kernel_size: Pair, stride: Pair = (1, 1), padding: Pair = (0, 0)
    ) -> NodeIds:
        """Adds a kernel at every place of an image.

        Args:
            wires: Node ids of the image, ``[channels, H, W]``; those returned are int32
                ``[outputs of the kernel, H', W']`` with H' = ⌊(H + 2·padding − rows) / stride⌋ + 1.
            kernel: The gates of one place: a circuit whose inputs are the bits that it reads there,
                ``[channels, *kernel_size]``, and whose outputs are the channels of the result.
            kernel_size: Rows and columns that the kernel reads.
            stride: Its steps.
            padding: Rows and columns of zeros on every side of the image.
        """
        return self.at_places(wires, kernel, Places(_image_size(wires), kernel_size, stride, padding))

    def or_windows(self, wires: NodeIds, window: Pair, stride: Pair, padding: Pair = (0, 0)) -> NodeIds:
        """Adds the OR of each window of an image, whose ``padding`` is zeros on every side.

        ``wires`` are node ids ``[channels, H, W]``, as are those returned: int32 ``[channels, H', W']`` with
        H' = ⌊(H + 2·padding − height of the window) / stride⌋ + 1.
        """
        places = Places(_image_size(wires), padding=padding, window=window, window_stride=stride)
        return self.at_places(wires, identity_kernel(len(wires)), places)

    def at_places(self, wires: NodeIds, kernel: Netlist, places: Places) -> NodeIds:
        """Adds a kernel at places of an image; see `convolve` and `or_windows`, which describe the places."""
        check_kernel(wires, kernel, places)
        return unroll_kernel(self, wires, kernel, places)

    def constant(self, value: bool) -> int:
        """Returns the node id of the constant ``value`` (one gate, shared by all callers)."""
        if value not in self._constants:
            zero = np.zeros(1, np.int32)
            self._constants[value] = int(self.gates([CONSTANT_GATES[bool(value)]], zero, zero)[0])
        return self._constants[value]

    def group_sum(self, wires: ArrayLike, k: int, tau: float = 1.0) -> NodeIds:
        """Makes ``wires`` the outputs, returned as int32: ``k`` equal groups, whose numbers of ones are the scores.

        ``tau``, which the net divides the sums by, is kept as a note: integer scores are not divided.
        """
        nodes = np.asarray(wires, dtype=np.int32)
        if self.num_classes is not None:
            raise ValueError("this net has a second GroupSum; only one, as the last layer, can become a circuit")
        if k < 1 or nodes.size == 0 or nodes.size % k:
            raise ValueError(f"{nodes.size} outputs cannot be split into {k} equal groups")
        self.num_classes, self.tau = int(k), float(tau)
        return nodes

    def finish(self, outputs: ArrayLike, class_names: Sequence[str] | None = None) -> Netlist:
        """Returns the circuit of everything added; without a group sum each output is a class of its own."""
        return replace(self._circuit(self.num_inputs, outputs, class_names), **self.encoding)

    def _new_nodes(self, count: int) -> NodeIds:
        first, self._num_nodes = self._num_nodes, self._num_nodes + count
        if self._num_nodes > MAX_NODES:
            raise ValueError(f"{self._num_nodes} nodes are asked for; a circuit holds at most {MAX_NODES}")
        return np.arange(first, self._num_nodes, dtype=np.int32)

    def joined(self) -> tuple[NDArray[np.uint8], NodeIds, NodeIds]:
        """The gates so far: ids and operands."""
        none = np.zeros(0, np.int32)
        gates = np.concatenate([none.astype(np.uint8), *self._gates])
        return gates, np.concatenate([none, *self._a]), np.concatenate([none, *self._b])

    def _circuit(self, num_inputs: int, outputs: ArrayLike, class_names: Sequence[str] | None) -> Netlist:
        """The gates so far on plain inputs."""
        nodes = np.asarray(outputs, dtype=np.int32).reshape(-1)
        num_classes = nodes.size if self.num_classes is None else self.num_classes
        names = None if class_names is None else tuple(class_names)
        return Netlist(num_inputs, *self.joined(), nodes, num_classes, tau=self.tau, class_names=names)


def _image_size(wires: NodeIds) -> Pair:
    if wires.ndim != 3:
        raise ValueError(f"the wires of an image are [channels, height, width], got {list(wires.shape)}")
    return wires.shape[1:]


def _image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"an image shape is (C, H, W) with positive sizes, got {tuple(shape)}")
    return sizes[0], sizes[1], sizes[2]
