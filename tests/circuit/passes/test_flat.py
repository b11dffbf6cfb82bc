from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from lgn_lightning.circuit import Circuit, CircuitError
from lgn_lightning.circuit.native import chain_order
from lgn_lightning.circuit.passes import flat as p
from tests.circuit.random_circuits import (
    circuits,
    circuits2,
    gates_of,
    random_bits,
    random_circuit,
)


@settings(deadline=None, max_examples=30)
@given(circuits)
def test_dead_gates_are_removed_and_nothing_else_changes(circuit: Circuit) -> None:
    live = circuit.remove_dead_gates()
    bits = random_bits(circuit, 70)
    assert np.array_equal(live.scores(bits), circuit.scores(bits))
    assert live.remove_dead_gates() == live
    read = {int(node) for part in (*live.operands, live.outputs) for node in part}
    assert set(range(live.num_inputs, live.num_nodes)) <= read
    assert circuit.stats().live_gates == live.num_gates


PASSES = [p.fold_constants, p.absorb_inverters, p.hash_structure, p.remove_dead_gates, p.map_to_luts]


@pytest.mark.parametrize("function", PASSES, ids=lambda function: function.__name__)
@settings(deadline=None, max_examples=40)
@given(circuit=circuits2)
def test_a_pass_keeps_every_output(function, circuit: Circuit) -> None:
    result = function(circuit)
    words = np.random.default_rng(0).integers(0, 2**63, (circuit.num_inputs, 8)).astype(np.uint64)
    assert np.array_equal(result.simulate(words), circuit.simulate(words))


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


def test_mapping_covers_a_full_adder_with_two_gates() -> None:
    circuit = gates_of([(6, 0, 1), (6, 3, 2), (1, 0, 1), (1, 3, 2), (7, 5, 6)], [4, 7])
    mapped = p.map_to_luts(circuit)
    assert (mapped.num_gates, mapped.arity, mapped.stats().three_input_gates) == (2, 3, 2)
    bits = random_bits(circuit, 64)
    assert np.array_equal(mapped.scores(bits), circuit.scores(bits))


def test_misuse() -> None:
    with pytest.raises(CircuitError, match="two inputs"):
        p.fold_constants(random_circuit(arity=3))
    with pytest.raises(ValueError, match="dead gates"):
        chain_order(gates_of([(1, 0, 1)], [0]))
