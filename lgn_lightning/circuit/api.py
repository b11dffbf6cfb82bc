"""`Circuit`, `LoopedCircuit`, `CircuitBuilder`: netlists, with what can be done with them as methods."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.base.machine import check_memory
from lgn_lightning.circuit import simulate as simulation
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.build.looped import LoopedBuilder, unroll
from lgn_lightning.circuit.check.stats import CircuitStats, circuit_stats
from lgn_lightning.circuit.check.verify import Verification, verify
from lgn_lightning.circuit.emit.c import emit_c
from lgn_lightning.circuit.emit.export import keeps_loops
from lgn_lightning.circuit.file import read_circuit, save_circuit
from lgn_lightning.circuit.net.looped import LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.passes.flat import remove_dead_gates
from lgn_lightning.circuit.passes.optimize import optimize
from lgn_lightning.circuit.run.engine import Engine

if TYPE_CHECKING:
    from torch import nn

#: What a node takes while a circuit is built or runs: its operands, a level, a word of samples.
_NODE_BYTES: Final = 24
_Class = TypeVar("_Class", bound=Netlist | LoopedNetlist)
_Form = TypeVar("_Form", bound="_Methods")


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

        A CircuitError if inputs or classes differ in number.
        """
        return verify(_data(self), other, samples)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the circuit file (see `lgn_lightning.circuit.file`), beside its place and renamed."""
        save_circuit(_data(self), path)

    @classmethod
    def load(cls: type[_Form], path: str | os.PathLike[str]) -> _Form:
        """Reads a circuit file; errors as `load_circuit`, also if it holds a circuit of the other form."""
        circuit = load_circuit(path)
        if isinstance(circuit, cls):
            return circuit
        other = type(circuit).__name__
        raise CircuitError(f"{os.fspath(path)} holds a {other}: read it with {other}.load; a looped one can unroll()")

    def to_c(self, **options: Any) -> str:
        """Returns the circuit as C99 source; see `emit_c` for the options."""
        return emit_c(_data(self), **options)


def _data(circuit: object) -> Netlist | LoopedNetlist:
    assert isinstance(circuit, Netlist | LoopedNetlist)
    return circuit


class Circuit(_Methods, Netlist):
    """A boolean circuit with grouped outputs; its fields are those of `Netlist`."""

    @classmethod
    def from_module(
        cls, net: nn.Module, class_names: Sequence[str] | None = None, input_shape: Sequence[int] | None = None
    ) -> Circuit:
        """Turns a net into a circuit of the gates it settled on, gate for gate: nothing is optimised.

        Args:
            net: `Sequential`, `Flatten`, `Identity`, `Dropout` and any module with ``add_to_circuit``.
            class_names: One name a class.
            input_shape: Image shape (C, H, W), for a threshold encoder that does not know it.

        Raises:
            CircuitError: If a module cannot become gates (path and type are named) or widths do not fit.
        """
        # torch takes seconds to import, and circuits run without it
        from lgn_lightning.circuit.build.walker import walk_module

        builder = CircuitBuilder(input_shape)
        return walk_module(net, builder, lambda wires: builder.finish(wires, class_names))

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
        cls, net: nn.Module, class_names: Sequence[str] | None = None, input_shape: Sequence[int] | None = None
    ) -> LoopedCircuit:
        """Turns a net into a looped circuit of the gates it settled on; arguments and errors as `Circuit.from_module`.

        Dense layers and encoders become plain gates, as in a `Circuit`; nothing is optimised.
        """
        # torch takes seconds to import, and circuits run without it
        from lgn_lightning.circuit.build.walker import walk_module

        builder = LoopedBuilder(input_shape)
        data = walk_module(net, builder, lambda wires: builder.finish_looped(wires, class_names))
        return _public(LoopedCircuit, data)

    def unroll(self) -> Circuit:
        """Returns the circuit in which every place has gates of its own: the same scores."""
        _check_size(self, self.num_gates)
        return _public(Circuit, unroll(self))

    def optimize(self, level: int = 2) -> LoopedCircuit:
        """Returns a smaller looped circuit of equal scores; see `lgn_lightning.circuit.optimize`."""
        return optimize(self, level)


class CircuitBuilder(NetlistBuilder):
    """Collects the gates of a net and makes a `Circuit` of them; see `NetlistBuilder` for how a module takes part."""

    def finish(self, outputs: ArrayLike, class_names: Sequence[str] | None = None) -> Circuit:
        """Returns the circuit of everything added; see `NetlistBuilder.finish`."""
        return _public(Circuit, super().finish(outputs, class_names))


def load_circuit(path: str | os.PathLike[str]) -> Circuit | LoopedCircuit:
    """Reads a circuit file of either form; a CircuitError if it is none, too new, corrupt or too large."""
    data = read_circuit(path)
    _check_size(data, data.num_places if isinstance(data, LoopedNetlist) else data.num_nodes)
    return _public(Circuit, data) if isinstance(data, Netlist) else _public(LoopedCircuit, data)


def _check_size(circuit: Netlist | LoopedNetlist, count: int) -> None:
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
) -> Circuit | LoopedCircuit:
    """Turns a net into a circuit of the form that suits its size and what it will be exported as.

    ``net`` and ``class_names`` as `Circuit.from_module` takes them, ``form`` and ``formats`` as `keeps_loops`, whose
    errors these are.
    """
    looped = LoopedCircuit.from_module(net, class_names)
    return looped if keeps_loops(looped, form, formats) else looped.unroll()


def _public(kind: type[_Class], data: Netlist | LoopedNetlist) -> _Class:
    return kind(**{part.name: getattr(data, part.name) for part in fields(data)})
