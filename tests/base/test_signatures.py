"""Arguments read from sources are those that the classes take, and nothing is imported for them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from lgn_lightning.base.signatures import is_subclass, signature_of

CLASSES = [
    *("lgn_lightning.models.LogicMLP", "lgn_lightning.models.LogicTreeNet", "lgn_lightning.models.TorchvisionNet"),
    *("lgn_lightning.training.module.LogicModule", "lgn_lightning.callbacks.ExportCircuit"),
    *("lgn_lightning.data.Affine", "lgn_lightning.nn.samplers.Gumbel", "lgn_lightning.runs.recipes.PaperResult"),
    *("lightning.pytorch.trainer.Trainer", "lightning.pytorch.callbacks.ModelCheckpoint", "torch.optim.Adam"),
    *("torch.optim.lr_scheduler.CosineAnnealingLR", "torch.nn.CrossEntropyLoss"),
]


@pytest.mark.parametrize("path", CLASSES)
def test_arguments_are_those_of_the_class(path: str) -> None:
    module, _, name = path.rpartition(".")
    parameters = list(inspect.signature(getattr(import_module(module), name).__init__).parameters.values())[1:]
    found = signature_of(path)
    assert found is not None
    assert not found.takes_more
    assert list(found.arguments) == [parameter.name for parameter in parameters]
    for parameter in parameters:
        assert (found.arguments[parameter.name].default is None) == (parameter.default is inspect.Parameter.empty)


def test_arguments_that_are_passed_on_are_those_of_the_base() -> None:
    for name, own in (("MNIST", "size"), ("ImageFolder", "image_size"), ("Digits", "test_fraction")):
        found = signature_of(f"lgn_lightning.data.{name}")
        assert found is not None
        assert {own, "root", "batch_size", "val_fraction"} <= found.arguments.keys()
        assert found.arguments["batch_size"].default == "100"
        assert found.arguments["batch_size"].help == "Training images per batch and process"
        assert not found.takes_more


def test_arguments_that_go_elsewhere_are_not_known() -> None:
    strategy = signature_of("lgn_lightning.training.ddp.LogicDDPStrategy")
    assert strategy is not None
    assert strategy.takes_more


@pytest.mark.parametrize(
    "path", ["nowhere.Class", "torch.optim.Adan", "lgn_lightning.models", "abc", "", "a..b", "os.path.join"]
)
def test_what_is_not_there_has_none(path: str) -> None:
    assert signature_of(path) is None or path == "os.path.join"


def test_a_package_on_the_path_is_read_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lgn_far").mkdir()
    (tmp_path / "lgn_far" / "__init__.py").write_text("from .net import Net as Public\nraise SystemExit('run')\n")
    source = '"""Net."""\nimport torch\nclass Net(torch.nn.Module):\n    def __init__(self, width: int, depth=3): ...\n'
    (tmp_path / "lgn_far" / "net.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = signature_of("lgn_far.Public")
    assert found is not None
    assert [(name, a.kind, a.default) for name, a in found.arguments.items()] == [
        ("width", "int", None),
        ("depth", "", "3"),
    ]
    assert is_subclass("lgn_far.Public", "Module")
    assert not is_subclass("lgn_far.Public", "Callback")


def test_nothing_is_imported() -> None:
    code = f"import sys; from lgn_lightning.base.signatures import signature_of; [signature_of(p) for p in {CLASSES}]"
    code += "; assert not sys.modules.keys() & {'torch', 'numpy', 'lightning', 'lgn_lightning.models'}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
