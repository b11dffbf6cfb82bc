"""Proofs of thresholds, sums and decision: right ones go through, and one changed table is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.circuit import Circuit, CircuitError, optimize_for_export
from lgn_lightning.circuit.check import prove_design
from lgn_lightning.circuit.check.prove_design import prove_decision, prove_sums, prove_thresholds
from lgn_lightning.circuit.check.tools import ToolError
from lgn_lightning.circuit.hardware.design import DECISION, SUMS, Design, design_of
from lgn_lightning.circuit.hardware.nodes import apply_table
from lgn_lightning.circuit.net.decoding import Decoding
from tests.circuit.random_circuits import circuits, random_circuit
from tests.circuit.tools import needs_abc

PIXELS = random_circuit(3, 60, 90, 3, 7, levels=[0, 130, 255], image_shape=(1, 4, 5))


def decoded(kind: str) -> Circuit:
    circuit = random_circuit(7, 20, 150, 1 if kind == "levels" else 3, 21)
    decodings = {
        "levels": Decoding("levels", (7, 9, 14), (0.5,), (0.0,) * 3),
        "labels": Decoding("labels", (4, 11, 30), (1.0,) * 3, (0.0,) * 3),
        "numbers": Decoding("numbers", (), (0.37, -2.5, 0.0), (1.0, 0.25, 3.0)),
    }
    return circuit.with_decoding(decodings[kind]) if kind in decodings else circuit


@settings(max_examples=25, deadline=None)
@given(circuits)
def test_sums_of_any_circuit_are_proven(circuit: Circuit) -> None:
    assert prove_sums(circuit)


def test_thresholds_are_proven_for_all_values() -> None:
    assert "256 values" in prove_thresholds(PIXELS).log
    with pytest.raises(CircuitError, match="no pixels"):
        prove_thresholds(random_circuit())


@needs_abc
@pytest.mark.parametrize("circuit", [random_circuit(1, 12, 90, classes, 9) for classes in (2, 3, 10)], ids=str)
def test_the_first_of_the_highest_scores_is_proven(circuit: Circuit) -> None:
    assert prove_decision(circuit, 60)


@pytest.mark.parametrize("kind", ["levels", "labels", "numbers"])
def test_other_decisions_are_proven_for_all_scores(kind: str) -> None:
    assert prove_decision(decoded(kind), 60).tool == "all values"


@needs_abc
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["argmax", "levels", "labels", "numbers"]), st.integers(1, 6))
def test_decisions_on_scores_with_constant_or_shared_bits_are_proven(seed: int, kind: str, group: int) -> None:
    draw = np.random.default_rng(seed)
    groups = 1 if kind == "levels" else int(draw.integers(1, 5))
    circuit = random_circuit(seed % 1000, 5, 12, groups, group)
    nodes = draw.choice([2, 3, 6, 7, 11], circuit.outputs.size)  # few, so that scores have equal outputs
    gates = circuit.gates.copy()
    gates[2], gates[6] = 0, 15  # constants
    circuit = replace(circuit, gates=gates, outputs=nodes.astype(np.int32))
    thresholds = tuple(sorted(draw.integers(0, group + 2, groups).tolist()))
    decodings = {
        "levels": Decoding("levels", thresholds, (0.5,), (0.0,) * groups),
        "labels": Decoding("labels", thresholds, (1.0,) * groups, (0.0,) * groups),
        "numbers": Decoding("numbers", (), tuple(draw.normal(size=groups)), tuple(draw.normal(size=groups))),
    }
    circuit = circuit.with_decoding(decodings[kind]) if kind in decodings else circuit
    for tried in (circuit, optimize_for_export(circuit)[0]):
        assert prove_decision(tried, 60)


def with_a_change(monkeypatch: pytest.MonkeyPatch, circuit: Circuit, part: int, chance: int) -> None:
    """Flips one entry of a table of a part of the design."""
    design = design_of(circuit)
    own = np.flatnonzero(design.parts == part)
    gate = int(np.random.default_rng(chance).choice(own))
    gates = design.netlist.gates.copy()
    gates[gate] ^= 1 << (chance % 8)
    changed = replace(design, netlist=replace(design.netlist, gates=gates))
    monkeypatch.setattr(prove_design, "design_of", lambda _: changed)


def first_sum(function: Any, *arguments: Any) -> bool:
    """Whether a proof goes through; a cell that does not add is none."""
    try:
        return bool(function(*arguments))
    except ToolError:
        return False


def effect(design: Design, other: Design, bits: np.ndarray) -> bool:
    """Whether two designs differ on some inputs."""
    return any(not np.array_equal(values(design, row), values(other, row)) for row in bits)


def values(design: Design, row: np.ndarray) -> list[int]:
    net = design.netlist
    known = [int(bit) for bit in row]
    for table, *read in zip(net.gates.tolist(), *(operand.tolist() for operand in net.operands), strict=True):
        known.append(apply_table(table, [known[node] for node in read], 1))
    return [known[node] for node in net.outputs.tolist()]


@pytest.mark.parametrize("chance", range(12))
def test_a_changed_table_of_the_sums_is_found(chance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = random_circuit(4, 14, 120, 3, 13)
    bits = np.random.default_rng(0).integers(0, 2, (300, 14))
    right = design_of(circuit)
    with_a_change(monkeypatch, circuit, SUMS, chance)
    if effect(right, prove_design.design_of(circuit), bits):
        assert not first_sum(prove_sums, circuit)


@needs_abc
@pytest.mark.parametrize("kind", ["argmax", "levels", "labels", "numbers"])
def test_a_changed_table_of_the_decision_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = decoded(kind)
    bits = np.random.default_rng(0).integers(0, 2, (300, 20))
    right, found = design_of(circuit), 0
    for chance in range(8):
        monkeypatch.undo()
        with_a_change(monkeypatch, circuit, DECISION, chance)
        design = prove_design.design_of(circuit)
        try:
            proof = prove_decision(circuit, 60)
        except ToolError:
            continue
        if proof:
            assert not effect(right, design, bits)
        elif proof.counterexample is not None:
            assert effect(right, design, proof.counterexample[None])  # bits of the inputs
        found += not proof
    assert found


def test_a_threshold_beside_the_right_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = prove_design.encoder_bits
    wrong = replace(PIXELS, levels=np.array([0, 131, 255], np.uint8))
    monkeypatch.setattr(prove_design, "encoder_bits", lambda nodes, _, read: right(nodes, wrong, read))
    assert "above 130" in prove_thresholds(PIXELS).log


def test_tables_read_their_operands_from_the_highest_entry_on() -> None:
    for table in range(256):
        for entry in range(8):
            operands = [entry >> 2 & 1, entry >> 1 & 1, entry & 1]
            assert apply_table(table, operands, 1) == table >> (7 - entry) & 1
