"""A circuit on other inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.netlist import AnyNetlist

#: What may be known of a node or channel: the number of an equal one, or one of these.
ZERO: Final = -1
ONE: Final = -2

Known = NDArray[np.int64]


def rewired(circuit: AnyNetlist, source: Known, inputs: int, constants: bool = True) -> AnyNetlist:
    """Returns the circuit on other inputs.

    Args:
        circuit: Circuit of two-input gates.
        source: For each input the new input that it becomes, or `ZERO` or `ONE`, ``[num_inputs]``.
        inputs: Number of new inputs.
        constants: Whether the circuit gets a gate for each constant, ahead of its own.
    """
    front = np.array([0, 15] if constants else [], np.uint8)
    gates = np.arange(circuit.num_gates) + inputs + front.size
    nodes = np.concatenate([np.where(source < 0, inputs + ZERO - source, source), gates]).astype(np.int32)
    zeros = np.zeros(front.size, np.int32)
    return replace(
        circuit,
        num_inputs=inputs,
        gates=np.concatenate([front, circuit.gates]),
        a=np.concatenate([zeros, nodes[circuit.a]]),
        b=np.concatenate([zeros, nodes[circuit.b]]),
        outputs=nodes[circuit.outputs],
    )
