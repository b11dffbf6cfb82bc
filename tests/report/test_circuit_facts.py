from pathlib import Path

import numpy as np
import pytest

from lgn_lightning.circuit import native
from lgn_lightning.report.circuit_facts import circuit_facts, input_reads
from lgn_lightning.training.checkpoint import load_net
from tests.circuit.random_circuits import image_circuit


def test_passes_and_reads_are_those_of_the_circuit(digits_run: Path) -> None:
    facts = circuit_facts(load_net(digits_run))
    assert facts.raw.num_gates == 900
    by_pass = {report.name: report.after for report in facts.passes}
    assert by_pass["hash_structure"] >= by_pass["remove_dead_gates"] == facts.small.num_gates
    assert by_pass["map_to_luts"] == facts.raw.optimize(3).num_gates
    assert facts.stats == facts.small.stats()
    assert facts.pixel_reads is not None
    assert facts.pixel_reads.shape == (8, 8)
    assert facts.pixel_reads.sum() == sum(reads for _, reads in facts.threshold_reads) == input_reads(facts.small).sum()


def test_operands_and_outputs_that_read_an_input_are_counted() -> None:
    circuit = image_circuit()
    expected = np.zeros(circuit.num_inputs, int)
    for node in [*circuit.a.tolist(), *circuit.b.tolist(), *circuit.outputs.tolist()]:
        if node < circuit.num_inputs:
            expected[node] += 1
    assert input_reads(circuit).tolist() == expected.tolist()


def test_without_a_compiler_dead_gates_are_removed(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise native.BuildError("no C++ compiler found")

    monkeypatch.setattr(native, "library", refuse)
    facts = circuit_facts(load_net(digits_run))
    assert [report.name for report in facts.passes] == ["remove_dead_gates"]
    assert facts.engine.name == "numpy"
