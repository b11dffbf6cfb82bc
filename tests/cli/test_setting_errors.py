"""Settings that cannot be used are one error: the key and the innermost cause. Bugs of plug-ins keep their place."""

import traceback
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401 - its log goes to the stderr of its first import, not to that of a test
import pytest
import yaml

from lgn_lightning.cli.main import main
from lgn_lightning.runs.recipes import find_recipe

PLUGIN = """
from lightning.pytorch.callbacks import Callback

class NoCallback:
    pass

class BugWhenMade(Callback):
    def __init__(self):
        self.missing.attribute

class BugInTraining(Callback):
    def on_train_start(self, trainer, module):
        self.missing.attribute

class NeedsPositive(Callback):
    def __init__(self, number: int):
        if number <= 0:
            raise ValueError(f"number must be above 0, got {number}")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in; the module ``lgn_test_plugin`` can be imported."""
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "lgn_test_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--trainer.callbacks=lgn_test_plugin.Hello", "trainer.callbacks (lgn_test_plugin.Hello): module"),
        ("--trainer.callbacks=nowhere.Hello", "No module named 'nowhere'; install it"),
        ("--trainer.callbacks+=lgn_test_plugin.NoCallback", "lgn_test_plugin.NoCallback is no subclass of Callback"),
        ("--trainer.foo=1", "trainer.foo: there is no such key$"),
        ("--trainer.max_step 5", "trainer.max_step: there is no such key; did you mean max_steps?"),
        ("--trainer.max_steps=abc", "trainer.max_steps: expected int, got abc"),
        (
            "--model.net.dept=2",
            "model.net (lgn_lightning.models.LogicMLP): dept: there is no such key; did you mean depth?",
        ),
        (
            "--model.net.tau=abc",
            "model.net.tau (lgn_lightning.models.LogicMLP): expected float or Literal['auto'], got abc",
        ),
        ("--data.batch_size=abc", "data.batch_size (lgn_lightning.data.Digits): expected int, got abc"),
        ("--trainer.callbacks+=Hello", "there is no class Hello: give its name or its import path"),
        ("--model.optimizer=torch.optim.Adan", "model.optimizer: module 'torch.optim' has no attribute 'Adan'"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(
    arguments: str, error: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "digits", *arguments.split()]) == 2
    _assert_one_error(capsys.readouterr().err, error)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--trainer.enable_checkpointing=false", "trainer: Trainer was configured with `enable_checkpointing=False`"),
        ("--trainer.devices=many", "trainer: `devices` selected with `CPUAccelerator` should be an int > 0"),
        ("--trainer.strategy=foo", "trainer: You selected an invalid strategy name"),
        ("--data.batch_size=0", "data: batch_size and eval_batch_size must be 1 or more, got 0, 1000"),
        ("--data lgn_lightning.data.ImageFolder --data.image_size 0", "data: image_size must be one or two positive"),
        ("--model.net.arity=9", "model.net: LutLayer(448, 2000, arity=9): a gate has 2 to 6 inputs"),
        (
            '--trainer.callbacks=[{"class_path":"lgn_test_plugin.NeedsPositive","init_args":{"number":0}}]',
            "trainer.callbacks: number must be above 0, got 0",
        ),
        ("--model.optimizer.lr=-1", "model.optimizer: Invalid learning rate: -1.0"),
        (
            "--model.net.width=1000000000",
            "model.net: LogicMLP of 4 layers of 1,000,000,000 gates takes at least 144 GB of memory",
        ),
        ("--model.net.depth=1000000000", "GB of memory, and "),
        (
            "--model.net.depth=null --model.net.width=[2000,1000000000000]",
            "LogicLayer of 1,000,000,000,000 gates takes",
        ),
        (f"--model.net.depth=null --model.net.width=[{10**40}]", "GB of memory, and "),
        (
            "--model.net.num_classes=1000000000",
            "model.net: the last layer's width 2000 does not divide into 1000000000",
        ),
        ("--data.batch_size=1000000000", "training images do not fill one batch of 1000000000"),
        (
            "--model.net lgn_lightning.models.MLP --model.net.width 1000000000 --model.net.depth 3",
            "MLP of 3 layers of 1,000,000,000 units takes at least 4,",
        ),
        (
            "--model.net torch.nn.Linear --model.net.in_features 1000000000 --model.net.out_features 1000000000",
            "model.net: it takes 4,000,000,000 GB of memory",
        ),
    ],
)
def test_what_a_class_refuses_is_one_error(
    arguments: str, error: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "digits", "--trainer.enable_model_summary=false", *arguments.split()]) == 1
    _assert_one_error(capsys.readouterr().err, error)
    assert not list(folder.rglob("*.*"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a"])
def test_names_of_runs_are_names_of_folders(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", f"--run_name={name}"]) == 2
    assert f"--run_name '{name}': give a name for a folder below runs/digits" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ({"trainer": 1}, "trainer is 1, and no mapping of keys to values"),
        ({"trainer": False}, "trainer is False, and no mapping"),
        ({"model": 1}, "model is 1, and no mapping"),
        ({"paper": [[]]}, "paper is [[]], and no mapping"),
        ({1: {}}, "1 is no key: keys are text"),
        ({"trainer": {"max_steps": 2, None: 3}}, "trainer.None is no key"),
    ],
)
def test_a_part_that_is_no_mapping_is_one_error(
    part: dict[Any, Any], error: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(find_recipe("digits").read_text()) | part
    Path("x.yaml").write_text(yaml.safe_dump(content))
    assert main(["fit", "x.yaml", "--trainer.max_steps=2"]) == 1
    _assert_one_error(capsys.readouterr().err, f"x.yaml: {error}")
    assert [path.name for path in folder.iterdir()] == ["x.yaml"]


def test_missing_gpu_is_one_error(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDAAccelerator", "MPSAccelerator"):
        monkeypatch.setattr(
            f"lightning.pytorch.trainer.connectors.accelerator_connector.{name}.is_available", lambda: False
        )
    assert main(["fit", "digits", "--trainer.accelerator=gpu"]) == 1
    _assert_one_error(capsys.readouterr().err, "No supported gpu backend found; torch sees no GPU here")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["BugWhenMade", "BugInTraining"])
def test_a_bug_keeps_its_traceback(name: str, folder: Path) -> None:
    callback = f"--trainer.callbacks=lgn_test_plugin.{name}"
    with pytest.raises(AttributeError, match="'missing'") as caught:
        main(["fit", "digits", "--trainer.enable_model_summary=false", callback])
    assert "self.missing.attribute" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert not list(folder.rglob("*.*"))


def _assert_one_error(printed: str, error: str) -> None:
    lines = [line for line in printed.splitlines() if "lgn: error: " in line]
    assert len(lines) == 1
    assert error in f"{lines[0]}$"
    assert not any(text in printed for text in ("usage:", "Union", "Namespace", "Traceback"))
