from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, CircuitError, CompiledCircuit, export_circuit
from lgn_lightning.circuit.emit.compiler import CompilerError, compile_library, compile_source, find_compiler
from lgn_lightning.circuit.emit.expressions import gate_expression
from tests.circuit.random_circuits import image_circuit, random_bits, random_circuit

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
    for name in ("gcc", "clang")
]


def test_every_three_input_expression_has_its_table() -> None:
    for table in range(256):
        text = gate_expression(table, ["a", "b", "c"], zero="0", one="1")
        for index in range(8):
            value = eval(text, {"a": index >> 2, "b": index >> 1 & 1, "c": index & 1}) & 1
            assert value == table >> (7 - index) & 1


def check(circuit: Circuit, library: CompiledCircuit) -> None:
    for count in (0, 1, 63, 64, 65, 700):
        bits = random_bits(circuit, count)
        expected = circuit.scores(bits)
        assert np.array_equal(library.scores(bits), expected)
        assert np.array_equal(library.predict(bits), expected.argmax(axis=1) if count else [])
        if circuit.image_shape:
            pixels = np.random.default_rng(count).integers(0, 256, (count, *circuit.image_shape)).astype(np.uint8)
            assert np.array_equal(library.scores(pixels), circuit.scores(pixels))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("form", ["code", "table"])
@pytest.mark.parametrize(("word_bits", "vector"), [(8, 0), (16, 0), (32, 0), (64, 0), (64, 32), (16, 64)])
def test_compiled_c_agrees(tmp_path, compiler: str, form: str, word_bits: int, vector: int) -> None:
    flags = [*STRICT, *([f"-DLGN_VECTOR_BYTES={vector}", "-Wno-psabi"] if vector else [])]
    for number, circuit in enumerate([image_circuit(), random_circuit(5, group=70, arity=3), random_circuit(gates=0)]):
        code = circuit.to_c(word_bits=word_bits, gates_per_function=40, form=form)
        path = tmp_path / f"{number}.so"
        compile_source(code, path, compiler=compiler, flags=flags)
        check(circuit, CompiledCircuit(path))


def test_all_sixteen_levels_of_a_byte_compare(tmp_path) -> None:
    levels = [0, 1, 63, 127, 128, 129, 254, 255]
    circuit = random_circuit(1, inputs=8 * 9, levels=levels, image_shape=(1, 1, 9), classes=8, group=9)
    circuit = Circuit(
        num_inputs=72,
        gates=circuit.gates,
        a=circuit.a,
        b=circuit.b,
        outputs=np.arange(72, dtype=np.int32),
        num_classes=8,
        levels=circuit.levels,
        image_shape=(1, 1, 9),
    )
    compile_source(circuit.to_c(), tmp_path / "net.so")
    pixels = np.resize(np.arange(256, dtype=np.uint8), (256, 9))
    assert np.array_equal(CompiledCircuit(tmp_path / "net.so").scores(pixels), circuit.scores(pixels))


def test_packed_words(tmp_path) -> None:
    circuit = random_circuit()
    compile_source(circuit.to_c(word_bits=16), tmp_path / "net.so")
    library = CompiledCircuit(tmp_path / "net.so")
    bits = random_bits(circuit, 50)
    padded = np.zeros((64, 12), bool)
    padded[:50] = bits
    words = (padded.reshape(4, 16, 12) << np.arange(16)[None, :, None]).sum(axis=1).astype(np.uint16)
    assert np.array_equal(library.packed(words, 50), circuit.scores(bits))
    with pytest.raises(CircuitError, match=r"int16 \[4, 12\]"):
        library.packed(words.astype(np.int32), 50)


@pytest.mark.parametrize("word_bits", [8, 16, 64])
def test_sanitizers_find_nothing(tmp_path, word_bits: int) -> None:
    circuit = image_circuit()
    (tmp_path / "net.c").write_text(circuit.to_c(word_bits=word_bits))
    program = tmp_path / "net"
    flags = [*STRICT, "-DLGN_MAIN", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    compile_library(tmp_path / "net.c", program, flags=flags, shared=False)
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 15)).astype(np.uint8)
    run = subprocess.run([program, "--scores"], input=pixels.tobytes(), capture_output=True, check=True)
    names = circuit.class_names
    assert names is not None
    expected = circuit.scores(pixels)
    lines = [f"{names[row.argmax()]} {' '.join(map(str, row))}" for row in expected]
    assert run.stdout.decode().splitlines() == lines
    short = subprocess.run([program], input=pixels.tobytes()[:-1], capture_output=True, check=False)
    assert short.returncode == 1
    assert b"14 bytes of 15" in short.stderr
    assert subprocess.run([program, "x"], capture_output=True, check=False).returncode == 2


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("group", [1, 7, 8, 40, 41])
def test_optimisers_have_no_warning(tmp_path, compiler: str, group: int) -> None:
    (tmp_path / "net.c").write_text(random_circuit(group=group).to_c())
    flags = [*STRICT, "-Wconversion", "-Wshadow", "-DLGN_MAIN"]
    compile_library(tmp_path / "net.c", tmp_path / "net", compiler=compiler, opt_level=2, flags=flags, shared=False)


def test_main_refuses_bytes_that_are_no_bools(tmp_path) -> None:
    circuit = random_circuit()
    (tmp_path / "net.c").write_text(circuit.to_c())
    compile_library(tmp_path / "net.c", tmp_path / "net", flags=[*STRICT, "-DLGN_MAIN"], shared=False)
    bits = random_bits(circuit, 9)
    run = subprocess.run([tmp_path / "net"], input=bits.tobytes(), capture_output=True, check=True)
    assert run.stdout.decode().split() == [str(k) for k in circuit.predict(bits)]
    run = subprocess.run([tmp_path / "net"], input=b"0" * 12, capture_output=True, check=False)
    assert run.returncode == 1
    assert b"neither 0 nor 1" in run.stderr


def test_exported_files(tmp_path) -> None:
    circuit = image_circuit()
    exported = export_circuit(circuit, tmp_path / "out", "epoch=3-step=7", ("library", "circuit"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(exported.sha256())
    assert Circuit.load(exported.files["circuit"]) == circuit
    check(circuit, CompiledCircuit(exported.files["library"], exported.name))
    assert CompiledCircuit(exported.files["library"], exported.name).class_names == circuit.class_names
    header = exported.files["header"]
    sizes = "EPOCH_3_STEP_7_NUM_PIXELS == 15 && EPOCH_3_STEP_7_WORD_BITS == 64"
    (tmp_path / "use.cpp").write_text(
        f'#include "{header}"\nint main() {{ int a[{sizes} ? 1 : -1]; return sizeof a == 0; }}\n'
    )
    if shutil.which("g++"):
        subprocess.run(["g++", *STRICT, "-fsyntax-only", tmp_path / "use.cpp"], check=True)
    pixels = np.zeros((3, 1, 3, 5), np.uint8)
    other = export_circuit(circuit, tmp_path / "rtl", "net", ("verilog", "blif", "aiger"), pipeline=2, samples=pixels)
    assert {path.name for path in other.files.values()} == {"net.v", "net_tb.v", "net.blif", "net.aig"}
    assert all(path.stat().st_size for path in other.files.values())
    with pytest.raises(CircuitError, match="unknown format pdf"):
        export_circuit(circuit, tmp_path, "net", ("pdf",))


def test_bad_options() -> None:
    with pytest.raises(CircuitError, match="prefix"):
        random_circuit().to_c(name="1x")
    with pytest.raises(CircuitError, match="word_bits"):
        random_circuit().to_c(word_bits=7)
    with pytest.raises(CircuitError, match="form"):
        random_circuit().to_c(form="poem")


def test_no_compiler_is_one_clear_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CompilerError, match="install gcc or clang"):
        find_compiler()
    with pytest.raises(CompilerError, match="no C compiler: tcc"):
        compile_source("", tmp_path / "x.so", compiler="tcc")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_compilation_leaves_nothing(tmp_path) -> None:
    with pytest.raises(CompilerError, match="error"):
        compile_source("int x = ;", tmp_path / "x.so")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_library(tmp_path) -> None:
    with pytest.raises(CompilerError, match="no library at"):
        CompiledCircuit(tmp_path / "none.so")
    (tmp_path / "x.so").write_text("x")
    with pytest.raises(CompilerError, match="not a compiled circuit"):
        CompiledCircuit(tmp_path / "x.so")
