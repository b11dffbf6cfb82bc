"""`LoopedNetlist`: a circuit whose convolutions are kept as kernels with their places, and not unrolled. Data only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.decoding import Decoding
from lgn_lightning.circuit.net.kernel import Places, check_kernel
from lgn_lightning.circuit.net.netlist import MAX_NODES, ArrayFields, CircuitError, CircuitInputs, Netlist, NodeIds


@dataclass(frozen=True, eq=False)
class Gates(ArrayFields):
    """A stage of plain gates, uint8 ids ``[n]``, whose operands, int32 ``[n]``, are nodes of the looped circuit."""

    gates: NDArray[np.uint8]
    a: NodeIds
    b: NodeIds

    @property
    def num_gates(self) -> int:
        return int(self.gates.size)

    num_nodes = num_gates

    def as_circuit(self, nodes: int, outputs: NodeIds) -> Netlist:
        """The stage as a circuit whose inputs are the ``nodes`` before it."""
        return Netlist(nodes, self.gates, self.a, self.b, outputs, outputs.size)


@dataclass(frozen=True, eq=False)
class Loop(ArrayFields):
    """A stage that applies a kernel at many places. It adds the nodes ``[outputs of the kernel, *places.size]``.

    The kernel's inputs are ``[channels, *places.kernel]``; ``wires`` are the image, int32 ``[channels,
    *places.image]``.
    """

    kernel: Netlist
    wires: NodeIds
    places: Places

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the result."""
        return (int(self.kernel.outputs.size), *self.places.size)

    @property
    def num_nodes(self) -> int:
        return int(np.prod(self.shape))

    @property
    def num_gates(self) -> int:
        """Gates that a sample takes: the kernel at every place, and the ORs of the windows."""
        rows, columns = self.places.unpooled
        ors = self.places.window[0] * self.places.window[1] - 1
        return self.kernel.num_gates * rows * columns + self.num_nodes * ors


@dataclass(frozen=True, eq=False)
class LoopedNetlist(CircuitInputs):
    """A boolean circuit with grouped outputs, part of which is loops over the places of an image; see `CircuitInputs`.

    Nodes are numbered through: first the inputs, then those of each stage, then the gates of the tail.

    Attributes:
        stages: What is computed one after the other.
        tail: What comes behind the last loop: a circuit whose inputs are all nodes before it. It has the outputs, the
            classes and their names.

    Raises:
        CircuitError: If the stages do not fit one another; the message says which.
    """

    stages: tuple[Gates | Loop, ...]
    tail: Netlist

    def __post_init__(self) -> None:
        super().__post_init__()
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
        if self.tail.num_inputs != last or self.tail.arity != 2 or not self.tail.is_plain:
            raise CircuitError(f"the tail must be a circuit of two-input gates on {last} plain inputs: {self.tail}")

    def numbered(self) -> Iterator[tuple[int, Gates | Loop]]:
        """The stages, each with the number of its first node."""
        first = self.num_inputs
        for stage in self.stages:
            yield first, stage
            first += stage.num_nodes

    @property
    def has_loops(self) -> bool:
        """Whether a stage is a loop; a net without convolutions has none."""
        return any(isinstance(stage, Loop) for stage in self.stages)

    @property
    def outputs(self) -> NodeIds:
        """Output node ids; see `Netlist`."""
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
    def decoding(self) -> Decoding:
        """What the scores say."""
        return self.tail.decoding

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """One name a class, or None."""
        return self.tail.class_names

    @property
    def num_nodes(self) -> int:
        """Number of nodes: inputs, results of the stages and gates of the tail."""
        return self.tail.num_nodes

    @property
    def num_places(self) -> int:
        """Bits that a simulation holds: those of the nodes and of the padded images."""
        loops = [stage for stage in self.stages if isinstance(stage, Loop)]
        return self.num_nodes + sum(len(loop.wires) * math.prod(loop.places.padded) for loop in loops)

    @property
    def arity(self) -> int:
        """Operands a gate has: always 2."""
        return 2

    @property
    def num_gates(self) -> int:
        """Gates that a sample takes: those of a kernel count at every place, the ORs of its windows too."""
        return self.tail.num_gates + sum(stage.num_gates for stage in self.stages)

    @property
    def num_stored_gates(self) -> int:
        """Gates that are stored: those of a kernel count once."""
        stored = (stage.kernel.num_gates if isinstance(stage, Loop) else stage.num_gates for stage in self.stages)
        return self.tail.num_gates + sum(stored)

    def _with(self: AnyLooped, **words: Any) -> AnyLooped:
        return replace(self, tail=self.tail._with(**words))

    def __repr__(self) -> str:
        loops = sum(isinstance(stage, Loop) for stage in self.stages)
        gates = f"{loops} loops, {self.num_gates} gates of which {self.num_stored_gates} are stored"
        return self._describe(f"{gates}, {self.outputs.size} outputs in {self.num_classes} classes")


#: A looped netlist or its public subclass.
AnyLooped = TypeVar("AnyLooped", bound=LoopedNetlist)
#: A circuit of either form, or its public subclass.
AnyNet = TypeVar("AnyNet", bound=Netlist | LoopedNetlist)


def _check_loop(stage: Loop, first: int) -> None:
    wires = stage.wires
    if not isinstance(wires, np.ndarray) or wires.dtype != np.int32 or wires.shape[1:] != stage.places.image:
        raise CircuitError(f"the wires must be int32 [channels, {', '.join(map(str, stage.places.image))}]")
    if wires.size == 0 or wires.min() < 0 or wires.max() >= first:
        raise CircuitError(f"the wires must be earlier nodes, 0…{first - 1}")
    check_kernel(wires, stage.kernel, stage.places)
