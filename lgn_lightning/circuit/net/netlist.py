"""`Circuit`: a hard logic gate network as a structure of arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.build.builder import MAX_NODES

if TYPE_CHECKING:
    import torch

    from lgn_lightning.circuit.check.stats import CircuitStats
    from lgn_lightning.circuit.check.verify import Verification
    from lgn_lightning.circuit.run.engine import Engine


class CircuitError(ValueError):
    """A circuit, or an array given to one, is not valid."""


@dataclass(frozen=True, eq=False)
class Circuit:
    """A boolean circuit with grouped outputs.

    Nodes ``0 … num_inputs-1`` are inputs; node ``num_inputs + i`` is gate *i*, whose operands are smaller node
    numbers. A gate is its truth table: for two operands the gate id of `lgn_lightning.gates`, for three (after
    `map_to_luts`) eight bits, from the most to the least significant the outputs for ABC = 000, 001, …, 111.

    Attributes:
        num_inputs: Number of input bits.
        gates: Truth tables, uint8 ``[n]``.
        a: Node ids of operand A, int32 ``[n]``.
        b: Node ids of operand B, int32 ``[n]``.
        outputs: Output node ids, int32 ``[outputs]``: ``num_classes`` equal groups, in class order. The score of a
            class is the number of ones in its group.
        num_classes: Number of groups.
        c: Node ids of operand C, int32 ``[n]``, or None for a circuit of two-input gates.
        tau: What the net divides the sums by; integer scores are not divided.
        levels: Threshold levels, uint8 ``[T]``, if the inputs are pixels in thermometer code: input
            ``t · pixels + p`` is ``pixel[p] > levels[t]``. None for plain booleans.
        image_shape: (C, H, W) of those pixels.
        class_names: One name a class, or None.
        preparation: What makes such images of image files, see `lgn_lightning.data.image_file`; None if they
            are taken as they are.

    Raises:
        CircuitError: If the arrays are not a valid circuit; the message says which entry.
    """

    num_inputs: int
    gates: NDArray[np.uint8]
    a: NDArray[np.int32]
    b: NDArray[np.int32]
    outputs: NDArray[np.int32]
    num_classes: int
    c: NDArray[np.int32] | None = None
    tau: float = 1.0
    levels: NDArray[np.uint8] | None = None
    image_shape: tuple[int, int, int] | None = None
    class_names: tuple[str, ...] | None = None
    preparation: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.num_inputs < MAX_NODES:
            raise CircuitError(f"num_inputs must be in 1…{MAX_NODES - 1}, got {self.num_inputs}")
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
        object.__setattr__(self, "levels", check_encoding(self.num_inputs, self.levels, self.image_shape))
        if self.class_names is not None:
            if len(self.class_names) != self.num_classes:
                raise CircuitError(f"{len(self.class_names)} class names for {self.num_classes} classes")
            for name in self.class_names:
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
    def num_pixels(self) -> int | None:
        """Number of bytes of an image, or None where the inputs are plain booleans."""
        return None if self.image_shape is None else int(np.prod(self.image_shape))

    @property
    def arity(self) -> int:
        """Operands a gate has: 2, or 3 after the mapping to three-input gates."""
        return 2 if self.c is None else 3

    @property
    def operands(self) -> tuple[NDArray[np.int32], ...]:
        """The operand arrays: (a, b) or (a, b, c)."""
        return (self.a, self.b) if self.c is None else (self.a, self.b, self.c)

    @cached_property
    def gate_levels(self) -> NDArray[np.int32]:
        """Level of each gate, int32 ``[n]``: 1 + the highest level of its operands; inputs have level 0."""
        from lgn_lightning.circuit.simulate import gate_levels

        return gate_levels(self)

    @classmethod
    def from_module(
        cls, net: torch.nn.Module, class_names: Sequence[str] | None = None, input_shape: Sequence[int] | None = None
    ) -> Circuit:
        """Turns a net into a circuit of the gates it settled on.

        Args:
            net: `Sequential`, `Flatten`, `Identity`, `Dropout` and any module with ``add_to_circuit``.
            class_names: One name a class.
            input_shape: Image shape (C, H, W), for a threshold encoder that does not know it.

        Returns:
            The circuit, gate for gate as in the net; nothing is optimised.

        Raises:
            CircuitError: If a module cannot become gates (path and type are named) or widths do not fit.
        """
        from lgn_lightning.circuit.build.walker import circuit_from_module

        return circuit_from_module(net, class_names, input_shape)

    def with_class_names(self, names: Sequence[str] | None) -> Circuit:
        """Returns the circuit with other class names."""
        return replace(self, class_names=None if names is None else tuple(names))

    def with_preparation(self, name: str | None) -> Circuit:
        """Returns the circuit with another preparation of image files; none where the inputs are no pixels."""
        return replace(self, preparation=name if self.image_shape is not None else None)

    def simulate(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Evaluates packed inputs, uint64 ``[num_inputs, w]`` → ``[outputs, w]``: the oracle of every engine."""
        from lgn_lightning.circuit.simulate import simulate

        return simulate(self, words)

    def scores(self, x: ArrayLike) -> NDArray[np.int32]:
        """Simulates samples: bool ``[N, num_inputs]``, or uint8 pixels with an encoder → int32 ``[N, num_classes]``."""
        from lgn_lightning.circuit.simulate import scores

        return scores(self, x)

    def predict(self, x: ArrayLike) -> NDArray[np.int32]:
        """Simulates samples and returns the class of the highest score (the first of equals), int32 ``[N]``."""
        return np.asarray(self.scores(x).argmax(axis=1), dtype=np.int32)

    def remove_dead_gates(self) -> Circuit:
        """Returns the circuit without the gates that no output depends on. All inputs stay."""
        from lgn_lightning.circuit.simulate import remove_dead_gates

        return remove_dead_gates(self)

    def optimize(self, level: int = 2) -> Circuit:
        """Returns a smaller circuit of equal scores; see `lgn_lightning.circuit.passes.flat.optimize`."""
        from lgn_lightning.circuit.passes.flat import optimize

        return optimize(self, level)

    def compile(self, engine: str = "auto", *, threads: int = 1) -> Engine:
        """Returns a callable samples → scores; see `lgn_lightning.circuit.run.engine.Engine`."""
        from lgn_lightning.circuit.run.engine import Engine

        return Engine(self, engine, threads=threads)

    def verify(self, other: Circuit, samples: ArrayLike | None = None) -> Verification:
        """Compares the scores of two circuits; see `lgn_lightning.circuit.check.verify.verify`."""
        from lgn_lightning.circuit.check.verify import verify

        return verify(self, other, samples)

    def stats(self) -> CircuitStats:
        """Counts gates, live gates, depth and gates by kind."""
        from lgn_lightning.circuit.check.stats import circuit_stats

        return circuit_stats(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the circuit file (see `lgn_lightning.circuit.file`), atomically."""
        from lgn_lightning.circuit.file import save_circuit

        save_circuit(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Circuit:
        """Reads a circuit file.

        Raises:
            FileNotFoundError: If there is none.
            CircuitError: If it is no circuit file, of a later version, truncated or corrupt, or holds a looped circuit.
        """
        from lgn_lightning.circuit.file import load_circuit

        circuit = load_circuit(path)
        if not isinstance(circuit, Circuit):
            raise CircuitError(
                f"{os.fspath(path)} holds a looped circuit: read it with LoopedCircuit.load, and unroll() it"
            )
        return circuit

    def to_c(self, **options: Any) -> str:
        """Returns the circuit as C99 source; see `lgn_lightning.circuit.emit.c.emit_c` for the options."""
        from lgn_lightning.circuit.emit.c import emit_c

        return emit_c(self, **options)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Circuit):
            return NotImplemented
        arrays = ("gates", "a", "b", "c", "outputs", "levels")
        values = ("num_inputs", "num_classes", "tau", "image_shape", "class_names", "preparation")
        return all(_same(getattr(self, name), getattr(other, name)) for name in arrays) and all(
            getattr(self, name) == getattr(other, name) for name in values
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        encoding = "" if self.levels is None else f", {self.levels.size} thresholds on {self.image_shape}"
        return (
            f"Circuit({self.num_inputs} inputs{encoding}, {self.num_gates} gates of {self.arity} operands, "
            f"{self.outputs.size} outputs in {self.num_classes} classes)"
        )


def check_encoding(
    num_inputs: int, levels: NDArray[np.uint8] | None, image_shape: tuple[int, int, int] | None
) -> NDArray[np.uint8] | None:
    """Checks that thresholds and image make up the inputs; returns the levels, not writeable."""
    if (levels is None) != (image_shape is None):
        raise CircuitError("levels and image_shape belong together: give both or neither")
    if levels is None or image_shape is None:
        return None
    frozen = np.asarray(levels, dtype=np.uint8)
    frozen.flags.writeable = False
    if frozen.ndim != 1 or frozen.size * int(np.prod(image_shape)) != num_inputs:
        raise CircuitError(f"{frozen.size} thresholds on an image of shape {image_shape} are not {num_inputs} inputs")
    return frozen


def _same(left: NDArray[Any] | None, right: NDArray[Any] | None) -> bool:
    return left is right if left is None or right is None else np.array_equal(left, right)


def _describe(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
