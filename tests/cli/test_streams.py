"""A recurrent net from the command line: fit, export, verify, predict, bench, report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lgn_lightning import load_net
from lgn_lightning.circuit import SequentialCircuit
from lgn_lightning.circuit.check.prove import prove
from lgn_lightning.cli.main import main
from lgn_lightning.deploy.rules import life_board_circuit
from lgn_lightning.deploy.source import read_source
from lgn_lightning.nn import life_circuit
from tests.circuit.tools import needs, needs_abc
from tests.killed_runs import kill_at_step, run_lgn


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "parity-stream", "--trainer.enable_progress_bar", "false"]) == 0
    return folder / "runs/parity-stream/version_0"


def test_parity_is_learned_for_streams_of_any_length(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert result["accuracy_hard"] == result["accuracy_c"] == 1.0
    assert json.loads((run / "circuits/best/manifest.json").read_text())["state"] <= 2


@needs_abc
def test_parity_is_proven_to_be_the_exclusive_or_of_all_bits(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(run), "--samples", "16", "--rule", "parity-stream"]) == 0
    assert "rule of parity-stream, at every step of every stream: formal proof" in capsys.readouterr().out
    circuit = read_source(run).circuit
    assert isinstance(circuit, SequentialCircuit)
    replace(circuit, initial=~circuit.initial).save(run.parent / "wrong.lgn")
    assert main(["verify", str(run.parent / "wrong.lgn"), "--samples", "16", "--rule", "parity-stream"]) == 1
    for recipe in ("monk1", "game-of-life", "digits"):
        assert main(["verify", str(run), "--rule", recipe]) == 1
    assert "which this circuit takes" in capsys.readouterr().err


@needs_abc
def test_a_board_is_proven_to_follow_the_game_of_life(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("data:\n  class_path: lgn_lightning.data.GameOfLife\n  init_args:\n    size: 4\n")
    circuit = life_board_circuit(4)
    circuit.save(tmp_path / "life.lgn")
    assert main(["verify", str(tmp_path / "life.lgn"), "--samples", "16", "--rule", str(recipe)]) == 0
    assert "small.yaml: formal proof" in capsys.readouterr().out
    gates = circuit.gates.copy()
    gates[-1] = 3  # the or of two cases: one is left out, of one cell
    replace(circuit, gates=gates).save(tmp_path / "wrong.lgn")
    assert main(["verify", str(tmp_path / "wrong.lgn"), "--samples", "16", "--rule", str(recipe)]) == 1


@needs_abc
@needs("gcc", "iverilog", "vvp", "yosys")
def test_verify_and_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", str(run), "--samples", "64"]) == 0
    assert "a step proven for all inputs and states, and so all sequences" in capsys.readouterr().out
    assert main(["export", str(run), "--format", "c,verilog,circuit"]) == 0
    for name in ("export/lgn_net.v", "export/lgn_net.c", "export/lgn_net.so", "export/lgn_net.lgn"):
        assert main(["verify", str(run), name, "--samples", "64"]) == 0
    assert main(["export", str(run), "--format", "verilog", "--top", "axi-stream", "--out", "stream"]) == 0
    assert main(["verify", str(run), "stream/lgn_net_axis.v", "--samples", "64"]) == 0
    assert "equal      lgn_net_axis.v: nothing lost, repeated or swapped" in capsys.readouterr().out
    Path("other.v").write_text("module other; endmodule\n")
    assert main(["verify", str(run), "other.v"]) == 1
    assert "other.v is no Verilog of a circuit with state" in capsys.readouterr().err
    # An exclusive or of all bits, by hand.
    circuit = SequentialCircuit.load("export/lgn_net.lgn")
    x = np.random.default_rng(0).integers(0, 2, (20, 3000, 1)).astype(bool)
    assert np.array_equal(circuit.compile().predict(x), x.sum((1, 2)) % 2)
    wrong = replace(circuit, initial=~circuit.initial)
    wrong.save("wrong.lgn")
    capsys.readouterr()
    assert main(["verify", str(run), "wrong.lgn"]) == 1
    assert "NOT EQUAL" in capsys.readouterr().out
    assert main(["export", str(run), "--format", "blif", "--out", "other"]) == 1
    assert "blif cannot hold state" in capsys.readouterr().err
    assert not Path("other").exists()


def test_predict_bench_and_report(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.array([[[1], [0], [1]], [[1], [0], [0]]], np.uint8))
    assert main(["predict", str(run), str(tmp_path / "x.npy")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["0,0,even", "1,1,odd"]
    np.save(tmp_path / "none.npy", np.zeros((0, 3, 1), np.uint8))
    assert main(["predict", str(run), str(tmp_path / "none.npy")]) == 0
    assert capsys.readouterr().out.splitlines() == ["input,class,name"]
    assert main(["bench", str(run), "--samples", "256", "--rounds", "1"]) == 0
    assert "steps from" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "State over time" in page
    assert 'aria-label="state over the steps of a sequence"' in page


@pytest.mark.soak
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["--trainer.max_steps=40", "--trainer.val_check_interval=10", "--trainer.enable_progress_bar=false"]
    every = ["--trainer.callbacks+=lgn_lightning.callbacks.ResumePoint", "--trainer.callbacks.every_n_steps=3"]
    every += ["--trainer.callbacks.max_overhead=1e9"]
    for name, prepare in (("whole", None), ("killed", kill_at_step(23))):
        arguments = ["fit", "parity-stream", "--run_name", name, *short, *every]
        assert run_lgn(arguments, *([] if prepare is None else [prepare])) == (0 if prepare is None else -9)
    assert run_lgn(["fit", "--resume", "runs/parity-stream/killed"]) == 0
    whole, killed = (
        torch.load(f"runs/parity-stream/{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "killed")
    )
    assert all(torch.equal(value, killed[name]) for name, value in whole.items())


@needs_abc
@pytest.mark.soak
def test_the_game_of_life_is_learned_and_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "game-of-life", "--trainer.enable_progress_bar", "false"]) == 0
    rule = load_net("runs/game-of-life/version_0")[1].rule_circuit()
    small, life = rule.optimize(), life_circuit()
    assert rule.verify(life).exhaustive, "all 512 neighbourhoods"
    assert rule.verify(life).equal
    assert prove(small, life)
    assert small.num_gates <= 60
    assert main(["verify", "runs/game-of-life", "--form", "loops", "--rule", "game-of-life"]) == 0
