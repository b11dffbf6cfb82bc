"""Engines, compiled circuits and compiled nets in copies, pickles and other processes.

Apart from the tests of each: what they promise is the same.
"""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lgn_lightning import CompiledLogicNet, GroupSum, LogicLayer
from lgn_lightning.circuit import CompiledCircuit, Engine, LoopedCircuit
from lgn_lightning.circuit.emit.compiler import CompilerError
from tests.circuit.random_circuits import random_circuit
from tests.circuit.random_conv_nets import tree_net

X = np.random.default_rng(0).random((130, 30)) < 0.5


def engine(name: str, threads: int) -> Engine:
    return Engine(random_circuit(3, inputs=30), name, threads=threads)


def net(kind: str) -> CompiledLogicNet:
    torch.manual_seed(0)
    made = CompiledLogicNet(torch.nn.Sequential(LogicLayer(30, 40), GroupSum(4)).eval(), engine=kind)
    made.compile()
    return made


def loaded(folder: Path) -> CompiledLogicNet:
    folder.mkdir(exist_ok=True)
    made = CompiledLogicNet(torch.nn.Sequential(LogicLayer(30, 40), GroupSum(4)).eval())
    made.compile(save_lib_path=folder / "net.so")
    return CompiledLogicNet.load(folder / "net.so", 4, 64)


MAKERS: dict[str, Any] = {
    "machine code": lambda folder: engine("auto", 1),
    "interpreter": lambda folder: engine("interpreter", 2),
    "numpy": lambda folder: engine("numpy", 1),
    "net": lambda folder: net("auto"),
    "net in C": lambda folder: net("c"),
    "loaded net": loaded,
    "library": lambda folder: CompiledCircuit(loaded_path(folder)),
}


def loaded_path(folder: Path) -> Path:
    loaded(folder)
    return folder / "net.so"


def run(classifier: Any, x: np.ndarray) -> np.ndarray:
    scores = classifier.scores(x) if isinstance(classifier, CompiledCircuit) else classifier(x)
    return np.asarray(scores)


@pytest.mark.parametrize("name", MAKERS)
def test_copies_and_pickles(name: str, tmp_path: Path) -> None:
    classifier = MAKERS[name](tmp_path)
    expected = run(classifier, X)
    for other in (copy.deepcopy(classifier), copy.copy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert np.array_equal(run(other, X), expected)
        assert repr(other) == repr(classifier) or isinstance(classifier, CompiledCircuit)
    del classifier
    assert np.array_equal(run(other, X), expected)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(method: str, tmp_path: Path) -> None:
    classifiers = [make(tmp_path / str(index)) for index, make in enumerate(MAKERS.values())]
    jobs = [(classifier, X) for classifier in classifiers]
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.starmap_async(run, jobs).get(timeout=120)
    for classifier, scores in zip(classifiers, results, strict=True):
        assert np.array_equal(scores, run(classifier, X))


def test_an_engine_that_a_forked_process_inherits() -> None:
    global INHERITED
    INHERITED = engine("auto", 2)
    expected = INHERITED(X)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply_async(run_inherited).get(timeout=60), expected)


def run_inherited() -> np.ndarray:
    return INHERITED(X)


def test_engines_of_loops() -> None:
    model = tree_net()
    made = Engine(LoopedCircuit.from_module(model))
    x = np.random.default_rng(0).integers(0, 256, (5, 1, 16, 16), dtype=np.uint8)
    assert np.array_equal(pickle.loads(pickle.dumps(made))(x), made(x))


def test_a_library_that_is_another_one_by_now(tmp_path: Path) -> None:
    pickled = pickle.dumps(CompiledCircuit(loaded_path(tmp_path)))
    (tmp_path / "net.so").unlink()
    loaded(tmp_path)  # random wires: another net
    with pytest.raises(CompilerError, match=r"net\.so"):
        pickle.loads(pickled)
