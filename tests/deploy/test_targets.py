"""Of every target: the trained net, its checkpoint, circuit, engine, files and compiled C say the same."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from numpy.typing import NDArray

from lgn_lightning import LogicModule
from lgn_lightning.base.errors import CheckpointError, ExportError
from lgn_lightning.callbacks import ExportCircuit
from lgn_lightning.circuit import ARGMAX, load_circuit
from lgn_lightning.cli.main import main
from lgn_lightning.deploy.folder import ExportedCircuit
from lgn_lightning.deploy.source import circuit_of_checkpoint, read_source
from lgn_lightning.deploy.trial import Trial
from lgn_lightning.models import LogicMLP
from lgn_lightning.runs.checkpoints import read_checkpoint
from tests.training import toy
from tests.training.table_toy import TARGETS, fitted, rows

KINDS = list(TARGETS)
needs_gcc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def decided(module: LogicModule, x: torch.Tensor) -> NDArray[Any]:
    with torch.no_grad():
        decisions = module.eval().predict_step(x, 0).numpy()
    return decisions


@pytest.mark.parametrize("kind", KINDS)
def test_the_circuit_of_a_checkpoint_says_what_the_net_says(tmp_path: Path, kind: str) -> None:
    module, run = fitted(tmp_path, kind, epochs=3)
    run.save_checkpoint(tmp_path / "net.ckpt")
    circuit = circuit_of_checkpoint(module.net.eval(), read_checkpoint(tmp_path / "net.ckpt"))
    x = rows(300, 5)
    wanted = decided(module, x)
    said = circuit.predict(x.numpy())
    assert np.array_equal(said.reshape(wanted.shape), wanted)
    assert np.array_equal(circuit.compile().predict(x.numpy()), said)
    trial = Trial.of_net(circuit, module.net, x.numpy())
    assert trial.compare(circuit.scores(x.numpy()), "circuit", said) == "circuit"
    if kind != "classes":
        with pytest.raises(ExportError, match="and says"):
            trial.compare(circuit.scores(x.numpy()), "circuit", ~said if said.dtype == bool else said + 1)


@needs_gcc
@pytest.mark.parametrize("target", ["yes_no", "number", "ordinal"])
def test_a_run_exports_and_predicts_by_its_target(
    tmp_path: Path, target: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    x, y = toy.toy(200)
    y = x.float().mean((1, 2, 3)) if target == "number" else y
    data: Any = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 50)
    net = LogicMLP((1, 4, 4), 1, width=64, depth=2, parametrization="sigmoid", sampler="straight_through")
    module = LogicModule(net, 1 if target == "number" else 2, target=target)
    saver = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/score_hard", mode="max", filename="best")
    export = ExportCircuit(["c", "circuit", "verilog"])
    run = toy.trainer(tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[saver, export])
    run.fit(module, data, data)
    best = Path(saver.best_model_path)
    exported = ExportedCircuit.of_checkpoint(best)
    assert exported is not None
    assert "compiled C" in exported.manifest["check"]["compared"]
    kind = exported.manifest["decoding"]["kind"]
    assert kind == ("numbers" if target == "number" else "levels")
    module = LogicModule.load_from_checkpoint(best)
    wanted = decided(module, x)
    assert np.array_equal(exported.compiled().predict(x.numpy()).reshape(-1), wanted)
    circuit = load_circuit(next(exported.folder.glob("*.lgn")))
    assert np.array_equal(circuit.predict(x.numpy()).reshape(-1), wanted)
    assert read_source(best).circuit.decoding == circuit.decoding
    np.save("x.npy", x.numpy())
    assert main(["predict", str(best), "x.npy", "--out", "p.csv", "--scores"]) == 0
    table = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    column = "value" if target == "number" else "class"
    assert [float(row[column]) for row in table] == wanted.tolist()
    assert [int(row["score_0"]) for row in table] == circuit.scores(x.numpy())[:, 0].tolist()
    files = [path for path in exported.folder.iterdir() if path.suffix in (".c", ".so", ".lgn")]
    assert len(files) == 3
    for path in files:
        assert main(["verify", str(best), str(path), "--no-proof", "--samples", "64"]) == 0
    assert "NOT EQUAL" not in capsys.readouterr().out


def test_checkpoints_of_0_1_are_of_classes_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    module, run = fitted(tmp_path, "yes_no", epochs=1)
    run.save_checkpoint(tmp_path / "net.ckpt")
    content = read_checkpoint(tmp_path / "net.ckpt")
    assert circuit_of_checkpoint(module.net.eval(), {**content, "lgn_decoding": None}).decoding == ARGMAX
    for wrong in ({"kind": "shell"}, {"kind": "levels", "cmd": 1}, {"kind": "levels", "thresholds": [[]]}):
        with pytest.raises(CheckpointError, match="decoding cannot be used"):
            circuit_of_checkpoint(module.net.eval(), {**content, "lgn_decoding": wrong})
    assert json.loads(json.dumps(content["lgn_decoding"])) == content["lgn_decoding"]
