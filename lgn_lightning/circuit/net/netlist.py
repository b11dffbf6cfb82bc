"""`Netlist`: a hard logic gate network as a structure of arrays. Data only: what is done with it stands above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.columns import Column, Comparisons
from lgn_lightning.circuit.net.decoding import ARGMAX, Decoding

#: Node ids are int32, so a circuit has fewer nodes than this.
MAX_NODES: Final = 2**31 - 1
#: Above this many levels `Netlist.gate_levels` goes gate by gate.
_LEVELS_AT_ONCE: Final = 64

NodeIds = NDArray[np.int32]


class CircuitError(ValueError):
    """A circuit, or an array given to one, is not valid."""


class ArrayFields:
    """Equality of dataclasses that hold arrays: field by field, whatever the subclass. They have no hash."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)) and not isinstance(self, type(other)):
            return NotImplemented
        pairs = [(getattr(self, part.name), getattr(other, part.name)) for part in fields(self)]
        return all(np.array_equal(x, y) if np.ndarray in (type(x), type(y)) else x == y for x, y in pairs)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class CircuitInputs(ArrayFields):
    """The inputs of a circuit of either form: plain booleans, pixels in thermometer code, or comparisons of columns.

    Attributes:
        num_inputs: Number of input bits.
        levels: Threshold levels of pixels, uint8 ``[T]``: input ``t · pixels + p`` is ``pixel[p] > levels[t]``. None
            for plain booleans.
        image_shape: (C, H, W) of those pixels.
        preparation: What makes such images of image files, see `lgn_lightning.data.image_file`; None if they
            are taken as they are.
        comparisons: What makes the bits of a table's row, one a input; None for pixels and plain booleans.
    """

    num_inputs: int
    levels: NDArray[np.uint8] | None = field(default=None, kw_only=True)
    image_shape: tuple[int, int, int] | None = field(default=None, kw_only=True)
    preparation: str | None = field(default=None, kw_only=True)
    comparisons: Comparisons | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 < self.num_inputs < MAX_NODES:
            raise CircuitError(f"num_inputs must be in 1…{MAX_NODES - 1}, got {self.num_inputs}")
        if self.comparisons is not None:
            if self.levels is not None or self.image_shape is not None:
                raise CircuitError("inputs are pixels or columns of a table: give levels or comparisons")
            if len(self.comparisons) != self.num_inputs:
                raise CircuitError(f"{len(self.comparisons)} comparisons are not {self.num_inputs} inputs")
        if self.levels is None and self.image_shape is None:
            return
        if self.levels is None or self.image_shape is None:
            raise CircuitError("levels and image_shape belong together: give both or neither")
        levels, shape = np.asarray(self.levels, dtype=np.uint8), self.image_shape
        levels.flags.writeable = False
        if levels.ndim != 1 or levels.size * math.prod(shape) != self.num_inputs:
            raise CircuitError(f"{levels.size} thresholds on images {shape} are not {self.num_inputs} inputs")
        object.__setattr__(self, "levels", levels)

    @property
    def num_pixels(self) -> int | None:
        """Number of bytes of an image, or None where the inputs are plain booleans."""
        return None if self.image_shape is None else math.prod(self.image_shape)

    @property
    def columns(self) -> tuple[Column, ...] | None:
        """The columns of a row, or None where the inputs are no comparisons."""
        return None if self.comparisons is None else self.comparisons.columns

    @property
    def encoding(self) -> dict[str, Any]:
        """What the inputs are, as arguments of a circuit."""
        return {name: getattr(self, name) for name in ("levels", "image_shape", "preparation", "comparisons")}

    @property
    def is_plain(self) -> bool:
        """Whether the inputs are plain booleans."""
        return self.levels is None and self.comparisons is None

    def with_preparation(self: AnyInputs, name: str | None) -> AnyInputs:
        """Returns the circuit with another preparation of image files; none where the inputs are no pixels."""
        return replace(self, preparation=name if self.image_shape is not None else None)

    def with_decoding(self: AnyInputs, decoding: Decoding) -> AnyInputs:
        """Returns the circuit with other words for the same scores, without class names."""
        return self._with(decoding=decoding, class_names=None)

    def with_class_names(self: AnyInputs, names: Sequence[str] | None) -> AnyInputs:
        """Returns the circuit with other class names."""
        return self._with(class_names=None if names is None else tuple(names))

    def _with(self: AnyInputs, **words: Any) -> AnyInputs:
        return replace(self, **words)

    def _describe(self, gates: str) -> str:
        pixels = "" if self.levels is None else f", {self.levels.size} thresholds on {self.image_shape}"
        pixels += "" if self.columns is None else f" of {len(self.columns)} columns"
        return f"{type(self).__name__}({self.num_inputs} inputs{pixels}, {gates})"


#: A circuit of any form, or its public subclass: what is made of it is of the same class.
AnyInputs = TypeVar("AnyInputs", bound=CircuitInputs)


@dataclass(frozen=True, eq=False)
class Netlist(CircuitInputs):
    """A boolean circuit with grouped outputs; its inputs are those of `CircuitInputs`.

    Nodes ``0 … num_inputs-1`` are inputs; node ``num_inputs + i`` is gate *i*, whose operands are smaller node
    numbers. A gate is its truth table: for two operands the gate id of `lgn_lightning.gates`, for three (after
    `map_to_luts`) eight bits, from the most to the least significant the outputs for ABC = 000, 001, …, 111.

    Attributes:
        gates: Truth tables, uint8 ``[n]``.
        a: Node ids of operand A, int32 ``[n]``.
        b: Node ids of operand B, int32 ``[n]``.
        outputs: Output node ids, int32 ``[outputs]``: ``num_classes`` equal groups, in class order. The score of a
            class is the number of ones in its group.
        num_classes: Number of groups.
        c: Node ids of operand C, int32 ``[n]``, or None for a circuit of two-input gates.
        tau: What the net divides the sums by; integer scores are not divided.
        class_names: One name a class, level, label or number, or None.
        decoding: What the scores say: by default the class of the highest.

    Raises:
        CircuitError: If the arrays are not a valid circuit; the message says which entry.
    """

    gates: NDArray[np.uint8]
    a: NodeIds
    b: NodeIds
    outputs: NodeIds
    num_classes: int
    c: NodeIds | None = None
    tau: float = 1.0
    class_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    decoding: Decoding = field(default=ARGMAX, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gates", "a", "b", "c", "outputs"):
            dtype = np.uint8 if name == "gates" else np.int32
            array = getattr(self, name)
            if array is None and name == "c":
                continue
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
                raise CircuitError(f"{name} must be a vector of {np.dtype(dtype)}, got {_describe(array)}")
            array = np.ascontiguousarray(array).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        count = self.gates.size
        if self.num_inputs + count > MAX_NODES:
            raise CircuitError(f"{self.num_inputs + count} nodes; a circuit holds at most {MAX_NODES}")
        node = np.arange(self.num_inputs, self.num_inputs + count, dtype=np.int32)
        for name in ("a", "b", "c"):
            operand = getattr(self, name)
            if operand is None:
                continue
            if operand.size != count:
                raise CircuitError(f"{name} has {operand.size} entries for {count} gates")
            wrong = np.flatnonzero((operand < 0) | (operand >= node))
            if wrong.size:
                gate = int(wrong[0])
                raise CircuitError(
                    f"operand {name} of gate {gate} (node {node[gate]}) is node {operand[gate]}: operands must be "
                    "earlier nodes (an index out of range, or a cycle)"
                )
        if self.c is None and count and self.gates.max() > 15:
            raise CircuitError(f"gate {int(self.gates.argmax())} has id {self.gates.max()}, above 15")
        if self.num_classes < 1 or self.outputs.size == 0 or self.outputs.size % self.num_classes:
            raise CircuitError(f"{self.outputs.size} outputs do not split into {self.num_classes} equal groups")
        if self.outputs.min() < 0 or self.outputs.max() >= self.num_nodes:
            raise CircuitError(f"an output is node {self.outputs.max()}, but there are {self.num_nodes} nodes")
        groups = self.decoding.groups
        if groups not in (None, self.num_classes):
            raise CircuitError(f"{self.num_classes} groups of outputs are not the {groups} of the decoding")
        if not all(isinstance(threshold, int) for threshold in self.decoding.thresholds):
            raise CircuitError(f"thresholds of counts are whole numbers, and not {self.decoding.thresholds}")
        names = self.decoding.num_names(self.num_classes)
        if self.class_names is not None and len(self.class_names) != names:
            raise CircuitError(f"{len(self.class_names)} class names for {names} classes")
        for name in self.class_names or ():
            if not name or not name.isprintable():
                raise CircuitError(f"class name {name!r} is empty or has unprintable characters")

    @property
    def num_gates(self) -> int:
        """Number of gates."""
        return int(self.gates.size)

    @property
    def num_nodes(self) -> int:
        """Number of inputs and gates."""
        return self.num_inputs + self.num_gates

    @property
    def arity(self) -> int:
        """Operands a gate has: 2, or 3 after the mapping to three-input gates."""
        return 2 if self.c is None else 3

    @property
    def operands(self) -> tuple[NodeIds, ...]:
        """The operand arrays: (a, b) or (a, b, c)."""
        return (self.a, self.b) if self.c is None else (self.a, self.b, self.c)

    @cached_property
    def inputs_read(self) -> NodeIds:
        """Inputs that a gate or an output reads, int32, ascending."""
        read: NodeIds = np.unique(np.concatenate([*self.operands, self.outputs]))
        return read[read < self.num_inputs]

    @cached_property
    def gate_levels(self) -> NDArray[np.int32]:
        """Level of each gate, int32 ``[n]``: 1 + the highest level of its operands; inputs have level 0."""
        # All gates at once, as often as there are levels; gate by gate where there are many.
        levels = np.zeros(self.num_nodes, np.int32)
        for _ in range(_LEVELS_AT_ONCE):
            own = np.asarray(1 + np.maximum.reduce([levels[operand] for operand in self.operands]))
            if np.array_equal(own, levels[self.num_inputs :]):
                return own
            levels[self.num_inputs :] = own
        level = [0] * self.num_nodes
        node = self.num_inputs
        for operands in zip(*(operand.tolist() for operand in self.operands), strict=True):
            level[node] = 1 + max([level[operand] for operand in operands])
            node += 1
        return np.array(level[self.num_inputs :], np.int32)

    def with_gates(self: AnyFlat, gates: NDArray[np.uint8], operands: Sequence[NodeIds], outputs: NodeIds) -> AnyFlat:
        """Returns the circuit with other gates of two or three operands, and other outputs."""
        a, b, *c = operands
        return replace(self, gates=gates, a=a, b=b, c=c[0] if c else None, outputs=outputs)

    def __repr__(self) -> str:
        outputs = f"{self.outputs.size} outputs in {self.num_classes} classes"
        return self._describe(f"{self.num_gates} gates of {self.arity} operands, {outputs}")


#: A netlist or its public subclass: passes return what they were given.
AnyFlat = TypeVar("AnyFlat", bound=Netlist)


def _describe(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
