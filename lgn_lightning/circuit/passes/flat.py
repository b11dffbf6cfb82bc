"""Passes: functions circuit → circuit that keep every score and leave fewer gates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lgn_lightning.circuit import native
from lgn_lightning.circuit.net.netlist import Circuit, CircuitError
from lgn_lightning.circuit.passes.schedule import reorder

#: Rounds of area recovery in `map_to_luts`; more change next to nothing.
MAP_ROUNDS = 3


@dataclass(frozen=True)
class PassReport:
    """What a pass did.

    Attributes:
        name: The pass.
        before: Gates before it.
        after: Gates after it.
        seconds: Wall time.
    """

    name: str
    before: int
    after: int
    seconds: float

    @property
    def saved(self) -> int:
        """Gates that the pass saved."""
        return self.before - self.after


def fold_constants(circuit: Circuit) -> Circuit:
    """Replaces gates with a constant operand or twice the same one by what is left of them."""
    return native.rewrite(_two_inputs(circuit), native.FOLD_CONSTANTS)


def absorb_inverters(circuit: Circuit) -> Circuit:
    """Drops buffers and NOT gates: their readers take the operand itself and a complemented truth table."""
    return native.rewrite(_two_inputs(circuit), native.FOLD_CONSTANTS | native.ABSORB_INVERTERS)


def hash_structure(circuit: Circuit) -> Circuit:
    """Merges gates that are equal up to a complement, and applies two-level rules (absorption, contradiction)."""
    return native.rewrite(_two_inputs(circuit), native.FOLD_CONSTANTS | native.ABSORB_INVERTERS | native.HASH_STRUCTURE)


def remove_dead_gates(circuit: Circuit) -> Circuit:
    """Removes the gates that no output depends on."""
    return circuit.remove_dead_gates()


def map_to_luts(circuit: Circuit) -> Circuit:
    """Covers the two-input gates with gates of up to three inputs, minimising their number.

    Cut enumeration by area flow and exact local area (Mishchenko, Chatterjee, Brayton, 2007).
    """
    return native.map_luts(_two_inputs(circuit), MAP_ROUNDS)


class _HasGates(Protocol):
    """A circuit of whatever form."""

    @property
    def num_gates(self) -> int: ...


AnyCircuit = TypeVar("AnyCircuit", bound=_HasGates)


def run_level(
    circuit: AnyCircuit, level: int, levels: Mapping[int, Sequence[Callable[[AnyCircuit], AnyCircuit]]]
) -> tuple[AnyCircuit, list[PassReport]]:
    """Runs the passes of a level one after the other and says what each of them saved.

    Args:
        circuit: The circuit.
        level: Which passes.
        levels: Passes by level.

    Raises:
        CircuitError: If the level is not known.
    """
    if level not in levels:
        raise CircuitError(
            f"there is no optimization level {level!r} of a {type(circuit).__name__}; levels are "
            + ", ".join(map(str, levels))
        )
    reports = []
    for function in levels[level]:
        started, before = time.perf_counter(), circuit.num_gates
        circuit = function(circuit)
        seconds = round(time.perf_counter() - started, 6)
        reports.append(PassReport(function.__name__, before, circuit.num_gates, seconds))
    return circuit, reports


#: Passes by level; each level includes the ones below.
LEVELS: dict[int, tuple[Callable[[Circuit], Circuit], ...]] = {
    0: (),
    1: (remove_dead_gates,),
    2: (remove_dead_gates, fold_constants, absorb_inverters, hash_structure, remove_dead_gates),
    3: (remove_dead_gates, fold_constants, absorb_inverters, hash_structure, remove_dead_gates, map_to_luts),
}


def optimize(circuit: Circuit, level: int = 2) -> Circuit:
    """Runs the passes of a level.

    Args:
        circuit: Circuit of two-input gates.
        level: 0 nothing; 1 dead gates (needs no compiler); 2 all on two-input gates; 3 three-input gates as well.

    Raises:
        CircuitError: If the level is not known or the circuit was mapped before.
        BuildError: If levels 2 and 3 cannot build the circuit library.
    """
    return optimize_with_report(circuit, level)[0]


def optimize_with_report(circuit: Circuit, level: int = 2) -> tuple[Circuit, list[PassReport]]:
    """Runs the passes of a level and says what each of them saved."""
    return run_level(circuit, level, LEVELS)


def order_in_chains(circuit: Circuit) -> Circuit:
    """Puts the gates into chain order: values are read soon after they are made. Dead gates go."""
    live = circuit.remove_dead_gates()
    return reorder(live, native.chain_order(live))


def optimize_for_export(circuit: Circuit) -> tuple[Circuit, list[PassReport]]:
    """Runs all two-input passes and puts the gates into chain order; without a C++ compiler it removes dead gates only.

    Returns:
        The circuit and what each pass saved.
    """
    try:
        native.library()
    except native.BuildError:
        return optimize_with_report(circuit, level=1)
    small, reports = optimize_with_report(circuit, level=2)
    return order_in_chains(small), reports


def _two_inputs(circuit: Circuit) -> Circuit:
    if circuit.arity != 2:
        raise CircuitError("this pass takes gates of two inputs; run it before map_to_luts")
    return circuit
