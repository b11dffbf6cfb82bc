"""Which gate is evaluated when, and in which slot its value lies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.netlist import AnyFlat, Netlist


@dataclass(frozen=True)
class Allocation:
    """Places of the values of a circuit that is evaluated gate by gate in a given order.

    Attributes:
        slot: Slot of each node, ``[nodes]``, or -1 for a value that is only read in the function that computes it.
        count: Number of slots. Input *i* arrives in slot *i*; a slot is used again after the last read of its value.
    """

    slot: list[int]
    count: int


def allocate_slots(circuit: Netlist, chunk_size: int) -> Allocation:
    """Allocates slots for gates that are evaluated in the circuit's order, ``chunk_size`` of them in a function.

    Values that live within one function need no slot; a size of 1 gives each gate a slot.
    """
    inputs, count = circuit.num_inputs, circuit.num_gates
    index = np.arange(count, dtype=np.int64)
    last_read = np.full(circuit.num_nodes, -1, np.int64)
    for operand in circuit.operands:
        np.maximum.at(last_read, operand, index)
    last_read[circuit.outputs] = count
    chunk = index // chunk_size
    local = np.zeros(circuit.num_nodes, np.bool_)
    local[inputs:] = (last_read[inputs:] < count) & (last_read[inputs:] // chunk_size == chunk)
    slot: list[int] = [*range(inputs), *[-1] * count]
    free: list[int] = []
    slots = inputs
    last, is_local = last_read.tolist(), local.tolist()
    for gate, operands in enumerate(zip(*(operand.tolist() for operand in circuit.operands), strict=True)):
        for node in set(operands):
            if last[node] == gate and not is_local[node]:
                free.append(slot[node])
        if not is_local[inputs + gate]:
            if free:
                slot[inputs + gate] = free.pop()
            else:
                slot[inputs + gate] = slots
                slots += 1
    return Allocation(slot, slots)


def reorder(circuit: AnyFlat, order: NDArray[np.integer]) -> AnyFlat:
    """Returns the circuit with its gates in another topological order: gate indices, operands first, ``[gates]``."""
    renumber = np.arange(circuit.num_nodes, dtype=np.int32)
    renumber[circuit.num_inputs + order] = np.arange(circuit.num_inputs, circuit.num_nodes, dtype=np.int32)
    operands = [renumber[operand[order]] for operand in circuit.operands]
    return circuit.with_gates(circuit.gates[order], operands, renumber[circuit.outputs])
