"""Checkpoints as Python gets them back: of a recipe, and of a plain Trainer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from torch import nn

import lgn_lightning
from lgn_lightning import GroupSum, LogicClassifier, LogicLayer, Threshold, load_net
from lgn_lightning.base.errors import CheckpointError, LgnError
from lgn_lightning.cli.main import main
from lgn_lightning.data import Digits
from lgn_lightning.models import MLP, LogicMLP, LogicTreeNet, TorchvisionNet
from lgn_lightning.nn import logic_layers
from lgn_lightning.nn.samplers import make_sampler
from lgn_lightning.runs.checkpoints import DIGEST, digest
from lgn_lightning.training.checkpoint import open_net
from tests.training.toy import loader, toy

SMALL = ["--model.net.width=300", "--trainer.max_steps=20", "--trainer.val_check_interval=10"]
SMALL += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run of `lgn fit`."""
    folder = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "digits", *SMALL, "--model.parameter_groups={'*.weights': {'lr': 0.3}}"]) == 0
    return folder / "runs" / "digits" / "version_0"


def trained(folder: Path, model: LogicClassifier) -> Path:
    """A plain Trainer's checkpoint of a module, after two steps."""
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    pl.Trainer(max_steps=2, accelerator="cpu", logger=False, default_root_dir=folder, **quiet).fit(model, loader())
    (path,) = folder.glob("checkpoints/*.ckpt")
    return path


def same(one: nn.Module, other: nn.Module, x: torch.Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(one.eval()(x), other.eval()(x))


def test_load_net_of_a_run_and_of_a_checkpoint(run: Path) -> None:
    net = load_net(run / "checkpoints" / "best.ckpt")
    assert isinstance(net, LogicMLP)
    assert not net.training
    x = torch.randint(256, (50, 1, 8, 8), dtype=torch.uint8)
    for folder in (run, str(run.parent)):
        assert same(net, load_net(folder), x)
    last = load_net(run / "checkpoints" / "last.ckpt")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[f"net.{name}"]) for name, value in last.state_dict().items())
    with pytest.raises(LgnError, match="holds no checkpoint"):
        load_net(run.parents[2])


def test_a_run_s_module_comes_back_with_its_settings(run: Path) -> None:
    path = run / "checkpoints" / "best.ckpt"
    module = LogicClassifier.load_from_checkpoint(path)
    assert same(module.net, load_net(path), torch.randint(256, (50, 1, 8, 8), dtype=torch.uint8))
    configured: Any = module.configure_optimizers()
    assert configured["optimizer"].param_groups[0]["lr"] == 0.3
    assert isinstance(configured["lr_scheduler"]["scheduler"], torch.optim.lr_scheduler.CosineAnnealingLR)
    content: dict[str, Any] = {}
    module.on_save_checkpoint(content)
    assert content["lgn_recipe"] == torch.load(path, weights_only=True)["lgn_recipe"], "it can be saved again"
    assert LogicClassifier.load_from_checkpoint(path, scheduler_interval="epoch")._scheduler_interval == "epoch"


NETS: dict[str, Any] = {
    "LogicMLP": partial(LogicMLP, (1, 4, 4), 2, width=[64, 32], tau=4.0, parametrization="walsh", sampler="gumbel"),
    "LogicTreeNet": partial(LogicTreeNet, torch.Size([1, 4, 4]), 2, [4], [16, 8], thresholds=3, padding=1),
    "MLP": partial(MLP, (1, 4, 4), 2, width=8, depth=2),
    "TorchvisionNet": partial(TorchvisionNet, "squeezenet1_1", (1, 4, 4), 2, resize=32),
}


@pytest.mark.parametrize("name", NETS)
def test_nets_of_the_library_come_back_from_a_plain_trainer(name: str, tmp_path: Path) -> None:
    model = LogicClassifier(NETS[name](), 2, scheduler_interval="epoch")
    path = trained(tmp_path, model)
    assert same(load_net(path), model.net, toy()[0])
    module = LogicClassifier.load_from_checkpoint(path)
    assert module.num_classes == 2
    assert module._scheduler_interval == "epoch"
    assert {n: layer.sampler.name for n, layer in logic_layers(module.net).items()} == {
        n: layer.sampler.name for n, layer in logic_layers(model.net).items()
    }


def test_tools_work_on_a_plain_trainer_s_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, LogicClassifier(NETS["LogicMLP"](), 2))
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "out"), "--format", "c,circuit"]) == 0
    assert main(["verify", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path)]) == 0
    assert main(["bench", str(tmp_path)]) == 0
    assert "no data set" in (tmp_path / "report.html").read_text()


def sequential() -> nn.Module:
    return nn.Sequential(Threshold([0.5], (1, 4, 4)), LogicLayer(16, 40), GroupSum(2))


def converted() -> nn.Module:
    net = LogicMLP((1, 4, 4), 2, 20, 2, parametrization="sigmoid")
    for layer in logic_layers(net).values():
        layer.convert("walsh")
    return net


UNKNOWN: dict[str, Any] = {
    "no class of the library": sequential,
    "an argument that is an object": lambda: LogicMLP((1, 4, 4), 2, 20, 2, sampler=make_sampler("gumbel")),
    "another parametrization since": converted,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_nets_are_built_by_the_user(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = LogicClassifier(UNKNOWN[name](), 2)
    path = trained(tmp_path, model)
    for load in (load_net, LogicClassifier.load_from_checkpoint):
        with pytest.raises(
            CheckpointError, match=r"does not say how its net is built: .*load_from_checkpoint\(path, n"
        ):
            load(path)
    assert main(["export", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "export_circuit(Circuit.from_module(module.net)" in capsys.readouterr().err
    module = LogicClassifier.load_from_checkpoint(path, net=UNKNOWN[name]())
    assert module.num_classes == 2
    assert same(module.net, model.net, toy()[0])


class Noted(LogicClassifier):
    """A module of one's own, with hyperparameters of its own."""

    def __init__(self, net: nn.Module, note: str = "", num_classes: int = 3) -> None:
        super().__init__(net, num_classes)
        self.save_hyperparameters("note")
        self.note = note
        self.scale = nn.Parameter(torch.ones(1))


def test_a_subclass_with_hyperparameters_of_its_own(tmp_path: Path) -> None:
    path = trained(tmp_path, Noted(NETS["MLP"](), "hello", 2))
    module = Noted.load_from_checkpoint(path)
    assert (module.note, module.num_classes) == ("hello", 2)
    assert isinstance(load_net(path), MLP)


def test_a_recipe_that_cannot_be_used_here(run: Path, tmp_path: Path) -> None:
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    recipe = yaml.safe_load(content["lgn_recipe"])
    recipe["model"]["net"]["class_path"] = "no_such_package.Net"
    torch.save({**content, "lgn_recipe": yaml.safe_dump(recipe)}, tmp_path / "other.ckpt")
    with pytest.raises(
        CheckpointError, match=r"other.ckpt names the class no_such_package.Net.*load_net\(…, trust_modules="
    ):
        load_net(tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="No module named 'no_such_package'"):
        load_net(tmp_path / "other.ckpt", trust_modules=["no_such_package"])
    for arguments in ({"width": -3}, {"width": "x"}, {"no_such": 3}, {"in_shape": [1, 8]}, {"tau": {"a": 1}}, "x"):
        recipe["model"]["net"] = {"class_path": "lgn_lightning.models.LogicMLP", "init_args": arguments}
        torch.save({**content, "lgn_recipe": yaml.safe_dump(recipe)}, tmp_path / "other.ckpt")
        for load in (load_net, LogicClassifier.load_from_checkpoint):
            with pytest.raises(CheckpointError, match=r"other\.ckpt"):
                load(tmp_path / "other.ckpt")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"width": 10**9}, "GB of memory"),
        ({"depth": 10**9}, "GB of memory"),
        ({"width": [2000, 10**30], "depth": None}, "GB of memory"),
        ({"connections": "learned", "width": 10**8, "num_candidates": 10**9}, "GB of memory"),
    ],
    ids=str,
)
def test_sizes_beyond_memory_are_one_error(
    run: Path, tmp_path: Path, change: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    recipe = yaml.safe_load(content["lgn_recipe"])
    recipe["model"]["net"]["init_args"] |= change
    content["lgn_recipe"] = yaml.safe_dump(recipe)
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=named):
        load_net(tmp_path / "x.ckpt")
    for command in ("test", "export"):
        assert main([command, str(tmp_path / "x.ckpt")]) == 1
        error = capsys.readouterr().err
        assert named in error
        assert "Traceback" not in error


def test_weights_that_are_no_numbers_are_one_error(run: Path, tmp_path: Path) -> None:
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["state_dict"]["net.1.weights"][3, 1] = float("nan")
    content[DIGEST] = digest(content)
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"x\.ckpt holds nan in 1\.weights"):
        load_net(tmp_path / "x.ckpt")


def test_options_that_are_objects_do_not_stop_a_training(tmp_path: Path) -> None:
    rate = torch.tensor(0.2)
    adam = partial(torch.optim.Adam, fused=True)
    path = trained(tmp_path, LogicClassifier(NETS["MLP"](), 2, adam, parameter_groups={"*.weight": {"lr": rate}}))
    module = LogicClassifier.load_from_checkpoint(path, net=NETS["MLP"]())
    assert module._parameter_groups["*.weight"]["lr"] == rate


def test_it_is_a_name_of_the_package() -> None:
    assert lgn_lightning.load_net is load_net


def test_an_opened_net_knows_its_run(digits_run: Path) -> None:
    loaded = open_net(digits_run)
    assert loaded.checkpoint == digits_run / "checkpoints" / "best.ckpt"
    assert (loaded.folder, loaded.name) == (digits_run, "digits/version_0")
    assert 0 < loaded.step <= 60
    assert loaded.recipe["data"]["class_path"] == "lgn_lightning.data.Digits"
    assert loaded.why
    assert not open_net(loaded.checkpoint).why


def fitted(path: Path, **options: Any) -> Path:
    net = LogicMLP((1, 8, 8), 10, width=200, depth=2, tau=5.0)
    options_of_trainer = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_steps=2, accelerator="cpu", **options_of_trainer)  # type: ignore[arg-type]
    trainer.fit(LogicClassifier(net, **options), datamodule=Digits())
    trainer.save_checkpoint(path)
    return path


def test_class_weights_do_not_decide_whether_a_net_loads(tmp_path: Path) -> None:
    weighted = fitted(tmp_path / "weighted.ckpt", loss=nn.CrossEntropyLoss(weight=torch.full((10,), 2.0)))
    plain = fitted(tmp_path / "plain.ckpt")
    assert LogicClassifier.load_from_checkpoint(weighted).loss.weight is None
    for path in (weighted, plain):
        loss = nn.CrossEntropyLoss(weight=torch.arange(10.0))
        module = LogicClassifier.load_from_checkpoint(path, loss=loss)
        assert torch.equal(module.loss.weight, torch.arange(10.0)), "what was given, not what was saved"
        saved = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.equal(value, saved[f"net.{name}"]) for name, value in module.net.state_dict().items())


def test_class_weights_in_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = [1.0] * 9 + [5.0]
    options = ["--model.loss", "torch.nn.CrossEntropyLoss", "--model.loss.weight", str(weights)]
    assert main(["fit", "digits", *SMALL, *options]) == 0
    (config,) = Path("runs").rglob("config.yaml")
    assert yaml.safe_load(config.read_text())["model"]["loss"]["init_args"]["weight"] == weights
    (checkpoint,) = config.parent.rglob("last.ckpt")
    assert LogicClassifier.load_from_checkpoint(checkpoint).loss.weight.tolist() == weights
    assert main(["fit", "digits", *options[:3], "[1, two]"]) == 2


def test_weights_of_another_type_are_refused(run: Path, tmp_path: Path) -> None:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    name = next(name for name, value in content["state_dict"].items() if value.is_floating_point())
    content["state_dict"][name] = content["state_dict"][name].long()  # torch itself would make floats of them
    content[DIGEST] = digest(content)
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(CheckpointError, match=r"weights is torch\.int64"):
        load_net(tmp_path / "changed.ckpt")
