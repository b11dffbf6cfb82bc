from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgn_lightning.circuit import Circuit, CircuitError, native
from lgn_lightning.circuit.run.engine import Engine, EngineError
from lgn_lightning.circuit.simulate import pack_bits
from tests.circuit.engines import AVAILABLE
from tests.circuit.random_circuits import circuits2, image_circuit, random_bits, random_circuit


@pytest.mark.parametrize(("name", "isa"), AVAILABLE)
@settings(deadline=None, max_examples=25)
@given(circuit=circuits2, count=st.sampled_from([0, 1, 63, 64, 100, 511, 512, 513, 1100]))
def test_engines_agree_with_simulation(name: str, isa: str | None, circuit: Circuit, count: int) -> None:
    engine = Engine(circuit, name, isa=isa)
    bits = random_bits(circuit, count)
    expected = circuit.scores(bits)
    classes = expected.argmax(axis=1)
    assert np.array_equal(engine(bits), expected)
    assert np.array_equal(engine.predict(bits), classes)
    words = pack_bits(bits)
    assert np.array_equal(engine.packed(words, count), expected)
    assert np.array_equal(engine.predict_packed(words, count), classes)
    assert np.array_equal(engine.outputs(words), circuit.simulate(words))


@pytest.mark.parametrize(("name", "isa"), AVAILABLE)
@pytest.mark.parametrize(("inputs", "gates", "group"), [(700, 6000, 300), (65, 9000, 40000), (70000, 3000, 10)])
def test_wide_circuits(name: str, isa: str | None, inputs: int, gates: int, group: int) -> None:
    # Many registers spilled; groups beyond 16-bit counts; slots beyond 16-bit numbers.
    circuit = random_circuit(7, inputs=inputs, gates=gates, classes=3, group=group)
    bits = random_bits(circuit, 600)
    scores, classes = Engine(circuit, name, isa=isa, threads=2).scores_and_classes(bits)
    assert np.array_equal(scores, circuit.scores(bits))
    assert np.array_equal(classes, scores.argmax(axis=1))


@pytest.mark.parametrize(("name", "isa"), AVAILABLE)
def test_pixels(name: str, isa: str | None) -> None:
    circuit = image_circuit()
    engine = Engine(circuit, name, isa=isa)
    pixels = np.random.default_rng(0).integers(0, 256, (1030, 1, 3, 5)).astype(np.uint8)
    assert np.array_equal(engine(pixels), circuit.scores(pixels))
    assert np.array_equal(engine(torch.from_numpy(pixels)), circuit.scores(pixels))
    for level in (0, 127, 128, 255):
        assert circuit.levels is not None
        other = replace(circuit, levels=np.array([level, 255 - level], np.uint8))
        assert np.array_equal(Engine(other, name, isa=isa)(pixels), other.scores(pixels))


@pytest.mark.parametrize(("name", "isa"), AVAILABLE)
@pytest.mark.parametrize(
    ("gates", "outputs"),
    [
        ([0, 15], [12, 13, 13, 0]),  # constants beside an input
        ([12, 6], [0, 12, 12, 0, 12, 0]),  # an input, its complement, and both at once: adders fold to constants
        ([12, 9], [13, 13, 12, 13, 13, 12]),
        ([0, 15], [13, 13, 12, 12]),
        ([0, 15], [0, 1]),  # no gate at all
    ],
)
def test_constant_circuits(name: str, isa: str | None, gates: list[int], outputs: list[int]) -> None:
    circuit = replace(
        random_circuit(gates=2),
        gates=np.array(gates, np.uint8),
        a=np.zeros(2, np.int32),
        b=np.ones(2, np.int32),
        outputs=np.array(outputs, np.int32),
        num_classes=2,
    )
    bits = random_bits(circuit, 70)
    assert np.array_equal(Engine(circuit, name, isa=isa)(bits), circuit.scores(bits))
    assert np.array_equal(Engine(circuit, name, isa=isa, optimized=True)(bits), circuit.scores(bits))


def test_awkward_arrays_and_many_threads() -> None:
    circuit = random_circuit(gates=400)
    engine = circuit.compile(threads=7)
    bits = np.asfortranarray(random_bits(circuit, 5000))
    assert np.array_equal(engine(bits), circuit.scores(bits))
    for part in (bits[::3], bits[::-1], bits[:, ::-1], bits[:3], bits[:0]):
        assert np.array_equal(engine(part), circuit.scores(np.ascontiguousarray(part)))
    results: list[bool] = []
    expected = circuit.scores(bits)

    def call() -> None:
        results.append(np.array_equal(engine(bits), expected))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 6


def test_wrong_input_is_one_clear_error() -> None:
    circuit = random_circuit()
    engine = circuit.compile()
    for wrong in (np.zeros((2, 11), bool), np.zeros((2, 12), np.uint8), np.zeros((2, 12)), np.zeros(12, bool)):
        with pytest.raises(CircuitError, match=r"bool \[N, 12\]"):
            engine(wrong)
    with pytest.raises(CircuitError, match=r"uint64 \[12, w\]"):
        engine.packed(np.zeros((12, 2), np.int64))
    with pytest.raises(CircuitError, match="up to 128 samples, not 129"):
        engine.packed(np.zeros((12, 2), np.uint64), 129)
    with pytest.raises(CircuitError, match="engine must be one of"):
        circuit.compile("turbo")
    with pytest.raises(CircuitError, match="threads"):
        circuit.compile(threads=0)
    with pytest.raises(CircuitError, match="two-input"):
        random_circuit(arity=3).compile()


def test_without_compiler_auto_is_numpy_and_a_name_is_an_error(monkeypatch) -> None:
    def refuse() -> None:
        raise native.BuildError("no C++ compiler found")

    monkeypatch.setattr(native, "library", refuse)
    circuit = random_circuit()
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler"):
        engine = circuit.compile()
    assert engine.name == "numpy"
    bits = random_bits(circuit, 10)
    assert np.array_equal(engine(bits), circuit.scores(bits))
    with pytest.raises(EngineError, match="'interpreter' is not available: no C\\+\\+ compiler"):
        circuit.compile("interpreter")


REFUSED = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
from lgn_lightning.circuit import native
native.library()
# PR_SET_MDWE: from here on no memory that was writable can become executable.
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit(77)
import numpy as np
from lgn_lightning.circuit.run.engine import EngineError
from tests.circuit.random_circuits import random_bits, random_circuit
circuit = random_circuit()
bits = random_bits(circuit, 100)
engine = circuit.compile()
assert engine.name == "interpreter", engine.name
assert np.array_equal(engine(bits), circuit.scores(bits))
try:
    circuit.compile("machine-code")
except EngineError as error:
    assert "refuses executable memory" in str(error), error
else:
    raise AssertionError("no error")
"""


@pytest.mark.skipif(("machine-code", "avx2") not in AVAILABLE, reason="needs AVX2")
def test_the_interpreter_takes_over_where_executable_memory_is_refused(request) -> None:
    run = subprocess.run(
        [sys.executable, "-c", REFUSED, str(request.config.rootpath)], capture_output=True, text=True, check=False
    )
    if run.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(("machine-code", "avx2") not in AVAILABLE, reason="needs AVX2")
def test_code_is_never_writable_and_executable() -> None:
    def writable_code() -> set[str]:
        with open("/proc/self/maps") as maps:  # noqa: PTH123
            return {line for line in maps if "rwx" in line.split()[1]}

    before = writable_code()  # what other libraries of this process may have made
    engines = [Engine(random_circuit(), name, isa=isa) for name, isa in AVAILABLE if name == "machine-code"]
    assert not writable_code() - before
    assert all(engine.info["bytes"] > 0 for engine in engines)


def test_missing_instruction_set_is_refused() -> None:
    circuit = random_circuit()
    with pytest.raises(EngineError, match="machine code needs AVX2"):
        Engine(circuit, "machine-code", isa="generic")
    message = ctypes.create_string_buffer(64)
    net = native.describe(circuit)
    assert not native.library().lgn_engine_new(ctypes.byref(net), 0, 99, message, len(message))
    assert b"instruction set" in message.value
