from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.circuit import Circuit, CircuitError, optimize, optimize_with_report
from lgn_lightning.circuit.native import chain_order
from lgn_lightning.circuit.passes import flat as p
from lgn_lightning.circuit.passes.optimize import LEVELS
from lgn_lightning.circuit.passes.schedule import reorder
from tests.circuit.random_circuits import circuits2, random_bits, random_circuit

PASSES = [p.fold_constants, p.absorb_inverters, p.hash_structure, p.remove_dead_gates, p.map_to_luts]


def gates_of(pairs: list[tuple[int, int, int]], outputs: list[int], inputs: int = 3) -> Circuit:
    gates, a, b = (np.array(column) for column in zip(*pairs, strict=True))
    return Circuit(
        num_inputs=inputs,
        gates=gates.astype(np.uint8),
        a=a.astype(np.int32),
        b=b.astype(np.int32),
        outputs=np.array(outputs, np.int32),
        num_classes=len(outputs),
    )


@pytest.mark.parametrize("function", PASSES, ids=lambda function: function.__name__)
@settings(deadline=None, max_examples=40)
@given(circuit=circuits2)
def test_a_pass_keeps_every_output(function, circuit: Circuit) -> None:
    result = function(circuit)
    words = np.random.default_rng(0).integers(0, 2**63, (circuit.num_inputs, 8)).astype(np.uint64)
    assert np.array_equal(result.simulate(words), circuit.simulate(words))


@settings(deadline=None, max_examples=30)
@given(circuit=circuits2, level=st.integers(0, 3))
def test_levels_keep_scores_and_only_save_gates(circuit: Circuit, level: int) -> None:
    result, reports = optimize_with_report(circuit, level)
    bits = random_bits(circuit, 100)
    assert np.array_equal(result.scores(bits), circuit.scores(bits))
    assert [report.name for report in reports] == [function.__name__ for function in LEVELS[level]]
    assert sum(report.saved for report in reports) == circuit.num_gates - result.num_gates


def test_constants_are_folded() -> None:
    # one; x0 and one; x1 xor itself
    circuit = gates_of([(15, 0, 0), (1, 0, 3), (6, 1, 1)], [4, 5])
    folded = p.fold_constants(circuit).remove_dead_gates()
    assert folded.stats().kinds == {"a": 1, "zero": 1}


def test_inverters_and_buffers_go_into_their_readers() -> None:
    # not x0; buffer of it; and with x1
    circuit = gates_of([(12, 0, 2), (3, 3, 1), (1, 4, 1)], [5])
    result = p.absorb_inverters(circuit)
    assert result.stats().kinds == {"not_a_and_b": 1}


def test_equal_gates_are_merged_up_to_a_complement() -> None:
    # and, its operands swapped, nand: one gate and an inverter for the output
    circuit = gates_of([(1, 0, 1), (1, 1, 0), (14, 0, 1)], [3, 4, 5])
    assert p.hash_structure(circuit).stats().kinds == {"and": 1, "not_a": 1}
    assert p.absorb_inverters(circuit).num_gates == 3 + 1 - 1


def test_two_level_rules() -> None:
    # x0 and (x0 and x1) = x0 and x1;  x0 and not (x0 and x1) = x0 and not x1;  x0 xor (x0 xor x1) = x1
    circuit = gates_of([(1, 0, 1), (1, 0, 3), (2, 0, 3), (6, 0, 1), (6, 0, 6)], [4, 5, 7])
    result = optimize(circuit)
    assert result.stats().kinds == {"and": 1, "a_and_not_b": 1}
    assert result.outputs[2] == 1


def test_mapping_covers_a_full_adder_with_two_gates() -> None:
    circuit = gates_of([(6, 0, 1), (6, 3, 2), (1, 0, 1), (1, 3, 2), (7, 5, 6)], [4, 7])
    mapped = p.map_to_luts(circuit)
    assert (mapped.num_gates, mapped.arity, mapped.stats().three_input_gates) == (2, 3, 2)
    bits = random_bits(circuit, 64)
    assert np.array_equal(mapped.scores(bits), circuit.scores(bits))


def test_deep_chains_do_not_overflow_the_stack() -> None:
    count = 300_000
    node = np.arange(3, 3 + count, dtype=np.int32)
    circuit = Circuit(
        num_inputs=3,
        gates=np.resize(np.array([6, 1, 7], np.uint8), count),
        a=node - 1,
        b=np.resize(np.array([0, 1, 2], np.int32), count),
        outputs=node[-1:].copy(),
        num_classes=1,
    )
    result = optimize(circuit, level=3)
    bits = random_bits(circuit, 8)
    assert np.array_equal(result.scores(bits), circuit.scores(bits))


@settings(deadline=None, max_examples=30)
@given(circuit=circuits2)
def test_chain_order_is_topological(circuit: Circuit) -> None:
    circuit = circuit.remove_dead_gates()
    order = chain_order(circuit)
    assert np.array_equal(np.sort(order), np.arange(circuit.num_gates))
    moved = reorder(circuit, order)  # Circuit refuses operands that come later
    bits = random_bits(circuit, 64)
    assert np.array_equal(moved.scores(bits), circuit.scores(bits))


def test_misuse() -> None:
    with pytest.raises(CircuitError, match="no optimization level 7 of a Circuit; levels are 0, 1, 2, 3"):
        optimize(random_circuit(), level=7)
    with pytest.raises(CircuitError, match="two inputs"):
        p.fold_constants(random_circuit(arity=3))
    with pytest.raises(ValueError, match="dead gates"):
        chain_order(gates_of([(1, 0, 1)], [0]))
