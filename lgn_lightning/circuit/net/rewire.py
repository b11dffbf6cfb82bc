"""A circuit on other inputs."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.netlist import AnyFlat, Netlist
from lgn_lightning.gates import CONSTANT_GATES

#: What may be known of a node or channel: the number of an equal one, or one of these.
ZERO: Final = -1
ONE: Final = -2

Known = NDArray[np.int64]


def rewired(circuit: AnyFlat, source: Known, inputs: int, constants: bool = True) -> AnyFlat:
    """Returns a circuit of two-input gates on ``inputs`` other inputs.

    ``source`` names for each old input the new one that it becomes, or `ZERO` or `ONE`, ``[num_inputs]``. With
    ``constants`` the circuit gets a gate for each constant, ahead of its own.
    """
    front = np.array(CONSTANT_GATES if constants else (), np.uint8)
    gates = np.arange(circuit.num_gates) + inputs + front.size
    nodes = np.concatenate([np.where(source < 0, inputs + ZERO - source, source), gates]).astype(np.int32)
    tables = np.concatenate([front, circuit.gates])
    a, b = (np.concatenate([np.zeros(front.size, np.int32), nodes[operand]]) for operand in circuit.operands)
    return replace(circuit, num_inputs=inputs, gates=tables, a=a, b=b, outputs=nodes[circuit.outputs])


def behind(front: Netlist, circuit: Netlist) -> Netlist:
    """Returns a circuit whose inputs are the outputs of another one, both of three-input gates, as one circuit."""
    nodes = np.concatenate([front.outputs, front.num_nodes + np.arange(circuit.num_gates)]).astype(np.int32)
    gates = np.concatenate([front.gates, circuit.gates])
    operands = [np.concatenate([own, nodes[new]]) for own, new in zip(front.operands, circuit.operands, strict=True)]
    return front.with_gates(gates, operands, nodes[circuit.outputs])
