"""C of one row alone: a byte a gate, by tables."""

from collections.abc import Iterator

import numpy as np

from lgn_lightning.circuit.emit.c_rows import emit_row_bits
from lgn_lightning.circuit.emit.expressions import gate_expression
from lgn_lightning.circuit.emit.text import fill, lines_of
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.passes.schedule import reorder
from lgn_lightning.circuit.simulate import runs_of

#: Nodes that the tables can number.
_MOST_NODES = 65_536


def emit_one_row(circuit: Netlist, name: str) -> str:
    """The function that computes the scores of one row; empty for circuits that it does not suit.

    64 rows share the words of the usual code, which is read once for them all. For a row alone reading it takes most of
    the time: as code a gate is five times as long as in a table.
    """
    read = circuit.inputs_read
    nodes, comparisons = read.size + circuit.num_gates, circuit.comparisons
    if comparisons is None or not circuit.num_gates or nodes > _MOST_NODES:
        return ""
    circuit = reorder(circuit, np.lexsort((circuit.gates, circuit.gate_levels)))
    place = np.zeros(circuit.num_nodes, np.int64)
    place[read] = np.arange(read.size)
    place[circuit.num_inputs :] = np.arange(read.size, nodes)
    letters = ["a", "b", "c"][: circuit.arity]
    branches = (
        f"        case {table}: ROW_RUN({gate_expression(table, letters, one='255')});\n"
        for table in np.unique(circuit.gates).tolist()
    )
    parts = list(_parts(place[circuit.outputs].reshape(circuit.num_classes, -1)))
    return emit_row_bits(comparisons, read.tolist(), name) + fill(
        "one_row.c.in",
        "",
        NODES=nodes,
        INPUTS=read.size,
        ARITY=circuit.arity,
        OPERANDS=", ".join(f"{letter} = v[q[{index}]]" for index, letter in enumerate(letters)),
        UNREAD=", ".join(f"(void){letter}" for letter in letters),
        GATES=lines_of(np.stack([place[operand] for operand in circuit.operands], 1).ravel().tolist()),
        RUNS=lines_of(
            [f"{{{circuit.gates[at]}, {length}}}" for at, length in zip(*runs_of(circuit.gates), strict=True)]
        ),
        OUTPUTS=lines_of([output for *_, outputs in parts for output in outputs]),
        PARTS=lines_of([f"{{{group}, {times}, {len(outputs)}}}" for group, times, outputs in parts]),
        BRANCHES="".join(branches),
    )


def _parts(outputs: np.ndarray) -> Iterator[tuple[int, int, list[int]]]:
    """Class, how often each of them counts, and outputs."""
    for group, own in enumerate(outputs):
        distinct, times = np.unique(own, return_counts=True)
        for number in np.unique(times).tolist():
            yield group, number, distinct[times == number].tolist()
