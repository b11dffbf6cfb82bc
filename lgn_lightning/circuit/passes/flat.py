"""Passes over flat circuits: functions circuit → circuit that keep every score and leave fewer gates."""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit import native
from lgn_lightning.circuit.net.netlist import AnyFlat, CircuitError
from lgn_lightning.circuit.passes.schedule import reorder

#: Rounds of area recovery in `map_to_luts`; more change next to nothing.
MAP_ROUNDS: Final = 3


@cache
def dependence(arity: int) -> NDArray[np.bool_]:
    """Whether a truth table depends on an operand, bool ``[2^(2^arity), arity]``."""
    size = 1 << arity
    tables = np.arange(1 << size)[:, None]
    bits = (tables >> (size - 1 - np.arange(size)) & 1).astype(np.bool_)
    index = np.arange(size)
    return np.stack([(bits != bits[:, index ^ 1 << (arity - 1 - k)]).any(axis=1) for k in range(arity)], axis=1)


def remove_dead_gates(circuit: AnyFlat) -> AnyFlat:
    """Removes the gates that no output depends on; inputs and the order of the gates stay.

    An operand that a gate ignores does not keep its node alive; the gate reads one of its other operands in its place.
    """
    depends = dependence(circuit.arity)[circuit.gates]
    # An ignored operand becomes the first one that counts; for a constant, node 0.
    first = np.zeros(circuit.num_gates, np.int32)
    for operand, used in reversed(list(zip(circuit.operands, depends.T, strict=True))):
        first = np.where(used, operand, first)
    operands = [np.where(used, operand, first) for operand, used in zip(circuit.operands, depends.T, strict=True)]
    live = np.zeros(circuit.num_nodes, np.bool_)
    live[circuit.outputs] = True
    # From the last level to the first: all consumers of a gate have been seen when its turn comes.
    order = np.argsort(circuit.gate_levels, kind="stable")
    levels = circuit.gate_levels[order]
    for group in reversed(np.split(order, np.flatnonzero(np.diff(levels)) + 1)):
        reached = group[live[circuit.num_inputs + group]]
        for operand in operands:
            live[operand[reached]] = True
    live[: circuit.num_inputs] = True
    keep = live[circuit.num_inputs :]
    renumber = (np.cumsum(live, dtype=np.int64) - 1).astype(np.int32)
    kept = [renumber[operand[keep]] for operand in operands]
    return circuit.with_gates(circuit.gates[keep], kept, renumber[circuit.outputs])


def fold_constants(circuit: AnyFlat) -> AnyFlat:
    """Replaces gates with a constant operand or twice the same one by what is left of them."""
    return native.rewrite(_two_inputs(circuit))


def absorb_inverters(circuit: AnyFlat) -> AnyFlat:
    """Drops buffers and NOT gates: their readers take the operand itself and a complemented truth table."""
    return native.rewrite(_two_inputs(circuit), native.ABSORB_INVERTERS)


def hash_structure(circuit: AnyFlat) -> AnyFlat:
    """Merges gates that are equal up to a complement, and applies two-level rules (absorption, contradiction)."""
    return native.rewrite(_two_inputs(circuit), native.ABSORB_INVERTERS | native.HASH_STRUCTURE)


def map_to_luts(circuit: AnyFlat) -> AnyFlat:
    """Covers the two-input gates with gates of up to three inputs, minimising their number.

    Cut enumeration by area flow and exact local area (Mishchenko, Chatterjee, Brayton, 2007).
    """
    return native.map_luts(_two_inputs(circuit), MAP_ROUNDS)


def order_in_chains(circuit: AnyFlat) -> AnyFlat:
    """Puts the gates into chain order: values are read soon after they are made. Dead gates go."""
    live = remove_dead_gates(circuit)
    return reorder(live, native.chain_order(live))


#: All passes on two-input gates, in the order in which they run.
TWO_INPUT_PASSES: Final = (remove_dead_gates, fold_constants, absorb_inverters, hash_structure, remove_dead_gates)


def simplify(circuit: AnyFlat) -> AnyFlat:
    for function in TWO_INPUT_PASSES:
        circuit = function(circuit)
    return circuit


def _two_inputs(circuit: AnyFlat) -> AnyFlat:
    if circuit.arity != 2:
        raise CircuitError("this pass takes gates of two inputs; run it before map_to_luts")
    return circuit
