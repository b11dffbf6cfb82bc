"""Ports of a table's columns, whatever the columns are called."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lgn_lightning.base.columns import Column, Comparisons, Op, codes_of, make_rows
from lgn_lightning.circuit import Circuit, CircuitError
from lgn_lightning.circuit.check.prove_axi import prove_axi
from lgn_lightning.circuit.check.prove_top import prove_top
from lgn_lightning.circuit.check.prove_verilog import read_verilog
from lgn_lightning.circuit.check.simulate_stream import simulate_verilog_stream
from lgn_lightning.circuit.check.simulate_verilog import simulate_verilog
from lgn_lightning.circuit.emit.axi_stream import AxiStream
from lgn_lightning.circuit.emit.verilog import emit_verilog, row_ports
from lgn_lightning.circuit.emit.verilog_rows import read_fixed
from lgn_lightning.circuit.emit.verilog_stream import emit_verilog_stream
from tests.circuit.column_names import inner_names, keywords, table_circuit, table_stream, values
from tests.circuit.tools import needs, needs_abc

QUOTED = ["it's", 'a"b', "a\\b", 'it\'s "a\\b"', "größe: 3.4", "// Port 'x': 16.8"]


@needs("iverilog", "vvp")
def test_ports_of_fixed_point_with_quotes_in_their_names(tmp_path: Path) -> None:
    ports = dict.fromkeys(QUOTED, (16, 8))
    circuit = table_circuit(QUOTED)
    path = tmp_path / "net.v"
    path.write_text(emit_verilog(circuit, name="net", ports=ports).text, encoding="utf-8")
    _, verilog = read_verilog(circuit, path)  # what `lgn verify` does
    assert dict(verilog.fixed) == ports
    assert simulate_verilog(circuit, verilog, values(QUOTED, 40), "net")
    assert [width for _, width, _ in AxiStream(circuit, verilog, "net").ports] == [16, 1] * len(QUOTED)


def category_circuit() -> Circuit:
    """What a category is, two thresholds of a number, and whether it is missing."""
    columns = Column("shape", "category", ("round", "square", "flat")), Column("size", "float32")
    ops = [Op.EQUAL, Op.EQUAL, Op.GREATER, Op.GREATER, Op.MISSING]
    constants = np.array([1, 3, *np.array([2.5, 100.0]).view(np.int64), 0])
    read = Comparisons(columns, np.array([0, 0, 1, 1, 1], np.int32), np.array(ops, np.uint8), constants)
    gates, inputs = np.full(5, 3, np.uint8), np.arange(5, dtype=np.int32)
    return Circuit(5, gates, inputs, inputs, inputs + 5, 5, comparisons=read)


@needs("iverilog", "vvp")
def test_codes_of_categories_are_said_and_fit_the_port(tmp_path: Path) -> None:
    circuit = category_circuit()
    shape = circuit.comparisons.columns[0]  # type: ignore[union-attr]
    assert {text: code for code, text in shape.codes.items() if code} == codes_of(shape.categories)
    said = "0 unseen in training, 1 round, 2 square, 3 flat"
    assert f"// shape ({said}): int32" in emit_verilog(circuit).text
    verilog = emit_verilog(circuit, ports={"shape": (3, 0), "size": (8, 4)})
    assert f"// shape ({said}): signed fixed point 3.0" in verilog.text
    assert said in AxiStream(circuit, verilog, "net").readme()
    columns = circuit.columns or ()
    rows = make_rows(columns, [np.arange(4, dtype=np.int32), np.array([2, 3, 7, np.nan], np.float32)])
    assert circuit.scores(rows)[:, :2].tolist() == [[0, 0], [1, 0], [0, 0], [0, 1]]
    assert simulate_verilog(circuit, emit_verilog(circuit, name="net", ports={"shape": (3, 0)}), rows, "net")
    with pytest.raises(CircuitError, match=r"'shape' has the codes 0 to 3.* of 2 bits .*give it 3 or more"):
        emit_verilog(circuit, ports={"shape": (2, 0)})


def test_thresholds_beyond_a_port_are_counted() -> None:
    circuit = category_circuit()
    for port, count in (((8, 4), 1), ((8, 0), 0), ((3, 0), 1), ((2, 1), 2)):
        assert row_ports(circuit, {"size": port}).beyond("size") == count


def test_a_comment_of_a_port_that_is_no_name_is_refused() -> None:
    assert read_fixed("// Port 'a b': 16.8\n// Ports\n") == {"a b": (16, 8)}
    for quoted in ("a b", "'it's'", "3"):
        with pytest.raises(CircuitError, match="export it again"):
            read_fixed(f"// Port {quoted}: 16.8\n")


def nasty_names(text: str, seed: int) -> list[str]:
    """Names inside of a file, some words of languages, and columns beside their own second ports, in any order."""
    generator = np.random.default_rng(seed)
    names = [*inner_names(text), *generator.choice(keywords(), 20)]
    names = [str(name) for name in generator.permutation([*names, *(f"{name}_missing" for name in names[::3])])]
    return list(dict.fromkeys(names))


def read_as(standard: str, text: str, folder: Path) -> None:
    (folder / "net.v").write_text(text, encoding="utf-8")
    subprocess.run(["iverilog", f"-g{standard}", "-t", "null", "net.v"], cwd=folder, check=True)


@needs("iverilog", "vvp")
@pytest.mark.parametrize(
    "options",
    [{}, {"pipeline": 2}, {"fixed": True}, {"fixed": True, "pipeline": 2}, {"luts": "lut6", "pipeline": 1}],
    ids=str,
)
def test_columns_may_have_any_name(options: dict[str, Any]) -> None:
    options = dict(options)
    fixed = (16, 8) if options.pop("fixed", False) else None
    example = emit_verilog(table_circuit(["a", "b"]), ports={"a": fixed} if fixed else None, **options)
    names = nasty_names(example.text, len(example.text))
    circuit = table_circuit(names)
    verilog = emit_verilog(circuit, name="net", ports=dict.fromkeys(names[::2], fixed) if fixed else None, **options)
    assert simulate_verilog(circuit, verilog, values(names, 20), "net")


@needs("iverilog", "vvp")
@pytest.mark.parametrize("readout", ["last", "sum"])
def test_channels_may_have_any_name(readout: str) -> None:
    example = emit_verilog_stream(table_stream(["a", "b"], readout))
    names = list(dict.fromkeys(["x", "y", "z", *nasty_names(example.text, 0)]))
    circuit = table_stream(names, readout)
    verilog = emit_verilog_stream(circuit, name="net")
    assert simulate_verilog_stream(circuit, verilog, values(names, 2, 6), "net")
    assert row_ports(circuit).names[:3] == ["x", "y", "z"]


@needs("iverilog")
@pytest.mark.parametrize("standard", ["2001", "2012"])
def test_no_port_is_a_word_of_the_language(standard: str, tmp_path: Path) -> None:
    text = emit_verilog(table_circuit(keywords()), name="net").text
    read_as(standard, text, tmp_path)


@needs("iverilog", "vvp", "yosys")
@needs_abc
def test_what_is_proven_takes_any_name() -> None:
    names = ["x0", "x1_r", "stand in late", "logic"]
    circuit = table_circuit(names).optimize(2)
    verilog = emit_verilog(circuit, name="net", pipeline=4)
    assert prove_top(circuit, verilog, "net")
    assert prove_axi(AxiStream(circuit, verilog, "net", 128))
    stream = table_stream(["x", "stand in odd"])
    assert prove_axi(AxiStream(stream, emit_verilog_stream(stream, name="net"), "net", 64))


def test_names_of_ordinary_columns_stay() -> None:
    names = ["x0", "Type", "time", "Time", "a", "a_missing", "valid", "range", "net", "class"]
    ports = row_ports(table_circuit(names), {"a": (16, 8)})
    wanted = ["x0", "Type", "time_2", "Time_3", "a", "a_missing", "valid", "range", "net_2", "class_2"]
    assert ports.names == wanted
    assert ports.missing[4] == "a_missing_2"
    assert row_ports(table_stream(names)).names == [*wanted[:6], "valid_2", *wanted[7:]]
