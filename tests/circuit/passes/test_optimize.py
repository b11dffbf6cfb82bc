from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.circuit import Circuit, CircuitError, LoopedCircuit, optimize, optimize_with_report
from lgn_lightning.circuit.passes.optimize import LEVELS
from tests.circuit.random_circuits import circuits2, gates_of, random_bits, random_circuit, slow_scores
from tests.circuit.random_conv_nets import tree_net


@settings(deadline=None, max_examples=30)
@given(circuit=circuits2, level=st.integers(0, 3))
def test_levels_keep_scores_and_only_save_gates(circuit: Circuit, level: int) -> None:
    result, reports = optimize_with_report(circuit, level)
    bits = random_bits(circuit, 100)
    assert np.array_equal(result.scores(bits), circuit.scores(bits))
    assert [report.name for report in reports] == [function.__name__ for function in LEVELS[level]]
    assert sum(report.saved for report in reports) == circuit.num_gates - result.num_gates


def test_two_level_rules() -> None:
    # x0 and (x0 and x1) = x0 and x1;  x0 and not (x0 and x1) = x0 and not x1;  x0 xor (x0 xor x1) = x1
    circuit = gates_of([(1, 0, 1), (1, 0, 3), (2, 0, 3), (6, 0, 1), (6, 0, 6)], [4, 5, 7])
    result = optimize(circuit)
    assert result.stats().kinds == {"and": 1, "a_and_not_b": 1}
    assert result.outputs[2] == 1


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
    bits = random_bits(circuit, 2)
    assert np.array_equal(slow_scores(result, bits), slow_scores(circuit, bits))  # simulation goes level by level


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(CircuitError, match="no optimization level 7 of a Circuit; levels are 0, 1, 2, 3"):
        optimize(random_circuit(), level=7)
    with pytest.raises(CircuitError, match="no optimization level 3 of a LoopedCircuit; levels are 0, 1, 2"):
        LoopedCircuit.from_module(tree_net()).optimize(3)
