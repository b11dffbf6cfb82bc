from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.circuit import Circuit, Decoding
from lgn_lightning.circuit.hardware.design import DECISION, GATES, SUMS, Design, design_of
from lgn_lightning.circuit.hardware.result_port import result_of
from lgn_lightning.circuit.simulate import pack_bits, simulate, unpack_bits
from tests.circuit.random_circuits import circuits, random_bits, random_circuit


def results(design: Design, classes: int, bits: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Scores and decision by simulation of the netlist."""
    values = unpack_bits(simulate(design.netlist, pack_bits(bits)), len(bits)).astype(object)
    scores, decision = values[:, : design.num_scores], values[:, design.num_scores :]
    weights = [1 << place for place in range(max(scores.shape[1], decision.shape[1]))]
    groups = scores.reshape(len(bits), classes, -1)
    return groups @ np.array(weights[: groups.shape[2]], object), list(
        decision @ np.array(weights[: decision.shape[1]])
    )


@given(circuit=circuits, many=st.integers(1, 11))
@settings(max_examples=40, deadline=None)
def test_scores_and_classes(circuit: Circuit, many: int) -> None:
    bits = random_bits(circuit, 64)
    design = design_of(circuit)
    scores, decided = results(design, circuit.num_classes, bits)
    assert np.array_equal(scores, circuit.scores(bits))
    assert decided == circuit.predict(bits).tolist()
    assert np.array_equal(design.netlist.gates[: circuit.num_gates] > 0, circuit.gates > 0)


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 11, 17])
def test_ties_go_to_the_first(classes: int) -> None:
    # Scores of 0 to 2: many ties.
    circuit = random_circuit(classes, inputs=10, gates=30, classes=classes, group=2)
    bits = random_bits(circuit, 500)
    assert results(design_of(circuit), classes, bits)[1] == circuit.predict(bits).tolist()


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding("levels", (0, 3, 3, 12), (0.5,), (0.0,) * 4),
        Decoding("labels", (-1, 4, 20), (1.0,) * 3, (0.0,) * 3),
        Decoding("numbers", (), (0.3, -2.0, 0.0), (1e3, -0.1, 5.0)),
    ],
)
def test_other_decisions(decoding: Decoding) -> None:
    circuit = random_circuit(5, classes=decoding.groups or 1, group=13).with_decoding(decoding)
    bits = random_bits(circuit, 200)
    scores, decided = results(design_of(circuit), circuit.num_classes, bits)
    assert decided == result_of(circuit, circuit.scores(bits))
    assert np.array_equal(scores, circuit.scores(bits))


@pytest.mark.parametrize("pipeline", [1, 2, 3, 5])
def test_a_stage_has_no_more_levels_than_asked_for(pipeline: int) -> None:
    circuit = random_circuit(3, inputs=40, gates=400, classes=6, group=40)
    design = design_of(circuit)
    stages, net = design.stages(pipeline), design.netlist
    depth = np.zeros(net.num_nodes, int)
    inside: dict[int, set[int]] = {}
    for gate in range(net.num_gates):
        node, cell = net.num_inputs + gate, int(design.cells[gate])
        inside.setdefault(cell, set()).add(int(stages[node]))
        read = [int(operand[gate]) for operand in net.operands]
        assert all(stages[operand] <= stages[node] for operand in read)
        outside = [x for x in read if x < net.num_inputs or design.cells[x - net.num_inputs] != cell]
        same = [depth[x] for x in outside if stages[x] == stages[node]]
        own = [depth[x] for x in read if x not in outside]
        depth[node] = max([int(design.costs[cell]) + max(same, default=0), *own])
    assert all(len(found) == 1 for found in inside.values())
    assert depth.max() <= max(pipeline, 2)
    assert stages.max() > 3
    assert not design.stages(0).any()
    assert set(design.parts.tolist()) == {GATES, SUMS, DECISION}
