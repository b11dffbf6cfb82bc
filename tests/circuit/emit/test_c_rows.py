"""The struct of a row, whatever the columns are called."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np

from lgn_lightning.circuit import CompiledCircuit
from lgn_lightning.circuit.emit.c import emit_c, emit_header
from lgn_lightning.circuit.emit.c_stream import emit_c_stream, emit_stream_header
from lgn_lightning.circuit.emit.compiled_stream import CompiledStream
from lgn_lightning.circuit.emit.compiler import compile_source
from tests.circuit.column_names import inner_names, keywords, table_circuit, table_stream, values
from tests.circuit.tools import needs

#: Headers that a program may include before that of the net.
BEFORE = ["stdio", "stdlib", "string", "math", "errno", "stdint", "stddef"]


def nasty_names(text: str) -> list[str]:
    return list(dict.fromkeys(name for name in [*inner_names(text), *keywords()] if name))


def headers_work(text: str, folder: Path) -> None:
    """C and C++ take the header, by compilers as they are."""
    (folder / "net.h").write_text(text)
    includes = "".join(f"#include <{header}.h>\n" for header in BEFORE)
    for name, compilers in (("c", ["gcc", "clang"]), ("cpp", ["g++", "clang++"])):
        source = folder / f"use.{name}"
        source.write_text(f'{includes}#include "net.h"\nint main(void) {{ return sizeof(net_row) == 0; }}\n')
        for compiler in compilers:
            subprocess.run([compiler, "-fsyntax-only", str(source)], check=True)
    subprocess.run(["g++", "-std=c++20", "-fsyntax-only", str(source)], check=True)


@needs("gcc", "clang", "g++", "clang++")
def test_columns_may_have_any_name(tmp_path: Path) -> None:
    kinds = ("float32", "int32", "int64")
    names = nasty_names(emit_c(table_circuit(["a", "b", "c"], *kinds), name="net"))
    circuit = table_circuit(names, *kinds)
    headers_work(emit_header(circuit, name="net"), tmp_path)
    compile_source(emit_c(circuit, name="net"), tmp_path / "net.so", opt_level=0, flags=["-std=gnu17"])
    rows = np.round(4 * values(names, 20))
    assert np.array_equal(CompiledCircuit(tmp_path / "net.so", "net").scores(rows), circuit.scores(rows))


@needs("gcc", "clang", "g++", "clang++")
def test_channels_may_have_any_name(tmp_path: Path) -> None:
    names = nasty_names(emit_c_stream(table_stream(["a", "b"]), name="net"))
    circuit = table_stream(names)
    headers_work(emit_stream_header(circuit, name="net"), tmp_path)
    compile_source(emit_c_stream(circuit, name="net"), tmp_path / "net.so", opt_level=0, flags=["-std=gnu17"])
    x = values(names, 3, 5)
    assert np.array_equal(CompiledStream(tmp_path / "net.so", "net").scores(x), circuit.scores(x))


def test_names_of_ordinary_columns_stay() -> None:
    names = ["null", "Null", "NULL", "Class", "Export", "export", "VALUE", "I", "sun", "EEG", "2nd", "größe"]
    wanted = ["null", "Null_2", "NULL_3", "Class_2", "Export", "export_2", "VALUE", "I", "sun", "EEG", "c_2nd", "gr_e"]
    header = emit_header(table_circuit(names), name="net")
    assert re.findall(r"^    float (\w+); ", header, re.MULTILINE) == wanted
