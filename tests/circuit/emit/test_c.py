from __future__ import annotations

import subprocess

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, CircuitError, CompiledCircuit
from lgn_lightning.circuit.emit.compiler import compile_library, compile_source
from tests.circuit.random_circuits import image_circuit, random_bits, random_circuit
from tests.circuit.tools import COMPILERS, STRICT, check_library

#: Every two of words, form and compiler meet in the quick ones, all three in the soak.
WORDS = [(8, 0), (16, 0), (32, 0), (64, 0), (64, 32), (16, 64)]
WAYS = [
    pytest.param(
        word_bits, vector, form, *compiler.values, marks=[*compiler.marks, *([pytest.mark.soak] if odd else [])]
    )
    for word, (word_bits, vector) in enumerate(WORDS)
    for column, compiler in enumerate(COMPILERS)
    for row, form in enumerate(["code", "table"])
    for odd in [(word + column + row) % 2]
]


@pytest.mark.parametrize(("word_bits", "vector", "form", "compiler"), WAYS)
def test_compiled_c_agrees(tmp_path, word_bits: int, vector: int, form: str, compiler: str) -> None:
    flags = [*STRICT, *([f"-DLGN_VECTOR_BYTES={vector}", "-Wno-psabi"] if vector else [])]
    for number, circuit in enumerate([image_circuit(), random_circuit(5, group=70, arity=3), random_circuit(gates=0)]):
        code = circuit.to_c(word_bits=word_bits, gates_per_function=40, form=form)
        path = tmp_path / f"{number}.so"
        compile_source(code, path, compiler=compiler, flags=flags)
        check_library(circuit, CompiledCircuit(path))


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


def test_large_circuits_are_tables_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = random_circuit()
    assert circuit.to_c() == circuit.to_c(form="code")
    monkeypatch.setattr("lgn_lightning.circuit.emit.c.TABLE_ABOVE", circuit.num_gates - 1)
    assert circuit.to_c() == circuit.to_c(form="table")


def test_bad_options() -> None:
    with pytest.raises(CircuitError, match="prefix"):
        random_circuit().to_c(name="1x")
    with pytest.raises(CircuitError, match="word_bits"):
        random_circuit().to_c(word_bits=7)
    with pytest.raises(CircuitError, match="form"):
        random_circuit().to_c(form="poem")
