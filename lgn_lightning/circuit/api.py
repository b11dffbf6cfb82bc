"""`Circuit`, `LoopedCircuit`, `SequentialCircuit`, `CircuitBuilder`: netlists with what can be done with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.base.machine import check_memory
from lgn_lightning.circuit import simulate as simulation
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.build.looped import LoopedBuilder, unroll
from lgn_lightning.circuit.build.sequential import SequentialBuilder, state_of
from lgn_lightning.circuit.check.stats import CircuitStats, circuit_stats
from lgn_lightning.circuit.check.verify import Verification, different_inputs, verify
from lgn_lightning.circuit.emit.c import emit_c
from lgn_lightning.circuit.emit.c_stream import emit_c_stream
from lgn_lightning.circuit.emit.export import keeps_loops
from lgn_lightning.circuit.file import read_circuit, save_circuit
from lgn_lightning.circuit.net.looped import LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, CircuitInputs, Netlist, NodeIds
from lgn_lightning.circuit.net.sequential import SequentialNetlist
from lgn_lightning.circuit.passes.flat import remove_dead_gates
from lgn_lightning.circuit.passes.optimize import optimize
from lgn_lightning.circuit.passes.state import reduce_state
from lgn_lightning.circuit.run.engine import Engine
from lgn_lightning.circuit.run.sequences import SequenceEngine
from lgn_lightning.circuit.run.stream import Stream

if TYPE_CHECKING:
    from torch import nn

#: What a node takes while a circuit is built or runs: its operands, a level, a word of samples.
_NODE_BYTES: Final = 24
_Class = TypeVar("_Class", bound=Netlist | LoopedNetlist | SequentialNetlist)
_Form = TypeVar("_Form")


class _Methods:
    """What circuits of both forms can do."""

    def simulate(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Evaluates packed inputs, uint64 ``[num_inputs, w]`` → ``[outputs, w]``: the oracle of every engine."""
        return simulation.simulate(_data(self), words)

    def scores(self, x: ArrayLike) -> NDArray[np.int32]:
        """Simulates samples: bool ``[N, num_inputs]``, or uint8 pixels with an encoder → int32 ``[N, num_classes]``."""
        return simulation.scores(_data(self), x)

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """Simulates samples and returns what the scores say: classes int32 ``[N]``, or see `Decoding.decide`."""
        return _data(self).decoding.decide(self.scores(x))

    def compile(self, engine: str = "auto", *, threads: int = 1) -> Engine:
        """Returns a callable samples → scores; see `Engine`."""
        return Engine(_data(self), engine, threads=threads)

    def verify(self, other: Circuit | LoopedCircuit, samples: ArrayLike | None = None) -> Verification:
        """Compares the scores of two circuits: on all inputs where they are few, else on random ones and ``samples``.

        What the scores say is not compared. A CircuitError if inputs or classes differ in number, or if both circuits
        say how they read a sample, and that differs: no samples are the same for both.
        """
        if different := different_inputs(_data(self), other):
            raise CircuitError(f"the circuits read samples in different ways: they differ in {', '.join(different)}")
        return verify(_data(self), other, samples)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the circuit file (see `lgn_lightning.circuit.file`), beside its place and renamed."""
        save_circuit(_data(self), path)

    @classmethod
    def load(cls: type[_Form], path: str | os.PathLike[str]) -> _Form:
        """Reads a circuit file; errors as `load_circuit`, also if it holds a circuit of the other form."""
        return _loaded(cls, path)

    def to_c(self, **options: Any) -> str:
        """Returns the circuit as C99 source; see `emit_c` for the options."""
        return emit_c(_data(self), **options)


def _loaded(cls: type[_Form], path: str | os.PathLike[str]) -> _Form:
    circuit = load_circuit(path)
    if isinstance(circuit, cls):
        return circuit
    other = type(circuit).__name__
    raise CircuitError(f"{os.fspath(path)} holds a {other}: read it with {other}.load; a looped one can unroll()")


def _data(circuit: object) -> Netlist | LoopedNetlist:
    assert isinstance(circuit, Netlist | LoopedNetlist)
    return circuit


class Circuit(_Methods, Netlist):
    """A boolean circuit with grouped outputs; its fields are those of `Netlist`."""

    @classmethod
    def from_module(
        cls, net: nn.Module, class_names: Sequence[str] | None = None, input_shape: Sequence[Any] | None = None
    ) -> Circuit:
        """Turns a net into a circuit of the gates it settled on, gate for gate: nothing is optimised.

        The net's own forward pass is followed, as in ``.eval()`` mode: branches, skips, layers used twice, functions
        that move values, logic of activations, sums of scores. Several outputs become classes one after the other.

        Args:
            net: Any module whose layers have ``add_to_circuit``.
            class_names: One name a class.
            input_shape: Shape of a sample, without the batch, where no encoder and not the width of the first layer
                says it; of a net with several inputs one shape each. Their bits follow one another.

        Raises:
            CircuitError: If something cannot become gates (module, line and what to do are named) or sizes do not fit.
        """
        # torch takes seconds to import, and circuits run without it
        from lgn_lightning.circuit.build.trace import trace_module

        def finish(builder: CircuitBuilder, wires: NodeIds) -> Circuit:
            return builder.finish(wires, class_names)

        return trace_module(net, CircuitBuilder, finish, input_shape)

    def remove_dead_gates(self) -> Circuit:
        """Returns the circuit without the gates that no output depends on. All inputs stay."""
        return remove_dead_gates(self)

    def optimize(self, level: int = 2) -> Circuit:
        """Returns a smaller circuit of equal scores; see `lgn_lightning.circuit.optimize`."""
        return optimize(self, level)

    def stats(self) -> CircuitStats:
        """Counts gates, live gates, depth and gates by kind."""
        return circuit_stats(self)


class LoopedCircuit(_Methods, LoopedNetlist):
    """A circuit whose convolutions are loops over the places of an image; its fields are those of `LoopedNetlist`."""

    @classmethod
    def from_module(
        cls, net: nn.Module, class_names: Sequence[str] | None = None, input_shape: Sequence[Any] | None = None
    ) -> LoopedCircuit:
        """Turns a net into a looped circuit of the gates it settled on; arguments and errors as `Circuit.from_module`.

        Dense layers and encoders become plain gates, as in a `Circuit`; nothing is optimised.
        """
        # torch takes seconds to import, and circuits run without it
        from lgn_lightning.circuit.build.trace import trace_module

        def finish(builder: LoopedBuilder, wires: NodeIds) -> LoopedCircuit:
            return _public(LoopedCircuit, builder.finish_looped(wires, class_names))

        return trace_module(net, LoopedBuilder, finish, input_shape)

    def unroll(self) -> Circuit:
        """Returns the circuit in which every place has gates of its own: the same scores."""
        _check_size(self, self.num_gates)
        return _public(Circuit, unroll(self))

    def optimize(self, level: int = 2) -> LoopedCircuit:
        """Returns a smaller looped circuit of equal scores; see `lgn_lightning.circuit.optimize`."""
        return optimize(self, level)


class SequentialCircuit(SequentialNetlist):
    """A circuit that remembers; its fields are those of `SequentialNetlist`."""

    @classmethod
    def from_module(cls, net: nn.Module, class_names: Sequence[str] | None = None) -> SequentialCircuit:
        """Turns a net with `LogicRecurrent` layers into the circuit of one step, gate for gate.

        Args:
            net: As `Circuit.from_module` takes it, with state.
            class_names: One name a class.

        Raises:
            CircuitError: If a module cannot become gates, or none has state.
        """
        # torch takes seconds to import, and circuits run without it
        from lgn_lightning.circuit.build.trace import trace_module

        state = state_of(net)
        if not state:
            raise CircuitError(f"{type(net).__name__} has no state: Circuit.from_module makes its circuit")

        def finish(builder: SequentialBuilder, wires: NodeIds) -> SequentialCircuit:
            return _public(cls, builder.finish_sequential(wires, class_names))

        return trace_module(net, lambda _: SequentialBuilder(state), finish)

    def scores(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.int32]:
        """Simulates sequences: int32 ``[N, num_classes]``; see `SequenceEngine` for ``x`` and ``lengths``."""
        return SequenceEngine(self, "numpy")(x, lengths)

    def predict(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Simulates sequences and returns what the scores say, see `Decoding.decide`."""
        return self.decoding.decide(self.scores(x, lengths))

    def every_step(self, x: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.int32]:
        """Simulates sequences: scores of each step alone, see `SequenceEngine.every_step`."""
        return SequenceEngine(self, "numpy").every_step(x, lengths)

    def compile(self, engine: str = "auto", *, threads: int = 1) -> SequenceEngine:
        """Returns a callable sequences → scores; see `SequenceEngine`."""
        return SequenceEngine(self, engine, threads=threads)

    def stream(self, streams: int = 1, engine: str = "auto") -> Stream:
        """Begins one or more streams, which take one step at a call; see `Stream`."""
        return Stream(self, streams, engine)

    def optimize(self) -> SequentialCircuit:
        """Returns a smaller circuit of equal scores: without state that is constant, equal or never read."""
        return reduce_state(self)

    def verify(self, other: SequentialCircuit, steps: int = 256) -> bool:
        """Compares the scores of two circuits at every step of 64 random sequences; a CircuitError on other widths."""
        if (self.num_inputs, self.num_classes) != (other.num_inputs, other.num_classes):
            raise CircuitError(f"the circuits differ in inputs or classes: {self!r}, {other!r}")
        bits = np.random.default_rng(0).integers(0, 2, (64, steps, self.num_inputs)).astype(np.bool_)
        return self.readout == other.readout and np.array_equal(self.every_step(bits), other.every_step(bits))

    def stats(self) -> CircuitStats:
        """Counts gates, live gates, depth and gates by kind of a step."""
        return circuit_stats(self.step)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the circuit file (see `lgn_lightning.circuit.file`), beside its place and renamed."""
        save_circuit(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SequentialCircuit:
        """Reads a circuit file; errors as `load_circuit`, also if it holds a circuit of another form."""
        return _loaded(cls, path)

    def to_c(self, **options: Any) -> str:
        """Returns the circuit as C99 source: a struct of the state, reset and step; see `emit_c_stream`."""
        return emit_c_stream(self, **options)


#: A circuit of any form.
AnyCircuit: TypeAlias = Circuit | LoopedCircuit | SequentialCircuit


class CircuitBuilder(NetlistBuilder):
    """Collects the gates of a net and makes a `Circuit` of them; see `NetlistBuilder` for how a module takes part."""

    def finish(self, outputs: ArrayLike, class_names: Sequence[str] | None = None) -> Circuit:
        """Returns the circuit of everything added; see `NetlistBuilder.finish`."""
        return _public(Circuit, super().finish(outputs, class_names))


def load_circuit(path: str | os.PathLike[str]) -> AnyCircuit:
    """Reads a circuit file of any form; a CircuitError if it is none, too new, corrupt or too large."""
    data = read_circuit(path)
    if isinstance(data, SequentialNetlist):
        _check_size(data, data.step.num_nodes)
        return _public(SequentialCircuit, data)
    _check_size(data, data.num_places if isinstance(data, LoopedNetlist) else data.num_nodes)
    return _public(Circuit, data) if isinstance(data, Netlist) else _public(LoopedCircuit, data)


def _check_size(circuit: CircuitInputs, count: int) -> None:
    """Refuses circuits that no simulation fits into memory of.

    Raises:
        CircuitError: If ``count`` nodes are too many.
    """
    try:
        check_memory(_NODE_BYTES * count, repr(circuit))
    except ValueError as error:
        raise CircuitError(str(error)) from None


def circuit_of_net(
    net: nn.Module, class_names: Sequence[str] | None = None, form: str = "auto", formats: Sequence[str] = ()
) -> AnyCircuit:
    """Turns a net into a circuit of the form that suits its state, its size and what it will be exported as.

    ``net`` and ``class_names`` as `Circuit.from_module` takes them, ``form`` and ``formats`` as `keeps_loops`, whose
    errors these are.
    """
    if state_of(net):
        return SequentialCircuit.from_module(net, class_names)
    looped = LoopedCircuit.from_module(net, class_names)
    return looped if keeps_loops(looped, form, formats) else looped.unroll()


def _public(kind: type[_Class], data: CircuitInputs) -> _Class:
    return kind(**{part.name: getattr(data, part.name) for part in fields(kind)})
