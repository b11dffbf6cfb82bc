"""Looped circuits as C: loops over tables, compiled, give the scores of the net."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from lgn_lightning.circuit import CompiledCircuit, LoopedCircuit, export_circuit
from lgn_lightning.circuit.emit.compiler import compile_library, compile_source
from tests.circuit.random_conv_nets import conv_nets, hard_scores, tree_net
from tests.circuit.tools import COMPILERS, STRICT


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(example=conv_nets())
def test_compiled_c_agrees_with_the_net(tmp_path: Path, example: tuple[nn.Module, torch.Tensor]) -> None:
    net, images = example
    looped = LoopedCircuit.from_module(net)
    # As trained there are constants, copies and gates without readers in the kernels.
    for circuit in (looped, looped.optimize()):
        compile_source(circuit.to_c(), tmp_path / "net.so", compiler="gcc", opt_level=0, flags=STRICT)
        assert np.array_equal(CompiledCircuit(tmp_path / "net.so").scores(images), hard_scores(net, images))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("word_bits", "vector", "form"), [(8, 0, "table"), (64, 32, "code"), (16, 64, "table")])
def test_words_vectors_and_forms(tmp_path: Path, compiler: str, word_bits: int, vector: int, form: str) -> None:
    net = tree_net(edges=[0])
    looped = LoopedCircuit.from_module(net).optimize()
    images = torch.randint(256, (700, 1, 16, 16), dtype=torch.uint8)
    flags = [*STRICT, *([f"-DLGN_VECTOR_BYTES={vector}", "-Wno-psabi"] if vector else [])]
    source = looped.to_c(word_bits=word_bits, form=form)
    compile_source(source, tmp_path / "net.so", compiler=compiler, flags=flags)
    library = CompiledCircuit(tmp_path / "net.so")
    expected = looped.scores(images)
    assert np.array_equal(library.scores(images), expected)
    assert np.array_equal(library.predict(images), expected.argmax(axis=1))
    assert np.array_equal(expected, hard_scores(net, images))


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    looped = LoopedCircuit.from_module(tree_net(edges=[0])).optimize()
    images = torch.randint(256, (300, 1, 16, 16), dtype=torch.uint8)
    (tmp_path / "net.c").write_text(looped.to_c())
    flags = [*STRICT, "-DLGN_MAIN", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    compile_library(tmp_path / "net.c", tmp_path / "net", flags=flags, shared=False)
    run = subprocess.run(
        [tmp_path / "net", "--scores"], input=images.numpy().tobytes(), capture_output=True, check=True
    )
    rows = [line.split()[1:] for line in run.stdout.decode().splitlines()]
    assert np.array_equal(np.array(rows, np.int32), looped.scores(images))


def test_exported_files(tmp_path: Path) -> None:
    looped = LoopedCircuit.from_module(tree_net(), ("a", "b", "c", "d")).optimize()
    images = torch.randint(256, (100, 1, 16, 16), dtype=torch.uint8)
    exported = export_circuit(looped, tmp_path, "net", ("library",))
    library = CompiledCircuit(exported.files["library"], "net")
    assert library.class_names == looped.class_names
    assert np.array_equal(library.scores(images), looped.scores(images))
