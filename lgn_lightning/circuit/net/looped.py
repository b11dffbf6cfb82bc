"""`LoopedCircuit`: a circuit whose convolutions are kept as kernels with their places, and not unrolled."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.build.builder import MAX_NODES, CircuitBuilder, NodeIds, check_kernel
from lgn_lightning.circuit.build.unroll import unroll_kernel
from lgn_lightning.circuit.net.kernel import Places
from lgn_lightning.circuit.net.netlist import Circuit, CircuitError, check_encoding

if TYPE_CHECKING:
    import torch

    from lgn_lightning.circuit.run.engine import Engine
#: Words that a kernel's simulation may hold, which bounds its memory.
_SIMULATED_WORDS = 1 << 26


@dataclass(frozen=True, eq=False)
class Gates:
    """A stage of plain gates, whose operands are nodes of the looped circuit.

    Attributes:
        gates: Gate ids, uint8 ``[n]``.
        a: Node ids of operand A, int32 ``[n]``.
        b: Node ids of operand B, int32 ``[n]``.
    """

    gates: NDArray[np.uint8]
    a: NodeIds
    b: NodeIds

    @property
    def num_nodes(self) -> int:
        """Nodes that the stage adds, one a gate."""
        return int(self.gates.size)

    def as_circuit(self, nodes: int, outputs: NodeIds) -> Circuit:
        """The stage as a circuit whose inputs are the ``nodes`` before it."""
        return Circuit(nodes, self.gates, self.a, self.b, outputs, outputs.size)


@dataclass(frozen=True, eq=False)
class Loop:
    """A stage that applies a kernel at many places. It adds the nodes ``[outputs of the kernel, *places.size]``.

    Attributes:
        kernel: What is computed at a place: inputs are ``[channels, *places.kernel]``, outputs the result's channels.
        wires: Nodes of the image, int32 ``[channels, *places.image]``.
        places: Where.
    """

    kernel: Circuit
    wires: NodeIds
    places: Places

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the result."""
        return (int(self.kernel.outputs.size), *self.places.size)

    @property
    def num_nodes(self) -> int:
        """Nodes that the stage adds."""
        return int(np.prod(self.shape))

    @property
    def num_gates(self) -> int:
        """Gates that a sample takes: the kernel at every place, and the ORs of the windows."""
        rows, columns = self.places.unpooled
        ors = self.places.window[0] * self.places.window[1] - 1
        return self.kernel.num_gates * rows * columns + self.num_nodes * ors


@dataclass(frozen=True, eq=False)
class LoopedCircuit:
    """A boolean circuit with grouped outputs, part of which is loops over the places of an image.

    Nodes are numbered through: first the inputs, then those of each stage, then the gates of the tail.

    Attributes:
        num_inputs: Number of input bits.
        stages: What is computed one after the other.
        tail: What comes behind the last loop: a circuit whose inputs are all nodes before it. It has the outputs, the
            classes and their names.
        levels: As in `Circuit`.
        image_shape: As in `Circuit`.
        preparation: As in `Circuit`.

    Raises:
        CircuitError: If the stages do not fit one another; the message says which.
    """

    num_inputs: int
    stages: tuple[Gates | Loop, ...]
    tail: Circuit
    levels: NDArray[np.uint8] | None = None
    image_shape: tuple[int, int, int] | None = None
    preparation: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.num_inputs < MAX_NODES:
            raise CircuitError(f"num_inputs must be in 1…{MAX_NODES - 1}, got {self.num_inputs}")
        object.__setattr__(self, "levels", check_encoding(self.num_inputs, self.levels, self.image_shape))
        last = self.num_inputs
        for number, (first, stage) in enumerate(self.numbered()):
            last = first + stage.num_nodes
            try:
                if last > MAX_NODES:
                    raise CircuitError(f"{last} nodes; a circuit holds at most {MAX_NODES}")
                if isinstance(stage, Loop):
                    _check_loop(stage, first)
                elif stage.num_nodes:
                    stage.as_circuit(first, np.arange(first, last, dtype=np.int32))
            except ValueError as error:
                raise CircuitError(f"stage {number}: {error}") from error
        if self.tail.num_inputs != last or self.tail.arity != 2 or self.tail.levels is not None:
            raise CircuitError(f"the tail must be a circuit of two-input gates on {last} plain inputs: {self.tail}")

    def numbered(self) -> Iterator[tuple[int, Gates | Loop]]:
        """The stages, each with the number of its first node."""
        first = self.num_inputs
        for stage in self.stages:
            yield first, stage
            first += stage.num_nodes

    @property
    def outputs(self) -> NodeIds:
        """Output node ids; see `Circuit`."""
        return self.tail.outputs

    @property
    def num_classes(self) -> int:
        """Number of groups of outputs."""
        return self.tail.num_classes

    @property
    def tau(self) -> float:
        """What the net divides the sums by."""
        return self.tail.tau

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """One name a class, or None."""
        return self.tail.class_names

    @property
    def num_pixels(self) -> int | None:
        """Number of bytes of an image, or None where the inputs are plain booleans."""
        return None if self.image_shape is None else int(np.prod(self.image_shape))

    @property
    def num_nodes(self) -> int:
        """Number of nodes: inputs, results of the stages and gates of the tail."""
        return self.tail.num_nodes

    @property
    def arity(self) -> int:
        """Operands a gate has: always 2."""
        return 2

    @property
    def num_gates(self) -> int:
        """Gates that a sample takes: those of a kernel count at every place, the ORs of its windows too."""
        return self.tail.num_gates + sum(
            stage.num_gates if isinstance(stage, Loop) else stage.num_nodes for stage in self.stages
        )

    @property
    def num_stored_gates(self) -> int:
        """Gates that are stored: those of a kernel count once."""
        return self.tail.num_gates + sum(
            stage.kernel.num_gates if isinstance(stage, Loop) else stage.num_nodes for stage in self.stages
        )

    @classmethod
    def from_module(
        cls, net: torch.nn.Module, class_names: Sequence[str] | None = None, input_shape: Sequence[int] | None = None
    ) -> LoopedCircuit:
        """Turns a net into a looped circuit of the gates it settled on; arguments and errors as `Circuit.from_module`.

        Dense layers and encoders become plain gates, as in a `Circuit`; nothing is optimised.
        """
        from lgn_lightning.circuit.build.looped_builder import LoopedBuilder
        from lgn_lightning.circuit.build.walker import walk_module

        builder = LoopedBuilder(input_shape)
        return walk_module(net, builder, lambda wires: builder.finish_looped(wires, class_names))

    def unroll(self) -> Circuit:
        """Returns the circuit in which every place has gates of its own: the same scores."""
        builder = CircuitBuilder(self.image_shape)
        builder.levels = self.levels
        node = builder.inputs(self.num_inputs)
        for _, stage in self.numbered():
            if isinstance(stage, Loop):
                added = unroll_kernel(builder, node[stage.wires], stage.kernel, stage.places).reshape(-1)
            else:
                added = _append(builder, node, stage.gates, stage.a, stage.b)
            node = np.concatenate([node, added])
        node = np.concatenate([node, _append(builder, node, self.tail.gates, self.tail.a, self.tail.b)])
        builder.group_sum(node[self.outputs], self.num_classes, self.tau)
        return builder.finish(node[self.outputs], self.class_names).with_preparation(self.preparation)

    def with_class_names(self, names: Sequence[str] | None) -> LoopedCircuit:
        """Returns the circuit with other class names."""
        return replace(self, tail=self.tail.with_class_names(names))

    def with_preparation(self, name: str | None) -> LoopedCircuit:
        """Returns the circuit with another preparation of image files; none where the inputs are no pixels."""
        return replace(self, preparation=name if self.image_shape is not None else None)

    def simulate(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Evaluates packed inputs, uint64 ``[num_inputs, w]`` → ``[outputs, w]``; see `Circuit.simulate`."""
        if words.dtype != np.uint64 or words.ndim != 2 or words.shape[0] != self.num_inputs:
            raise CircuitError(f"words must be uint64 [{self.num_inputs}, w], got {words.dtype} {list(words.shape)}")
        values = np.empty((self.tail.num_inputs, words.shape[1]), np.uint64)
        values[: self.num_inputs] = words
        for first, stage in self.numbered():
            last = first + stage.num_nodes
            if isinstance(stage, Loop):
                values[first:last] = _simulate_loop(stage, values[stage.wires])
            elif last > first:
                outputs = np.arange(first, last, dtype=np.int32)
                values[first:last] = stage.as_circuit(first, outputs).simulate(values[:first])
        return self.tail.simulate(values)

    def scores(self, x: ArrayLike) -> NDArray[np.int32]:
        """Simulates samples; see `Circuit.scores`."""
        from lgn_lightning.circuit.simulate import scores

        return scores(self, x)

    def predict(self, x: ArrayLike) -> NDArray[np.int32]:
        """Simulates samples and returns the class of the highest score; see `Circuit.predict`."""
        return np.asarray(self.scores(x).argmax(axis=1), dtype=np.int32)

    def optimize(self, level: int = 2) -> LoopedCircuit:
        """Returns a smaller looped circuit of equal scores; see `lgn_lightning.circuit.passes.looped`."""
        from lgn_lightning.circuit.passes.looped import optimize_looped

        return optimize_looped(self, level)

    def compile(self, engine: str = "auto", *, threads: int = 1) -> Engine:
        """Returns a callable samples → scores; see `lgn_lightning.circuit.run.engine.Engine`."""
        from lgn_lightning.circuit.run.engine import Engine

        return Engine(self, engine, threads=threads)

    def to_c(self, **options: Any) -> str:
        """Returns the circuit as C99 source; see `lgn_lightning.circuit.emit.c.emit_c` for the options."""
        from lgn_lightning.circuit.emit.c import emit_c

        return emit_c(self, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the circuit file (see `lgn_lightning.circuit.file`), atomically."""
        from lgn_lightning.circuit.file import save_circuit

        save_circuit(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LoopedCircuit:
        """Reads a circuit file; errors as `Circuit.load`, also if it holds a circuit without loops."""
        from lgn_lightning.circuit.file import load_circuit

        circuit = load_circuit(path)
        if not isinstance(circuit, LoopedCircuit):
            raise CircuitError(f"{os.fspath(path)} holds a circuit without loops: read it with Circuit.load")
        return circuit

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LoopedCircuit):
            return NotImplemented
        from lgn_lightning.circuit.file import circuit_to_bytes

        return circuit_to_bytes(self) == circuit_to_bytes(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        loops = sum(isinstance(stage, Loop) for stage in self.stages)
        encoding = "" if self.levels is None else f", {self.levels.size} thresholds on {self.image_shape}"
        return (
            f"LoopedCircuit({self.num_inputs} inputs{encoding}, {loops} loops, {self.num_gates} gates of which "
            f"{self.num_stored_gates} are stored, {self.outputs.size} outputs in {self.num_classes} classes)"
        )


def _check_loop(stage: Loop, first: int) -> None:
    wires = stage.wires
    if not isinstance(wires, np.ndarray) or wires.dtype != np.int32 or wires.shape[1:] != stage.places.image:
        raise CircuitError(f"the wires must be int32 [channels, {', '.join(map(str, stage.places.image))}]")
    if wires.size == 0 or wires.min() < 0 or wires.max() >= first:
        raise CircuitError(f"the wires must be earlier nodes, 0…{first - 1}")
    check_kernel(wires, stage.kernel, stage.places)


def _append(builder: CircuitBuilder, node: NodeIds, gates: NDArray[np.uint8], a: NodeIds, b: NodeIds) -> NodeIds:
    """Adds plain gates whose operands are numbered otherwise: ``node`` holds the ids of those that there are."""
    # Gates follow one another in both, so that those behind the nodes of before are shifted only.
    shift = builder.num_nodes - node.size
    known = node.size
    renumbered = [np.where(x < known, node[np.minimum(x, known - 1)], x + shift) for x in (a, b)]
    return builder.gates(gates, *renumbered)


def _simulate_loop(stage: Loop, image: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Simulates a kernel at all places: ``[channels, H, W, w]`` → ``[nodes of the stage, w]``."""
    places, kernel = stage.places, stage.kernel
    borders = ((0, 0), (places.padding[0],) * 2, (places.padding[1],) * 2, (0, 0))
    padded = np.pad(image, borders)
    (height, width), words = places.unpooled, image.shape[-1]
    rows, columns = ((n - 1) * s + 1 for n, s in zip(places.unpooled, places.stride, strict=True))
    at_once = max(1, _SIMULATED_WORDS // (kernel.num_nodes * height * width))
    result = np.empty((*stage.shape, words), np.uint64)
    for start in range(0, words, at_once):
        part = padded[..., start : start + at_once]
        field = np.stack(
            [
                part[:, i : i + rows : places.stride[0], j : j + columns : places.stride[1]]
                for i in range(places.kernel[0])
                for j in range(places.kernel[1])
            ],
            axis=1,
        )
        at_places = kernel.simulate(field.reshape(kernel.num_inputs, -1)).reshape(-1, height, width, part.shape[-1])
        result[..., start : start + at_once] = _or_windows(at_places, places)
    return result.reshape(stage.num_nodes, words)


def _or_windows(values: NDArray[np.uint64], places: Places) -> NDArray[np.uint64]:
    windows = np.lib.stride_tricks.sliding_window_view(values, places.window, axis=(1, 2))
    stepped = windows[:, :: places.window_stride[0], :: places.window_stride[1]]
    return np.asarray(np.bitwise_or.reduce(stepped, axis=(-2, -1)))
