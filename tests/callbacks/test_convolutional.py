"""The callbacks on a convolutional net."""

from pathlib import Path

import pytest
import torch
from callback_toy import trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lgn_lightning.callbacks import DiscretizationGap, ExportCircuit, GateEntropy
from lgn_lightning.circuit import Circuit, LoopedCircuit, load_circuit
from lgn_lightning.circuit.emit import export
from lgn_lightning.cli.summary import summarize
from lgn_lightning.data import Digits
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.training.classifier import LogicClassifier


@pytest.mark.parametrize("loops", [False, True])
def test_gap_entropy_and_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loops: bool) -> None:
    if loops:  # as a large net
        monkeypatch.setattr(export, "LOOPS_ABOVE", 0)
    net = LogicTreeNet((1, 8, 8), 10, [4, 8], [100, 50], tau=2.0, thresholds=3)
    module = LogicClassifier(net, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1))
    checkpoints = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/acc_hard", mode="max")
    run = trainer(
        tmp_path,
        DiscretizationGap(),
        GateEntropy(),
        checkpoints,
        ExportCircuit(formats=["c", "circuit"], check_samples=100),
        max_epochs=2,
        enable_checkpointing=True,
    )
    run.fit(module, Digits())
    metrics = run.callback_metrics
    for layer in range(1, 5):
        assert 0 <= metrics[f"gap/layer_{layer}"] <= 1
        assert 0 < metrics[f"gate_entropy/layer_{layer}"] <= 4
    assert metrics["gap/layer_4"] > 0
    assert "gap/layer_5" not in metrics
    exported = ExportCircuit.exported_for(checkpoints.best_model_path)
    assert exported is not None
    # Unrolled, there is a gate for the border; as loops, what is stored is less than what is evaluated.
    gates = exported.manifest["gates"]
    assert gates["before"] == net.num_gates + (not loops)
    assert (gates["stored"] < gates["after"]) == loops
    assert isinstance(load_circuit(exported.folder / "lgn_net.lgn"), LoopedCircuit if loops else Circuit)
    assert ("compiled C" in exported.manifest["check"]["compared"]) == (exported.library is not None)
    assert exported.manifest["check"]["result"] == "equal"
    assert exported.manifest["check"]["samples_from"] == "validation"
    run.test(module, Digits(), verbose=False)
    assert summarize(run, module, Digits(), None).gates == net.num_gates


def test_gap_of_a_convolution_is_the_share_of_differing_neurons(tmp_path: Path) -> None:
    net = LogicTreeNet((1, 8, 8), 10, [16], [200, 100], thresholds=1)
    for layer in net.modules():
        if hasattr(layer, "weights"):
            torch.nn.init.normal_(layer.weights)
    module = LogicClassifier(net)
    data = Digits(val_fraction=0.05, eval_batch_size=500)
    run = trainer(tmp_path, DiscretizationGap(max_batches=None))
    run.validate(module, data, verbose=False)
    (images, _), *_ = data.val_dataloader()
    with torch.no_grad():
        soft = net[1].train()(net[0](images))
        hard = net[1].eval()(net[0](images))
    expected = ((soft > 0.5) != (hard > 0.5)).float().mean().item()
    assert expected > 0.01
    assert run.callback_metrics["gap/layer_1"].item() == pytest.approx(expected, abs=1e-5)
