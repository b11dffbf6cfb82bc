"""What a file names is checked before it is imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.base.trust import VARIABLE, trusted_modules, trusted_settings, trusting
from lgn_lightning.data.images import ImageDataModule
from lgn_lightning.training.checkpoint import NET_KINDS

LAYER = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}}


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that leaves a file where it is imported."""
    (tmp_path / "foreign_net.py").write_text(
        "import pathlib, os\nfrom torch import nn\npathlib.Path('canary').touch()\n"
        "class Net(nn.Module): pass\nclass Plain: pass\ndef function(): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield "foreign_net"  # type: ignore[misc]
    sys.modules.pop("foreign_net", None)


def check(settings: Any) -> Any:
    return trusted_settings(settings, "x.ckpt", NET_KINDS)


def net(**arguments: Any) -> dict[str, Any]:
    return {"class_path": "lgn_lightning.models.LogicMLP", "init_args": arguments}


def test_classes_of_the_library_and_of_torch() -> None:
    sampler = {"class_path": "lgn_lightning.nn.samplers.Gumbel", "init_args": {}}
    for settings in (LAYER, net(width=3, sampler=sampler, tau="auto", connections=["unique"])):
        assert check(settings) == settings


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "torch.nn.functional.relu",
        "torch.load",
        "torch.hub.load",
        "torch.nn.modules.module.warnings.warn",
        "torch.distributed.launcher.api.elastic_launch",
        "torchvision.datasets.MNIST",
        "torchvision.models.resnet18",
        "lgn_lightning.circuit.CompiledCircuit",
        "lgn_lightning.callbacks.ExportCircuit",
        "lgn_lightning.data.Digits",
        "lgn_lightning.base.trust.os",
        "lgn_lightning.__main__.main",
        "lgn_lightning.no.Such",
        "torch.nn",
        "torch",
        "Linear",
        "",
        3,
        None,
    ],
)
def test_nothing_else_is_built(path: Any) -> None:
    # Only what jsonargparse could import; a bare word stays a word.
    nested = [net(sampler=path), net(a=[{"b": path}])] if isinstance(path, str) and path.count(".") else []
    for settings in ({"class_path": path}, net(sampler={"class_path": path}), *nested):
        with pytest.raises(CheckpointError, match=r"x\.ckpt"):
            check(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"class_path": "foreign_net.Net"},
        net(sampler="foreign_net.Net"),
        net(sampler=" foreign_net.Net "),
        net(sampler="{class_path: foreign_net.Net}"),
        net(sampler='{"class_path": "foreign_net.Net"}'),
        net(sampler="- [foreign_net.Net]"),
        {"class_path": "torch.nn.Sequential", "dict_kwargs": {"args": "foreign_net.function"}},
        {"class_path": "torch.nn.Linear", "init_args": {"x.class_path": "no_such.Net"}},
        net(sampler="settings.yaml"),
    ],
)
def test_no_form_of_a_foreign_class_is_imported(foreign: str, settings: Any) -> None:
    Path("settings.yaml").write_text("class_path: foreign_net.Net")
    with pytest.raises(CheckpointError):
        check(settings)
    assert not Path("canary").exists()


def test_the_error_says_how_to_trust(foreign: str) -> None:
    settings = {"class_path": "foreign_net.Net"}
    with pytest.raises(
        CheckpointError, match=r"x\.ckpt names the class foreign_net\.Net.*trust_modules=\('foreign_net'"
    ):
        check(settings)
    with (
        trusting((), "lgn test x.ckpt"),
        pytest.raises(CheckpointError, match=r"lgn test x\.ckpt --trust-modules foreign_net$"),
    ):
        check(settings)


def test_trusted_packages(foreign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "class_path": "foreign_net.Net",
        "init_args": {"x": {"class_path": "foreign_net.Plain", "init_args": {}}},
    }
    with trusting(["foreign_net"]):
        assert check(settings) == settings
        for path in ("foreign_net.function", "foreign_net.os", "foreign_net.nn", "foreign_net_two.Net"):
            with pytest.raises(CheckpointError):
                check({"class_path": path})
    assert trusted_modules() == ()
    monkeypatch.setenv(VARIABLE, "foreign_net, other")
    assert trusted_modules() == ("foreign_net", "other")
    assert check({"class_path": "foreign_net.Net"})["class_path"] == "foreign_net.Net"


def test_places_are_not_followed(capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        "class_path": "lgn_lightning.data.MNIST",
        "init_args": {"root": "/far away", "download": True, "batch_size": 7},
    }
    expected = {"root": None, "download": False, "augment": None, "batch_size": 7}
    with trusting((), "lgn test x.ckpt"):
        assert trusted_settings(data, "x.ckpt", (ImageDataModule,))["init_args"] == expected
    assert "lgn test x.ckpt --data.root '/far away'" in capsys.readouterr().err
    assert trusted_settings(data, "x.ckpt", (ImageDataModule,), given=["root"])["init_args"] == expected
    assert capsys.readouterr().err == ""
    assert data["init_args"]["root"] == "/far away", "the settings themselves stay"
    teacher = {"class_path": "lgn_lightning.models.TorchvisionNet", "init_args": {"name": "x", "weights": __file__}}
    assert check(teacher)["init_args"] == {"name": "x", "weights": None}
    assert issubclass(nn.Linear, NET_KINDS)
