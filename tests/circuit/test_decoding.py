"""What a circuit says: the same in numpy, file, engine, C and simulated Verilog, whatever the decoding."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lgn_lightning.circuit import Circuit, CircuitError, CompiledCircuit, Decoding, Engine, LoopedCircuit, load_circuit
from lgn_lightning.circuit.emit.compiler import compile_source
from lgn_lightning.circuit.emit.verilog import emit_test_bench, emit_verilog
from lgn_lightning.circuit.hardware.result_port import fixed_point
from lgn_lightning.circuit.run.engine import ENGINES
from tests.circuit.random_circuits import random_bits, random_circuit
from tests.circuit.tools import STRICT, needs

KINDS = ("argmax", "levels", "labels", "numbers")
GROUP = 9


@st.composite
def decodings(draw: st.DrawFn, kind: str, groups: int) -> Decoding:
    """Any decoding, with thresholds that are never and always reached among them."""
    limits = st.integers(-2, GROUP + 3)
    reals = st.floats(-1e6, 1e6, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-3)
    if kind == "argmax":
        return Decoding()
    if kind == "levels":
        thresholds = sorted(draw(st.lists(limits, min_size=1, max_size=5)))
        offset = draw(st.lists(reals, min_size=len(thresholds), max_size=len(thresholds)))
        return Decoding("levels", tuple(thresholds), (draw(reals),), tuple(offset))
    several = {"min_size": groups, "max_size": groups}
    scale, offset = draw(st.lists(reals, **several)), draw(st.lists(reals, **several))
    thresholds = draw(st.lists(limits, **several)) if kind == "labels" else ()
    return Decoding(kind, tuple(thresholds), tuple(scale), tuple(offset))


def circuit_of(seed: int, kind: str, data: st.DataObject) -> Circuit:
    groups = 1 if kind == "levels" else data.draw(st.integers(1, 4))
    circuit = random_circuit(seed, inputs=10, gates=60, classes=groups, group=GROUP)
    return circuit.with_decoding(data.draw(decodings(kind, groups)))


def decided(circuit: Circuit, scores: NDArray[np.int32]) -> list[Any]:
    """What scores say, sample by sample."""
    decoding = circuit.decoding
    if decoding.kind == "argmax":
        return [max(range(len(row)), key=lambda c: (row[c], -c)) for row in scores.tolist()]
    if decoding.kind == "levels":
        return [sum(row[0] >= t for t in decoding.thresholds) for row in scores.tolist()]
    if decoding.kind == "labels":
        return [[n >= t for n, t in zip(row, decoding.thresholds, strict=True)] for row in scores.tolist()]
    pairs = list(zip(decoding.scale, decoding.offset, strict=True))
    return [[o + s * n for n, (s, o) in zip(row, pairs, strict=True)] for row in scores.tolist()]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**31), data=st.data())
@settings(max_examples=15, deadline=None)
def test_engines_and_files_say_the_same(tmp_path_factory: Any, kind: str, seed: int, data: st.DataObject) -> None:
    circuit = circuit_of(seed, kind, data)
    bits = random_bits(circuit, 70)
    wanted = decided(circuit, circuit.scores(bits))
    assert circuit.predict(bits).tolist() == wanted
    for engine in ENGINES:
        runner = Engine(circuit, engine)
        assert runner.predict(bits).tolist() == wanted
        scores, decisions = runner.scores_and_classes(bits)
        assert decisions.tolist() == wanted
        assert np.array_equal(scores, circuit.scores(bits))
    path = tmp_path_factory.mktemp("file") / "net.lgn"
    circuit.save(path)
    assert load_circuit(path) == circuit
    small = circuit.optimize(3)
    assert small.decoding == circuit.decoding
    assert small.predict(bits).tolist() == wanted


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**31), data=st.data())
@settings(max_examples=5, deadline=None)
def test_compiled_c_says_the_same(tmp_path_factory: Any, kind: str, seed: int, data: st.DataObject) -> None:
    circuit = circuit_of(seed, kind, data)
    bits = random_bits(circuit, 70)
    library = tmp_path_factory.mktemp("c") / "net.so"
    compile_source(circuit.to_c(), library, compiler=f"gcc {' '.join(STRICT)} -std=c99")
    compiled = CompiledCircuit(library)
    assert compiled.predict(bits).tolist() == decided(circuit, circuit.scores(bits))
    assert np.array_equal(compiled.scores(bits), circuit.scores(bits))
    assert compiled.decoding == kind
    assert len(compiled.class_names) == circuit.decoding.num_names(circuit.num_classes)


@needs("iverilog", "vvp")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pipeline", [0, 2])
@given(seed=st.integers(0, 2**31), data=st.data())
@settings(max_examples=3, deadline=None)
def test_simulated_verilog_says_the_same(
    tmp_path_factory: Any, kind: str, pipeline: int, seed: int, data: st.DataObject
) -> None:
    circuit = circuit_of(seed, kind, data)
    folder = tmp_path_factory.mktemp("verilog")
    verilog = emit_verilog(circuit, name="net", pipeline=pipeline)
    bits = random_bits(circuit, 20)
    (folder / "net.v").write_text(verilog.text)
    (folder / "net_tb.v").write_text(emit_test_bench(circuit, verilog, bits, name="net"))
    subprocess.run(["iverilog", "-g2001", "-Wall", "-o", "net.vvp", "net.v", "net_tb.v"], cwd=folder, check=True)
    run = subprocess.run(["vvp", "net.vvp"], cwd=folder, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "PASS 20 vectors"
    if kind == "numbers":  # what the bench expects is near enough to the numbers themselves
        fixed, numbers = fixed_point(circuit), circuit.predict(bits)
        rounded = (
            np.array(fixed.offset, object) + np.array(fixed.scale, object) * circuit.scores(bits)
        ) / 2**fixed.fraction
        steps = [abs(s) for s in circuit.decoding.scale if s] or [1.0]
        assert np.abs(rounded.astype(float) - numbers).max() <= min(steps) / 64 + 1e-9 * np.abs(numbers).max()


@needs("verilator")
@pytest.mark.parametrize("kind", KINDS[1:])
def test_verilator_finds_nothing(tmp_path: Path, kind: str) -> None:
    groups = 1 if kind == "levels" else 3
    thresholds, scale = {"levels": ((0, 2, 40), (1.0,)), "labels": ((0, 3, 99), (1.0,) * 3)}.get(
        kind, ((), (-0.5,) * 3)
    )
    decoding = Decoding(kind, thresholds, scale, (7.25,) * 3)
    circuit = random_circuit(3, classes=groups, group=GROUP).with_decoding(decoding)
    (tmp_path / "net.v").write_text(emit_verilog(circuit.remove_dead_gates(), name="net").text)
    command = ["verilator", "--lint-only", "-Wall", "-Wno-DECLFILENAME", "--top-module", "net", "net.v"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_the_c_program_prints_decisions(tmp_path: Path, kind: str) -> None:
    groups = 1 if kind == "levels" else 2
    decoding = {
        "argmax": Decoding(),
        "levels": Decoding("levels", (3, 5), (1.0,), (0.0, 0.0)),
        "labels": Decoding("labels", (3, 5), (1.0, 1.0), (0.0, 0.0)),
        "numbers": Decoding("numbers", (), (0.1, -3.0), (1 / 3, 1e9)),
    }[kind]
    names = ("low", "mid", "high") if kind == "levels" else ("a", "b")
    circuit = random_circuit(5, classes=groups, group=GROUP).with_decoding(decoding).with_class_names(names)
    (tmp_path / "net.c").write_text(circuit.to_c())
    subprocess.run(["gcc", *STRICT, "-std=c99", "-DLGN_MAIN", "-o", "net", "net.c"], cwd=tmp_path, check=True)
    bits = random_bits(circuit, 50)
    run = subprocess.run([tmp_path / "net"], input=bits.astype(np.uint8).tobytes(), capture_output=True, check=True)
    lines = run.stdout.decode().splitlines()
    wanted = circuit.predict(bits)
    if decoding.is_class:
        assert lines == [names[index] for index in wanted.tolist()]
    else:
        assert [[float(word) for word in line.split()] for line in lines] == wanted.astype(float).tolist()


def test_looped_circuits_keep_it(tmp_path: Path) -> None:
    decoding = Decoding("labels", (1, 2, 3, 4), (1.0,) * 4, (0.0,) * 4)
    flat = random_circuit().with_decoding(decoding).with_class_names(("a", "b", "c", "d"))
    looped = LoopedCircuit(flat.num_inputs, (), flat)
    assert looped.decoding == decoding
    assert looped.unroll().decoding == decoding
    assert looped.unroll().class_names == ("a", "b", "c", "d")
    looped.save(tmp_path / "net.lgn")
    assert load_circuit(tmp_path / "net.lgn") == looped
    assert np.array_equal(looped.compile("numpy").predict(random_bits(flat, 9)), flat.predict(random_bits(flat, 9)))


def test_probabilities() -> None:
    counts = np.array([[0], [4], [9]])
    p = Decoding("levels", (5,), (0.5,), (-2.0,)).probabilities(counts, 1.0)
    assert p is not None
    assert p[:, 1] == pytest.approx(1 / (1 + np.exp(-(0.5 * counts[:, 0] - 2))))
    assert p.sum(1) == pytest.approx(1)
    p = Decoding("levels", (3, 6), (1.0,), (-3.0, -6.0)).probabilities(counts, 1.0)
    assert p is not None
    assert p.shape == (3, 3)
    assert p.sum(1) == pytest.approx(1)
    assert (p >= 0).all()
    p = Decoding().probabilities(np.array([[2000, 0], [1, 2]]), 0.5)
    assert p is not None
    assert p == pytest.approx(np.array([[1, 0], [1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))]]))
    assert Decoding("numbers", (), (1.0,), (0.0,)).probabilities(counts, 1.0) is None


WRONG: list[dict[str, Any]] = [
    {"kind": "highest"},
    {"kind": "argmax", "thresholds": (1,)},
    {"kind": "levels"},
    {"kind": "levels", "thresholds": (3, 2), "scale": (1.0,), "offset": (0.0, 0.0)},
    {"kind": "labels", "thresholds": (3,), "scale": (1.0, 1.0), "offset": (0.0, 0.0)},
    {"kind": "numbers", "scale": (float("nan"),), "offset": (0.0,)},
    {"kind": "labels", "thresholds": (2**40,), "scale": (1.0,), "offset": (0.0,)},
]


@pytest.mark.parametrize("arguments", WRONG)
def test_decodings_that_are_none_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Decoding(**arguments)


def test_circuits_refuse_a_decoding_that_does_not_fit() -> None:
    circuit = random_circuit(classes=2)
    with pytest.raises(CircuitError, match="2 groups of outputs are not the 3"):
        circuit.with_decoding(Decoding("numbers", (), (1.0,) * 3, (0.0,) * 3))
    with pytest.raises(CircuitError, match="whole numbers"):
        circuit.with_decoding(Decoding("labels", (1.5, 2), (1.0,) * 2, (0.0,) * 2))
    with pytest.raises(CircuitError, match="3 class names for 2"):
        replace(circuit, class_names=("a", "b", "c"))
