from __future__ import annotations

import re

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, native
from lgn_lightning.circuit.check.tools import ABC_NAMES, run_abc
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.emit.verilog import emit_verilog
from lgn_lightning.circuit.emit.verilog_luts import LUT_CELLS
from lgn_lightning.circuit.hardware.design import design_of
from lgn_lightning.circuit.hardware.estimate import estimate
from tests.circuit.column_names import table_circuit
from tests.circuit.random_circuits import gates_of, image_circuit, random_circuit
from tests.circuit.tools import needs


def layered(width: int = 300, depth: int = 3, inputs: int = 200) -> Circuit:
    """A net of random layers, as training begins with."""
    rng = np.random.default_rng(0)
    sizes = [inputs, *[width] * depth]
    starts = np.cumsum([0, *sizes])
    a, b = ([rng.integers(starts[i], starts[i + 1], width) for i in range(depth)] for _ in range(2))
    outputs = np.arange(starts[-2], starts[-1], dtype=np.int32)
    gates = rng.integers(1, 15, width * depth).astype(np.uint8)
    wires = [np.concatenate(x).astype(np.int32) for x in (a, b)]
    return Circuit(inputs, gates, *wires, outputs, 10).optimize(2)


def test_tables_that_one_can_count() -> None:
    # The AND of eight inputs: two tables of six, or three of four, one behind the other.
    chain = gates_of([(1, 0, 1), *((1, 7 + k, 1 + k) for k in range(1, 7))], [14], inputs=8)
    sizes, levels, *_ = native.cover_luts(chain, 6)
    assert (np.count_nonzero(sizes), levels[-1]) == (2, 2)
    assert np.count_nonzero(native.cover_luts(chain, 4).sizes) == 3
    cost = estimate(chain)
    assert (cost.total("lut6"), cost.total("levels"), cost.gates_alone, cost.latency) == (2, 2, 2, 0)


@needs(ABC_NAMES[0])
@pytest.mark.parametrize("what", ["gates", "design"])
def test_counts_as_abc_does(tmp_path, what: str) -> None:
    circuit = layered()
    net = circuit if what == "gates" else design_of(circuit).netlist
    sizes, levels, *_ = native.cover_luts(net, 6)
    (tmp_path / "net.blif").write_text(emit_blif(net))
    log = run_abc(f"read_blif net.blif; strash; if -K 6{' -a' * (what == 'gates')}; print_stats", tmp_path, 60)
    found = re.findall(r"nd =\s*(\d+).*lev =\s*(\d+)", log)[-1]
    assert abs(np.count_nonzero(sizes) / int(found[0]) - 1) < 0.1
    assert levels[sizes > 0].max() <= int(found[1]) + 2


@pytest.mark.parametrize("luts", ["lut4", "lut6"])
@pytest.mark.parametrize("pipeline", [0, 1, 3])
def test_registers_of_lookup_tables_are_those_of_the_verilog(pipeline: int, luts: str) -> None:
    plain = random_circuit(3, classes=6, group=20).remove_dead_gates()
    for circuit in (plain, image_circuit().remove_dead_gates(), table_circuit(["a", "b"])):
        verilog = emit_verilog(circuit, pipeline=pipeline, luts=luts)
        cost = estimate(circuit, pipeline, LUT_CELLS[luts].inputs)
        assert cost.latency == verilog.latency
        assert cost.total("registers") == verilog.text.count(" <= ")


@pytest.mark.parametrize("pipeline", [0, 1, 2, 4])
def test_registers_are_those_of_the_verilog(pipeline: int) -> None:
    for circuit in (random_circuit(3, classes=6, group=20).remove_dead_gates(), image_circuit().remove_dead_gates()):
        verilog, cost = emit_verilog(circuit, pipeline=pipeline), estimate(circuit, pipeline)
        registers = {line.split()[0] for line in verilog.text.splitlines() if "<=" in line}
        assert cost.latency == verilog.latency
        # What gates and sums both delay stands in both modules.
        assert cost.total("registers") <= verilog.text.count(" <= ") <= 1.3 * cost.total("registers")
        assert len(registers) > 0 or not pipeline
