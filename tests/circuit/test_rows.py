"""Raw rows of tables: hard net, simulation, engines and files compute the same."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.base.columns import Column, Comparisons, Op, make_rows
from lgn_lightning.circuit import Circuit, CircuitError, CompiledCircuit, Engine, emit_verilog
from lgn_lightning.circuit.check.simulate_verilog import simulate_verilog
from lgn_lightning.circuit.emit.compiler import compile_source
from lgn_lightning.circuit.run.engine import native_engines
from lgn_lightning.deploy.encoder import encoder_circuit
from lgn_lightning.deploy.random_rows import random_rows
from lgn_lightning.deploy.trial import Trial
from tests.circuit.tables import comparisons, net_of


def rows_for(made: Comparisons, count: int = 150) -> Any:
    return random_rows(made, count, np.random.default_rng(0))


@settings(max_examples=25, deadline=None)
@given(comparisons(), st.integers(0, 9))
def test_net_circuit_and_engines_agree_on_raw_rows(made: Comparisons, seed: int) -> None:
    net = net_of(made, seed)
    circuit = Circuit.from_module(net)
    assert circuit.comparisons == made
    trial = Trial.of_net(circuit, net, rows_for(made))
    trial.compare(circuit.scores(trial.inputs), "simulation")
    for engine, isa in native_engines():
        trial.compare(Engine(circuit, engine, isa=isa)(trial.inputs), f"{engine} {isa}")


@settings(max_examples=25, deadline=None)
@given(comparisons(least=1))
def test_engines_make_the_bits(made: Comparisons) -> None:
    """Not all bits reach the scores of a net: here every one is a score."""
    circuit = encoder_circuit(made)
    rows = rows_for(made, 600)
    expected = made.encode(rows.view(made.row_dtype)[:, 0])
    for engine, isa in native_engines():
        assert np.array_equal(Engine(circuit, engine, isa=isa)(rows), expected), (engine, isa)


@pytest.mark.parametrize("number", [1, 7, 40])
def test_engines_make_the_bits_of_many_thresholds(number: int) -> None:
    """Wide rows are read in windows, and sorted thresholds searched: any number of them, equal ones and ±∞ too."""
    draws = np.random.default_rng(number)
    kinds = draws.choice(["float32", "float64", "int32", "int64"], number)
    columns = tuple(Column(f"c{index}", str(kind)) for index, kind in enumerate(kinds))
    numbers, constants, values = [], [], []
    for index, column in enumerate(columns):
        pool = draws.integers(-20, 20, 130).astype(column.dtype)
        special = [np.nan, np.inf, -np.inf, 0.0, -0.0] if column.is_float else [column.missing, 2**31 - 1, 1 - 2**31]
        values.append(np.concatenate([pool, np.array(special, column.dtype)]).repeat(5)[:650])
        thresholds = draws.choice(pool, draws.integers(1, 70))
        if column.is_float:
            thresholds = np.append(thresholds, np.inf).astype(np.float64).view(np.int64)
        numbers += [index] * len(thresholds)
        constants += thresholds.astype(np.int64).tolist()
    made = Comparisons(columns, np.array(numbers), np.full(len(numbers), Op.GREATER), np.array(constants))
    rows = make_rows(columns, values)[draws.permutation(650)]
    circuit = encoder_circuit(made)
    for engine, isa in native_engines():
        assert np.array_equal(Engine(circuit, engine, isa=isa)(rows), made.encode(rows)), (engine, isa)


@settings(max_examples=6, deadline=None)
@given(comparisons())
def test_c_and_verilog_agree_on_raw_rows(made: Comparisons) -> None:
    rows = rows_for(made)
    net = Circuit.from_module(net_of(made))
    for circuit in (encoder_circuit(made), net.optimize(1), net.optimize(3)):
        expected = circuit.scores(rows)
        with tempfile.TemporaryDirectory() as folder:
            compile_source(circuit.to_c(), Path(folder) / "a.so")
            compiled = CompiledCircuit(Path(folder) / "a.so")
            assert compiled.columns == made.columns
            assert np.array_equal(compiled.scores(rows), expected)
            assert np.array_equal(compiled.predict(rows), expected.argmax(1))
            for first in range(0, len(rows), 11):  # few rows take another way
                few = slice(first, first + 1 + first % 2)
                assert np.array_equal(compiled.scores(rows[few]), expected[few])
                assert np.array_equal(compiled.predict(rows[few]), expected[few].argmax(1))
        if shutil.which("iverilog") is not None:
            assert simulate_verilog(circuit, emit_verilog(circuit, name="net"), rows[:60], "net").equal


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="no iverilog")
@settings(max_examples=8, deadline=None)
@given(comparisons(), st.data())
def test_ports_of_fixed_point(made: Comparisons, data: st.DataObject) -> None:
    ports = {}
    for column in made.columns:
        if data.draw(st.booleans()):
            width = data.draw(st.integers(2, 24))
            ports[column.name] = width, data.draw(st.integers(0, width - 1)) if column.is_float else 0
    circuit = encoder_circuit(made)
    verilog = emit_verilog(circuit, name="net", ports=ports)
    assert simulate_verilog(circuit, verilog, rows_for(made, 60), "net").equal


def test_ports_that_cannot_be() -> None:
    for ports in ({"sizes": (8, 0)}, {"size": (30, 2)}, {"count": (8, 2)}, {"size": (8, 8)}):
        with pytest.raises(CircuitError, match="port"):
            emit_verilog(circuit(), ports=ports)


def circuit() -> Circuit:
    columns = (Column("size", "float32"), Column("count", "int64"), Column("colour", "category", ("red", "blue")))
    constants = np.array([np.float64(0.5).view(np.int64), 2**60, 2, 0])
    made = Comparisons(
        columns, np.array([0, 1, 2, 0]), np.array([Op.GREATER, Op.GREATER, Op.EQUAL, Op.MISSING]), constants
    )
    return encoder_circuit(made)


def test_rows_of_any_form() -> None:
    net = circuit()
    struct = np.array([(2**60 + 1, 0.75, 2), (2**60, np.nan, 1)], [("count", "i8"), ("size", "f8"), ("colour", "i4")])
    expected = [[1, 1, 1, 0], [0, 0, 0, 1]]
    assert net.scores(struct).tolist() == expected
    assert Engine(net)(struct).tolist() == expected
    matrix = np.array([[0.75, 2.0**60 * 1.5, 2], [np.nan, 5, 1]])
    assert net.scores(matrix).tolist() == expected
    assert net.comparisons is not None
    stored = make_rows(net.comparisons.columns, [np.array([0.75]), np.array([2**60 + 1]), np.array([2])])
    assert net.scores(stored).tolist() == expected[:1]
    assert net.scores(stored.view(np.uint8).reshape(1, -1)).tolist() == expected[:1]
    assert net.scores(np.array(expected, bool)).tolist() == expected
    assert net.scores(np.array([[1, 200, 2]], np.uint8)).tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (np.zeros(2, [("size", "f4"), ("colour", "i4")]), "'count'"),
        (np.zeros((2, 4), np.float32), "3 columns"),
        (np.array([[0.5, 0.5, 1]]), "fraction"),
        (np.zeros(3, np.float32), "structured"),
    ],
)
def test_rows_that_do_not_fit(rows: Any, says: str) -> None:
    with pytest.raises(CircuitError, match=says):
        circuit().scores(rows)


def test_circuit_files_keep_columns_and_constants(tmp_path: Path) -> None:
    net = circuit()
    net.save(tmp_path / "a.lgn")
    read = Circuit.load(tmp_path / "a.lgn")
    assert read == net
    assert read.comparisons == net.comparisons
    assert "3 columns" in repr(read)
