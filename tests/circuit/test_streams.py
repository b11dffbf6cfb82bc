"""A recurrent net, the engine, the C and the Verilog agree at every step, for 1,000 of them."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lgn_lightning.base.columns import Column, Comparisons, Op
from lgn_lightning.circuit import CircuitError, SequentialCircuit
from lgn_lightning.circuit.check.prove_verilog import prove_verilog
from lgn_lightning.circuit.check.simulate_stream import simulate_verilog_stream
from lgn_lightning.circuit.emit import c_stream, verilog_stream
from lgn_lightning.circuit.emit.compiled_stream import CompiledStream, open_library
from lgn_lightning.circuit.emit.compiler import CompilerError, compile_source
from lgn_lightning.circuit.emit.verilog_stream import emit_verilog_stream
from lgn_lightning.circuit.run import sequences, stream
from lgn_lightning.circuit.run.sequences import running_sums
from lgn_lightning.data import Sequences
from lgn_lightning.models import LogicRNN
from tests.circuit.random_streams import random_sequences, random_stream
from tests.circuit.tools import COMPILERS, STRICT, needs, needs_abc


def random_net(seed: int = 0, **options: Any) -> LogicRNN:
    torch.manual_seed(seed)
    net = LogicRNN(3, **{"in_bits": 5, "state": 12, "width": 24, "out": 9, "tau": 2.0, **options})
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    return net.eval()


nets = st.builds(
    random_net,
    seed=st.integers(0, 2**31),
    state=st.integers(2, 12),
    width=st.sampled_from([20, [24, 22]]),
    memory=st.sampled_from(["gates", "multiplexer"]),
    layers=st.integers(1, 2),
    initial=st.sampled_from(["zeros", "learned"]),
    readout=st.sampled_from(["last", "sum"]),
)


def steps_of_net(net: LogicRNN, x: np.ndarray) -> np.ndarray:
    """Scores after each step by the hard net."""
    lengths = range(1, x.shape[1] + 1)
    return np.stack([(net(torch.from_numpy(x[:, :t])) * 2).round().int().numpy() for t in lengths], axis=1)


@needs("gcc", "iverilog", "vvp")
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(net=nets)
def test_net_engine_c_and_verilog_agree_for_1000_steps(net: LogicRNN, tmp_path_factory: pytest.TempPathFactory) -> None:
    circuit = SequentialCircuit.from_module(net)
    small = circuit.optimize()
    x = np.random.default_rng(0).integers(0, 2, (2, 1000, 5)).astype(bool)
    each = circuit.every_step(x)
    wanted = each.cumsum(1) if circuit.readout == "sum" else each
    assert np.array_equal(steps_of_net(net, x[:, :12]), wanted[:, :12])
    assert np.array_equal((net(torch.from_numpy(x)) * 2).round().int().numpy(), wanted[:, -1])
    assert np.array_equal(small.compile().every_step(x), each)
    folder = tmp_path_factory.mktemp("stream")
    compile_source(small.to_c(word_bits=8), folder / "net.so")
    assert np.array_equal(CompiledStream(folder / "net.so").every_step(x), wanted)
    assert simulate_verilog_stream(circuit, emit_verilog_stream(small, name="net"), x[:1])


@needs("gcc", "iverilog", "vvp")
def test_sums_of_endless_streams_stand_still_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (c_stream, sequences, stream, verilog_stream):
        monkeypatch.setattr(module, "FULL_BIT", 6)  # 30 would take millions of steps
    circuit = SequentialCircuit.from_module(random_net(readout="sum"))
    x = np.random.default_rng(0).integers(0, 2, (2, 100, 5)).astype(bool)
    wanted = running_sums(circuit.every_step(x))
    assert 64 <= wanted[:, -1].max() < 64 + 9
    assert np.array_equal(wanted[:, -1], wanted[:, -2])
    streams = circuit.stream(2)
    for t in range(100):
        assert np.array_equal(streams.step(x[:, t]), wanted[:, t])
        assert np.array_equal(streams.decide(), wanted[:, t].argmax(1))
    compile_source(circuit.to_c(), tmp_path / "net.so")
    assert np.array_equal(CompiledStream(tmp_path / "net.so").every_step(x), wanted)
    assert simulate_verilog_stream(circuit, emit_verilog_stream(circuit, name="net"), x)


def columns_of_net(net: LogicRNN) -> None:
    columns = (Column("a b", "float32"), Column("input", "float32"))
    ops = np.array([Op.GREATER, Op.GREATER, Op.MISSING, Op.GREATER, Op.GREATER, Op.GREATER, Op.MISSING])
    constants = np.array([0.5, -0.5, 0, 0.0, 0.25, -1, 0]).view(np.int64)
    net[0].encoder.fit(Comparisons(columns, np.array([0, 0, 0, 1, 1, 1, 1]), ops, constants))


def test_a_delay_line_is_made_of_wires() -> None:
    net = random_net(state=15, memory="delay", width=[18], out=9)
    circuit = SequentialCircuit.from_module(net)
    assert circuit.num_gates == 27
    x = np.random.default_rng(0).integers(0, 2, (20, 9, 5)).astype(bool)
    assert np.array_equal(circuit.scores(x), (net(torch.from_numpy(x)) * 2).round().int().numpy())
    assert np.array_equal(circuit.optimize().compile().every_step(x), circuit.every_step(x))


@needs("gcc", "iverilog", "vvp", "yosys")
@needs_abc
@pytest.mark.parametrize("readout", ["last", "sum"])
@pytest.mark.parametrize("kind", ["rows", "pixels", "images"])
def test_encoders_are_part_of_it(kind: str, readout: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    if kind == "rows":
        net = random_net(num_bits=7, in_bits=None, readout=readout)
        columns_of_net(net)
        x = generator.normal(size=(20, 6, 2)).astype(np.float32)
        x[0, 0, 0] = np.nan
        x = x.view(np.uint8)
        x[np.arange(6) >= generator.integers(1, 7, 20)[:, None]] = 255
    else:
        scan = "rows" if kind == "images" else "pixels"
        options: dict[str, Any] = {"in_shape": (2, 6, 4), "scan": scan, "thresholds": (0.3, 0.6)}
        net = random_net(in_bits=None, readout=readout, **options)
        x = generator.integers(0, 256, (20, 2, 6, 4)).astype(np.uint8)
    wanted = (net(torch.from_numpy(x)) * 2).round().int().numpy()
    circuit = SequentialCircuit.from_module(net, ["a", "b", "c"])
    small = circuit.optimize()
    assert np.array_equal(circuit.scores(x), wanted)
    assert np.array_equal(small.compile()(x), wanted)
    compile_source(small.to_c(), tmp_path / "net.so")
    library = open_library(tmp_path / "net.so")
    assert isinstance(library, CompiledStream)
    assert np.array_equal(library.scores(x), wanted)
    assert np.array_equal(library.predict(x), wanted.argmax(1))
    assert library.class_names == ("a", "b", "c")
    each = circuit.every_step(x)
    assert np.array_equal(library.every_step(x), each.cumsum(1) if readout == "sum" else each)
    assert np.array_equal(library.every_step(x)[:, -1], wanted)
    verilog = emit_verilog_stream(small, name="net")
    assert simulate_verilog_stream(circuit, verilog, x[:5])
    (tmp_path / "net.v").write_text(verilog.text)
    assert prove_verilog(small.step, tmp_path / "net.v")


@pytest.mark.parametrize("readout", ["last", "sum"])
def test_numbers_end_with_their_last_one_as_in_training(readout: str, tmp_path: Path) -> None:
    net = random_net(num_bits=7, in_bits=None, readout=readout)
    columns_of_net(net)
    generator = np.random.default_rng(0)
    lengths = generator.integers(2, 7, 80)
    x = generator.normal(size=(80, 6, 2)).astype(np.float32)
    x[:, 0] = np.nan  # a step whose values are missing
    x[np.arange(6) >= lengths[:, None]] = np.nan
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.arange(80) % 3, x_test=x, y_test=np.arange(80) % 3)
    stored = Sequences(str(tmp_path / "x.npz")).test_samples()[0]
    wanted = (net(stored) * 2).round().int().numpy()
    assert np.array_equal((net(torch.from_numpy(x)) * 2).round().int().numpy(), wanted)
    circuit = SequentialCircuit.from_module(net)
    compile_source(circuit.to_c(), tmp_path / "net.so")
    library, engine = CompiledStream(tmp_path / "net.so"), circuit.compile()
    by_name = np.zeros(x.shape[:2], [("input", "f8"), ("more", "i4"), ("a b", "f4")])
    by_name["a b"], by_name["input"] = x[..., 0], x[..., 1]
    for scores in (circuit.scores, engine, library.scores):
        for numbers in (x, x.astype(np.float64), by_name, stored.numpy()):
            assert np.array_equal(scores(numbers), wanted)
        assert np.array_equal(scores(x, lengths), wanted)
        assert not np.array_equal(scores(x, np.full(80, 6)), wanted)  # what lengths say counts
    for every in (engine.every_step, library.every_step):
        assert np.array_equal(every(x), every(x, lengths))
    x[3] = np.nan
    with pytest.raises(CircuitError, match=r"sequence 3 has no step: .* NaN in all columns at the end is padding"):
        circuit.scores(x)
    with pytest.raises(ValueError, match="sequence 3 of the batch has no step"):
        net(torch.from_numpy(x))


def test_whole_numbers_are_no_padding_in_compiled_c(tmp_path: Path) -> None:
    net = random_net(num_bits=7, in_bits=None)
    columns_of_net(net)
    circuit = SequentialCircuit.from_module(net)
    compile_source(circuit.to_c(), tmp_path / "net.so")
    x = np.array([[[3, 2], [-1, -1], [-1, -1]], [[0, 1], [-1, -1], [2, 2]]])
    found = CompiledStream(tmp_path / "net.so").scores(x)
    assert np.array_equal(found, circuit.scores(x.astype(np.float32)))


@pytest.mark.parametrize("compiler", COMPILERS)
def test_c_compiles_without_warnings_and_main_takes_steps(compiler: str, tmp_path: Path) -> None:
    circuit = random_stream(readout="sum")
    (tmp_path / "net.c").write_text(circuit.to_c(word_bits=8))
    command = [compiler, "-std=c99", *STRICT, "-Wconversion", "-DLGN_MAIN", "-o", "main", "net.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    x = random_sequences(circuit, 1, 5)
    run = subprocess.run([tmp_path / "main"], input=x.astype(np.uint8).tobytes(), capture_output=True, check=True)
    lines = [list(map(int, line.split())) for line in run.stdout.decode().splitlines()]
    sums = circuit.every_step(x)[0].cumsum(0)
    assert lines == [[int(row.argmax()), *row.tolist()] for row in sums]
    short = subprocess.run([tmp_path / "main"], input=b"\x00", capture_output=True, check=False)
    assert short.returncode == 1
    assert b"ends within a step" in short.stderr


def test_packed_steps_of_c_are_those_of_64_streams(tmp_path: Path) -> None:
    circuit = random_stream()
    compile_source(circuit.to_c(), tmp_path / "net.so")
    library = CompiledStream(tmp_path / "net.so")
    from lgn_lightning.circuit.run.sequences import initial_words

    generator = np.random.default_rng(0)
    stream = ctypes.create_string_buffer(library.stream_bytes)
    library._library["lgn_net_reset"](stream)
    state = initial_words(circuit, 64)
    for _ in range(5):
        words = generator.integers(0, 2**63, (circuit.num_inputs, 1)).astype(np.uint64)
        outputs, state = circuit.compile().step(words, state)
        found = np.zeros(library.num_outputs, np.uint64)
        library._library["lgn_net_step_packed"](
            stream, ctypes.c_void_p(words.ctypes.data), ctypes.c_void_p(found.ctypes.data)
        )
        assert np.array_equal(found, outputs[:, 0])


def test_a_library_without_state_is_no_stream(tmp_path: Path) -> None:
    from tests.circuit.random_circuits import random_circuit

    compile_source(random_circuit().to_c(), tmp_path / "net.so")
    with pytest.raises(CompilerError, match="without state"):
        CompiledStream(tmp_path / "net.so")
