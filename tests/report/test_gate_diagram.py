import numpy as np
import pytest

from lgn_lightning.circuit import Circuit
from lgn_lightning.gates import GATE_NAMES
from lgn_lightning.report.gate_diagram import choose_piece, draw_piece, input_name, operands
from tests.circuit.random_circuits import image_circuit


def one_gate(gate: int) -> Circuit:
    return Circuit(2, np.array([gate], np.uint8), *(np.array([i], np.int32) for i in (0, 1, 2)), num_classes=1)


@pytest.mark.parametrize("gate", range(16))
def test_every_gate_can_be_drawn(gate: int) -> None:
    circuit = one_gate(gate)
    piece = choose_piece(circuit)
    assert piece is not None
    assert piece.gates == [2]
    assert not piece.cut
    reads = operands(circuit, 2)
    alone = {"zero": [], "one": [], "a": [0], "not_a": [0], "b": [1], "not_b": [1]}
    assert reads == alone.get(GATE_NAMES[gate], [0, 1])
    svg = draw_piece(circuit, piece, "one gate")
    assert svg.count("input 0") == (0 in reads)
    assert svg.count("input 1") == (1 in reads)


def test_no_piece_where_outputs_are_inputs() -> None:
    circuit = one_gate(6)
    wires = Circuit(2, circuit.gates, circuit.a, circuit.b, np.array([0, 1], np.int32), num_classes=1)
    assert choose_piece(wires) is None


def test_gates_follow_what_they_read_and_inputs_have_names() -> None:
    circuit = image_circuit()
    piece = choose_piece(circuit)
    assert piece is not None
    for gate in piece.gates:
        for node in operands(circuit, gate):
            assert node not in piece.column or piece.column[node] > piece.column[gate]
    assert input_name(circuit, 17) == f"row 0, col 2 > {circuit.levels[1]}"
