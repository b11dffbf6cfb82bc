"""Ports of a table's columns, whatever the columns are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lgn_lightning.base.columns import Column, Comparisons, Op
from lgn_lightning.circuit import Circuit, CircuitError
from lgn_lightning.circuit.check.prove_verilog import read_verilog
from lgn_lightning.circuit.check.simulate_verilog import simulate_verilog
from lgn_lightning.circuit.emit.axi_stream import AxiStream
from lgn_lightning.circuit.emit.verilog import emit_verilog
from lgn_lightning.circuit.emit.verilog_rows import read_fixed
from tests.circuit.random_circuits import random_circuit
from tests.circuit.tools import needs

QUOTED = ["it's", 'a"b', "a\\b", "it's \"a\\b\"", "größe: 3.4", "// Port 'x': 16.8"]


def table(names: list[str]) -> Comparisons:
    """Two thresholds of each column, and whether it is missing."""
    count = len(names)
    constants = np.tile(np.array([0.5, -0.5, 0.0]).view(np.int64), count)
    ops = np.tile([Op.GREATER, Op.GREATER, Op.MISSING], count)
    return Comparisons(tuple(Column(name, "float32") for name in names), np.arange(3 * count) // 3, ops, constants)


def table_circuit(names: list[str]) -> Circuit:
    plain = random_circuit(0, 3 * len(names), 20 * len(names), 3, 4)
    return Circuit(plain.num_inputs, plain.gates, plain.a, plain.b, plain.outputs, 3, comparisons=table(names))


def rows_of(names: list[str], count: int = 40) -> np.ndarray:
    rows = np.random.default_rng(1).normal(size=(count, len(names))).astype(np.float32)
    rows[np.random.default_rng(2).random(rows.shape) < 0.1] = np.nan
    return rows


@needs("iverilog", "vvp")
def test_ports_of_fixed_point_with_quotes_in_their_names(tmp_path: Path) -> None:
    ports = {name: (16, 8) for name in QUOTED}
    circuit = table_circuit(QUOTED)
    path = tmp_path / "net.v"
    path.write_text(emit_verilog(circuit, name="net", ports=ports).text, encoding="utf-8")
    _, verilog = read_verilog(circuit, path)  # what `lgn verify` does
    assert dict(verilog.fixed) == ports
    assert simulate_verilog(circuit, verilog, rows_of(QUOTED), "net")
    assert [width for _, width, _ in AxiStream(circuit, verilog, "net").ports] == [16, 1] * len(QUOTED)


def test_a_comment_of_a_port_that_is_no_name_is_refused() -> None:
    assert read_fixed("// Port 'a b': 16.8\n// Ports\n") == {"a b": (16, 8)}
    for quoted in ("a b", "'it's'", "3"):
        with pytest.raises(CircuitError, match="export it again"):
            read_fixed(f"// Port {quoted}: 16.8\n")
