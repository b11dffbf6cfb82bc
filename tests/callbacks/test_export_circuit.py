import hashlib
import json
import warnings
from pathlib import Path

import callback_toy as toy
import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning.base.errors import ExportError
from lgn_lightning.callbacks import DiscretizationGap, ExportCircuit, GateEntropy
from lgn_lightning.circuit import Circuit, CompiledCircuit, LoopedCircuit, load_circuit, optimize_for_export
from lgn_lightning.circuit.emit import export
from lgn_lightning.circuit.emit.compiler import CompilerError
from lgn_lightning.cli.summary import summarize
from lgn_lightning.data import Digits
from lgn_lightning.deploy import folder as circuit_folder
from lgn_lightning.models import MLP, LogicTreeNet
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, logic_layers
from lgn_lightning.training.classifier import LogicClassifier


def fit(folder, *callbacks, module=None, export=None, loader=None, **options):
    module = module or toy.module()
    export = export or ExportCircuit()
    options = {"enable_checkpointing": True, "max_epochs": 1} | options
    trainer = toy.trainer(folder, export, *callbacks, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        trainer.fit(module, loader or toy.loader(), toy.loader(seed=1) if loader is None else loader)
    return trainer, module


def net_of(checkpoint):
    net = toy.net()
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    net.load_state_dict({k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")})
    return net.eval()


def folders(root):
    return sorted(path.name for path in (root / "circuits").iterdir())


def test_a_checkpoint_gets_source_header_library_and_manifest(tmp_path):
    trainer, module = fit(tmp_path)
    checkpoint = trainer.checkpoint_callback.best_model_path
    exported = ExportCircuit.exported_for(checkpoint)
    assert exported.folder == tmp_path / "circuits" / "epoch=0-step=3"
    assert sorted(p.name for p in exported.folder.iterdir()) == [
        "lgn_net.c",
        "lgn_net.h",
        "lgn_net.so",
        "manifest.json",
    ]
    manifest = exported.manifest
    assert manifest["checkpoint"] == "epoch=0-step=3.ckpt"
    assert (manifest["epoch"], manifest["global_step"]) == (0, 3)
    assert manifest["accuracy"] == pytest.approx(trainer.callback_metrics["val/acc_hard"].item())
    circuit = Circuit.from_module(module.net)
    assert manifest["gates"]["before"] == circuit.num_gates == 24
    small, reports = optimize_for_export(circuit)
    assert manifest["gates"]["after"] == small.num_gates == exported.gates
    assert manifest["gates"]["passes"] == [{"name": report.name, "gates": report.after} for report in reports]
    engine = circuit.compile()
    assert manifest["engine"]["name"] == engine.name
    assert manifest["check"] == {
        "result": "equal",
        "reference": "hard net",
        "compared": ["simulated circuit", f"{engine.name} engine", "compiled C"],
        "samples": 24,
        "samples_from": "validation",
    }
    assert set(manifest["versions"]) == {"lgn_lightning", "torch", "python"}
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["compiler"]
    assert set(manifest["files"]) == {"lgn_net.c", "lgn_net.h", "lgn_net.so"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((exported.folder / name).read_bytes()).hexdigest() == digest
    pixels = toy.images(100, seed=7).tensors[0]
    scores = module.net.eval()(pixels).mul(3.0).round().int().numpy()
    assert np.array_equal(exported.compiled().scores(pixels), scores)


def test_weights_are_those_of_the_checkpoint_at_every_trigger(tmp_path):
    fit(
        tmp_path,
        ModelCheckpoint(tmp_path / "ck", every_n_train_steps=2, save_top_k=-1),
        ModelCheckpoint(tmp_path / "ck", save_last=True, filename="{epoch}", save_top_k=-1),
        max_epochs=2,
    )
    checkpoints = sorted((tmp_path / "ck").glob("*.ckpt"))
    assert len(checkpoints) == 3 + 3  # steps 2, 4, 6; epochs 0, 1; last
    assert folders(tmp_path) == sorted(path.stem for path in checkpoints)
    for path in checkpoints:
        exported = ExportCircuit.exported_for(path)
        expected = optimize_for_export(Circuit.from_module(net_of(path)))[0].to_c(header="lgn_net.h")
        assert exported.source.read_text() == expected
        assert exported.manifest["checkpoint"] == path.name
    assert len({ExportCircuit.exported_for(path).source.read_text() for path in checkpoints}) >= 3


def test_random_samples_stand_in_before_the_first_validation(tmp_path):
    fit(tmp_path, ModelCheckpoint(tmp_path / "ck", every_n_train_steps=1, save_top_k=-1), max_steps=2)
    first = json.loads((tmp_path / "circuits" / "epoch=0-step=1" / "manifest.json").read_text())
    assert first["check"]["samples_from"] == "random"
    assert first["check"]["samples"] > 0
    assert first["accuracy"] is None


class AveragesWeights(Callback):
    """Puts other weights into the checkpoint than the net has, as weight averaging does."""

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        state = checkpoint["state_dict"]
        for name, value in state.items():
            if name.endswith("weights"):
                state[name] = torch.zeros_like(value).index_fill_(1, torch.tensor(6), 1.0)


def test_weights_that_only_the_checkpoint_holds(tmp_path):
    trainer, module = fit(tmp_path, AveragesWeights())
    exported = ExportCircuit.exported_for(trainer.checkpoint_callback.best_model_path)
    xors = net_of(trainer.checkpoint_callback.best_model_path)
    assert set(xors[1].gates().tolist()) == {6}
    assert exported.source.read_text() == optimize_for_export(Circuit.from_module(xors))[0].to_c(header="lgn_net.h")
    assert set(module.net[1].gates().tolist()) != {6}


def test_circuits_of_deleted_checkpoints_are_deleted(tmp_path):
    saver = ModelCheckpoint(tmp_path / "ck", save_top_k=1, filename="{epoch}")
    fit(tmp_path, saver, max_epochs=3)
    assert folders(tmp_path) == ["epoch=2"]
    assert [p.name for p in (tmp_path / "ck").iterdir()] == ["epoch=2.ckpt"]


def test_a_slash_in_a_metric_name(tmp_path):
    saver = ModelCheckpoint(tmp_path / "ck", filename="{epoch}-{val/acc_hard:.0f}")
    trainer, _ = fit(tmp_path, saver, max_epochs=2)
    exported = ExportCircuit.exported_for(trainer.checkpoint_callback.best_model_path)
    assert exported.manifest["checkpoint"].startswith("epoch=1-val/acc_hard=")
    assert folders(tmp_path) == ["epoch=1-val"]  # the first one is gone, and the folder that its slash made


def test_foreign_folders_and_checkpoints_are_left_alone(tmp_path):
    trainer, _ = fit(tmp_path)
    mine = tmp_path / "circuits" / "mine"
    mine.mkdir()
    (mine / "manifest.json").write_text('{"checkpoint": "other.ckpt"}')
    ExportCircuit().removed(trainer, tmp_path / "checkpoints" / "mine.ckpt")
    assert mine.is_dir()
    trainer.save_checkpoint(tmp_path / "checkpoints" / "by_hand.ckpt")
    assert ExportCircuit.exported_for(tmp_path / "checkpoints" / "by_hand.ckpt") is None


def test_the_checkpoint_io_is_given_back(tmp_path):
    trainer, _ = fit(tmp_path)
    assert type(trainer.strategy.checkpoint_io).__module__.startswith("lightning.")


@pytest.mark.parametrize("when", ["end", "checkpoint"])
def test_equal_circuits_are_compiled_once(tmp_path, monkeypatch, when):
    calls = []
    original = circuit_folder.compile_library
    monkeypatch.setattr(circuit_folder, "compile_library", lambda *a, **k: calls.append(1) or original(*a, **k))
    fit(tmp_path, ModelCheckpoint(tmp_path / "ck", save_last=True), export=ExportCircuit(compile_at=when))
    assert folders(tmp_path) == ["epoch=0-step=3", "last"]
    assert len(calls) == 1
    last = ExportCircuit.exported_for(tmp_path / "ck" / "last.ckpt")
    assert last.manifest["checkpoint"] == "last.ckpt"
    assert last.compiled().num_classes == toy.CLASSES


@pytest.mark.parametrize(("when", "compiled"), [("end", 1), ("checkpoint", 3)])
def test_deleted_checkpoints_are_compiled_only_on_demand(tmp_path, monkeypatch, when, compiled):
    calls = []
    original = circuit_folder.compile_library
    monkeypatch.setattr(circuit_folder, "compile_library", lambda *a, **k: calls.append(1) or original(*a, **k))
    trainer, _ = fit(tmp_path, max_epochs=3, export=ExportCircuit(compile_at=when))
    assert len(calls) == compiled
    exported = ExportCircuit.exported_for(trainer.checkpoint_callback.best_model_path)
    assert exported.manifest["check"]["compared"][-1] == "compiled C"
    assert exported.manifest["files"]["lgn_net.so"] == hashlib.sha256(exported.library.read_bytes()).hexdigest()


class Raises(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("power cut")


def test_a_run_that_breaks_off_leaves_checked_source(tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, Raises(), max_epochs=2)
    exported = ExportCircuit.exported_for(tmp_path / "checkpoints" / "epoch=0-step=3.ckpt")
    assert exported.source.exists()
    assert exported.library is None
    assert exported.manifest["check"]["compared"][0] == "simulated circuit"
    assert "compiled C" not in exported.manifest["check"]["compared"]


@pytest.mark.parametrize("when", ["end", "checkpoint"])
def test_disagreement_is_an_error_that_names_the_first_sample(tmp_path, monkeypatch, when):
    original = CompiledCircuit.scores

    def broken(self, x):
        scores = original(self, x)
        scores[5:7, 1] += 1
        return scores

    monkeypatch.setattr(CompiledCircuit, "scores", broken)
    with pytest.raises(ExportError, match=r"disagrees with the hard net on 2 of 24 validation samples.*sample 5"):
        fit(tmp_path, export=ExportCircuit(compile_at=when))
    assert folders(tmp_path) == []  # nothing half-written
    assert (tmp_path / "checkpoints" / "epoch=0-step=3.ckpt").exists()


def test_without_a_compiler_there_is_a_warning_and_no_library(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.warns(UserWarning, match="no library"):
        trainer, _ = fit(tmp_path)
    exported = ExportCircuit.exported_for(trainer.checkpoint_callback.best_model_path)
    assert exported.library is None
    assert exported.source.exists()
    assert exported.manifest["compiler"] is None
    assert exported.manifest["check"]["compared"][0] == "simulated circuit"
    assert "compiled C" not in exported.manifest["check"]["compared"]
    with pytest.raises(ExportError, match="no C compiler"):
        exported.compiled()
    with pytest.raises(ExportError, match="no-such-compiler"):
        fit(tmp_path / "insists", export=ExportCircuit(formats=["library"]))


@pytest.mark.parametrize("when", ["checkpoint", "end"])
def test_a_compiler_that_fails_leaves_the_trained_net(tmp_path, monkeypatch, when):
    monkeypatch.setenv("CC", "gcc --no-such-flag")
    with pytest.warns(UserWarning, match="no-such-flag") as warned:
        trainer, _ = fit(tmp_path, export=ExportCircuit(compile_at=when))
    assert len([warning for warning in warned if "no-such-flag" in str(warning.message)]) == 1
    assert ExportCircuit.exported_for(trainer.checkpoint_callback.best_model_path).library is None
    with pytest.raises(CompilerError, match="no-such-flag"):
        fit(tmp_path / "insists", export=ExportCircuit(formats=["library"], compile_at=when))


def test_a_folder_that_cannot_be_written_is_found_before_training(tmp_path, monkeypatch):
    (tmp_path / "circuits").write_text("a file, not a folder")
    module = toy.module()
    before = module.net[1].weights.detach().clone()
    with pytest.raises(ExportError, match=r"cannot write circuits to .*circuits .*is not a folder.*dirpath"):
        fit(tmp_path, module=module)
    assert torch.equal(before, module.net[1].weights)


def test_a_disk_that_fails_while_training_is_one_clear_error(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(circuit_folder, "export_files", full)
    with pytest.raises(ExportError, match=r"cannot write circuits.*No space left"):
        fit(tmp_path)
    assert folders(tmp_path) == []


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_net_that_is_no_circuit_trains_with_one_warning(tmp_path, hybrid):
    net = nn.Sequential(toy.net()[:-1], nn.Linear(12, 2)) if hybrid else MLP(toy.SHAPE, toy.CLASSES, width=4, depth=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, module=toy.module(net), max_epochs=2)
    assert len([w for w in caught if "nothing to export" in str(w.message)]) == 1
    assert not (tmp_path / "circuits").exists()
    assert list((tmp_path / "checkpoints").glob("*.ckpt"))


def test_a_net_of_plain_bits(tmp_path):
    bits = torch.rand(30, 6, generator=torch.Generator().manual_seed(0)) > 0.5
    data = TensorDataset(bits.float(), bits[:, 0].long())
    net = LogicSequential(LogicLayer(6, 12), LogicLayer(12, 12), GroupSum(2, tau=7.0))
    trainer, _ = fit(tmp_path, module=toy.module(net), loader=DataLoader(data, batch_size=10))
    exported = ExportCircuit.exported_for(trainer.checkpoint_callback.best_model_path)
    assert exported.manifest["check"]["samples"] == 30
    expected = net.eval()(bits.float()).mul(7).round().int().numpy()
    assert np.array_equal(exported.compiled().scores(bits), expected)


def test_bf16_training(tmp_path):
    trainer, _ = fit(tmp_path, precision="bf16-true")
    assert ExportCircuit.exported_for(trainer.checkpoint_callback.best_model_path).manifest["check"]["samples"] == 24


def test_a_resumed_run_keeps_the_circuit_it_started_from(tmp_path):
    saver = ModelCheckpoint(tmp_path / "ck", filename="{epoch}", save_top_k=-1)
    fit(tmp_path, saver, max_epochs=1)
    saver = ModelCheckpoint(tmp_path / "ck", filename="{epoch}", save_top_k=1)
    module = toy.module()
    trainer = toy.trainer(tmp_path, ExportCircuit(), saver, enable_checkpointing=True, max_epochs=3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        trainer.fit(module, toy.loader(), toy.loader(seed=1), ckpt_path=tmp_path / "ck" / "epoch=0.ckpt")
    # ModelCheckpoint keeps the checkpoint that it resumed from.
    assert folders(tmp_path) == ["epoch=0", "epoch=2"]


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_folders_lie_beside_the_checkpoints_of_a_logger(tmp_path, kind):
    fit(tmp_path, logger=kind(tmp_path / "runs", name="run"))
    assert folders(tmp_path / "runs" / "run" / "version_0") == ["epoch=0-step=3"]


def test_wandb_gets_an_artifact(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="test")
    logged = []
    run = type(logger.experiment)
    original = run.log_artifact
    monkeypatch.setattr(
        run, "log_artifact", lambda self, a, *rest, **k: (logged.append((a, k)), original(self, a, *rest, **k))[1]
    )
    fit(tmp_path, logger=logger)
    logger.experiment.finish()
    wandb.teardown()  # waits for the process that writes the file
    first, (artifact, options) = logged  # the checkpoint's, and once more with the library
    assert set(first[0].manifest.entries) == {"lgn_net.c", "lgn_net.h", "manifest.json"}
    assert artifact.type == "circuit"
    assert set(artifact.manifest.entries) == {"lgn_net.c", "lgn_net.h", "lgn_net.so", "manifest.json"}
    assert artifact.metadata["check"]["result"] == "equal"
    assert options["aliases"] == ["latest", "epoch=0-step=3"]
    [record] = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"lgn_net.so" in record.read_bytes()


def test_fast_dev_run_exports_nothing_and_says_nothing(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, fast_dev_run=True)
    assert not [w for w in caught if "ExportCircuit" in str(w.message)]
    assert not (tmp_path / "circuits").exists()


@pytest.mark.parametrize(
    "options", [{"formats": ["vhdl"]}, {"formats": "c"}, {"formats": []}, {"compile_at": "x"}, {"check_samples": 0}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="ExportCircuit"):
        ExportCircuit(**options)


def test_layers_are_left_as_they_were(tmp_path):
    _, module = fit(tmp_path)
    assert all(layer.weights.requires_grad for layer in logic_layers(module).values())


def test_an_engine_that_disagrees_is_an_error(tmp_path, monkeypatch):
    original = circuit_folder.Engine.scores_and_classes
    monkeypatch.setattr(circuit_folder.Engine, "scores_and_classes", lambda self, x: (original(self, x)[0] + 1, None))
    with pytest.raises(ExportError, match=r"engine disagrees with the hard net on 24 of 24"):
        fit(tmp_path)
    assert not (tmp_path / "circuits").exists() or folders(tmp_path) == []


def test_without_a_cpp_compiler_dead_gates_are_removed_and_no_engine_runs(tmp_path, monkeypatch):
    def refuse():
        raise circuit_folder.native.BuildError("no C++ compiler found")

    monkeypatch.setattr(circuit_folder.native, "library", refuse)
    trainer, _ = fit(tmp_path)
    manifest = ExportCircuit.exported_for(trainer.checkpoint_callback.best_model_path).manifest
    assert manifest["engine"] is None
    assert [step["name"] for step in manifest["gates"]["passes"]] == ["remove_dead_gates"]
    assert manifest["check"]["compared"] == ["simulated circuit", "compiled C"]


@pytest.mark.parametrize("loops", [False, True])
def test_convolutions_are_exported_with_their_gap_and_entropy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loops: bool
) -> None:
    if loops:  # as a large net
        monkeypatch.setattr(export, "LOOPS_ABOVE", 0)
    net = LogicTreeNet((1, 8, 8), 10, [4, 8], [100, 50], tau=2.0, thresholds=3)
    module = LogicClassifier(net, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1))
    checkpoints = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/acc_hard", mode="max")
    run = toy.trainer(
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
