"""Comparisons with one circuit, without the command line."""

from dataclasses import replace

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, LoopedCircuit, native
from lgn_lightning.deploy.verifier import Verifier
from tests.circuit.random_circuits import changed, image_circuit
from tests.circuit.random_conv_nets import tree_net


@pytest.mark.parametrize("loops", [False, True])
def test_a_circuit_is_compared_with_its_net(loops: bool, capsys: pytest.CaptureFixture[str]) -> None:
    net = tree_net(8)
    looped = LoopedCircuit.from_module(net)
    circuit: Circuit | LoopedCircuit = looped if loops else looped.unroll()
    other: Circuit | LoopedCircuit = replace(looped, tail=changed(looped.tail)) if loops else changed(looped.unroll())
    for tried, word in ((circuit, "equal"), (other, "NOT EQUAL")):
        verifier = Verifier(tried, 200, None)
        verifier.verify_all(net)
        assert verifier.equal == (word == "equal")
        assert f"{word:<10} hard net in torch" in capsys.readouterr().out
        assert (verifier.counterexample is None) == verifier.equal


def test_the_first_counterexample_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    circuit = image_circuit()
    other = changed(circuit)
    verifier = Verifier(circuit, 100, None)
    verifier.verify_circuit("other", circuit, other)
    assert not verifier.equal
    first = verifier.counterexample
    assert first is not None
    assert not np.array_equal(circuit.scores(first[None]), other.scores(first[None]))
    verifier.verify_circuit("same", circuit, circuit)
    assert not verifier.equal
    assert verifier.counterexample is first
    assert capsys.readouterr().out.splitlines()[1].startswith("equal      same")


def test_without_a_compiler_the_rest_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise native.BuildError("no C++ compiler found")

    monkeypatch.setattr(native, "library", refuse)
    monkeypatch.setenv("CC", "no-such-compiler")
    verifier = Verifier(image_circuit(), 100, None)
    verifier.verify_all()
    assert verifier.equal
    assert verifier.skipped
    out = capsys.readouterr().out
    for what in ("passes", "engines", "compiled C"):
        assert f"skipped    {what}" in out
