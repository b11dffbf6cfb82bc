"""What a circuit is made of, with names that say what is counted."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.passes.flat import dependence, remove_dead_gates
from lgn_lightning.gates import GATE_NAMES


@dataclass(frozen=True)
class CircuitStats:
    """Counts of a circuit.

    Attributes:
        inputs: Input bits.
        used_inputs: Input bits that a live gate or an output reads.
        gates: All gates, each counted once.
        live_gates: Gates that some output depends on.
        logic_gates: Live gates that compute something: neither a constant, a copy nor a NOT.
        three_input_gates: Live gates whose output depends on three operands.
        depth: Gates on the longest way from an input to an output.
        outputs: Output bits.
        classes: Groups of output bits.
        kinds: Live gates by name; a table of three operands is named ``lut3_XX`` by its hexadecimal value.
    """

    inputs: int
    used_inputs: int
    gates: int
    live_gates: int
    logic_gates: int
    three_input_gates: int
    depth: int
    outputs: int
    classes: int
    kinds: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Returns the counts as plain types, ready for JSON."""
        return asdict(self)


def circuit_stats(circuit: Netlist) -> CircuitStats:
    live = remove_dead_gates(circuit)
    tables, counts = np.unique(live.gates, return_counts=True)
    by_table = dict(zip(tables.tolist(), counts.tolist(), strict=True))
    supports = {table: int(dependence(circuit.arity)[table].sum()) for table in by_table}
    levels = np.concatenate([np.zeros(live.num_inputs, np.int32), live.gate_levels])
    return CircuitStats(
        inputs=circuit.num_inputs,
        used_inputs=int(live.inputs_read.size),
        gates=circuit.num_gates,
        live_gates=live.num_gates,
        logic_gates=sum(count for table, count in by_table.items() if supports[table] >= 2),
        three_input_gates=sum(count for table, count in by_table.items() if supports[table] == 3),
        depth=int(levels[live.outputs].max()),
        outputs=int(circuit.outputs.size),
        classes=circuit.num_classes,
        kinds={
            GATE_NAMES[table] if circuit.arity == 2 else f"lut3_{table:02x}": count
            for table, count in sorted(by_table.items())
        },
    )
