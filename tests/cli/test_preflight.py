"""Keys and sizes are checked before torch is imported, and only what cannot be right is refused."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lgn_lightning.base.errors import LgnError, UsageError
from lgn_lightning.base.settings_text import read_settings
from lgn_lightning.cli.preflight import check_recipe
from lgn_lightning.data import CIFAR10, MNIST, Digits, FashionMNIST, ImageFolder
from lgn_lightning.data.known import known_data
from lgn_lightning.runs.recipes import find_recipe, recipe_files


def check(recipe: str, *overrides: str) -> None:
    check_recipe(read_settings(find_recipe(recipe)), overrides)


@pytest.mark.parametrize("path", recipe_files(), ids=lambda path: path.stem)
def test_every_recipe_passes(path: Path) -> None:
    check_recipe(read_settings(path), [])


@pytest.mark.parametrize(
    "overrides",
    [
        ["--data=MNIST", "--data.size=20", "--model.net.in_shape=[1, 20, 20]", "--model.net.width=4000"],
        ["--data.augment=Affine", "--data.augment.rotation", "3"],
        ["--data.augment=[Affine, Elastic]"],
        ["--model.net.sampler=lgn_lightning.nn.samplers.Gumbel", "--model.net.sampler.straight_through=true"],
        ["--trainer.callbacks+=lgn_lightning.callbacks.SamplerSchedule", "--trainer.callbacks.start=1.0"],
        ["--trainer.callbacks+={class_path: lgn_lightning.callbacks.WirePenalty, init_args: {weight: 0.2}}"],
        ["--trainer.strategy=lgn_lightning.LogicDDPStrategy", "--trainer.strategy.find_unused_parameters=true"],
        ["--model.optimizer=SGD", "--model.optimizer.momentum=0.9"],
        ["--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau", "--model.lr_scheduler.monitor=val/loss_hard"],
        ["--model.parameter_groups={'*.learned.logits': {lr: 0.03}}"],
        ["--model.loss=torch.nn.CrossEntropyLoss", "--model.loss.label_smoothing=0.1"],
        ["--model.net.init_args.width=4000"],
        ["--model.net=nowhere.Net", "--model.net.anything=1"],
        ["--config=more.yaml", "--nonsense=1"],
        ["--model.net.depth=1000000000"],
        ["--model=text"],
        ["--trainer.callbacks+=MyOwnWatcher"],
        ["--model.net.width=abc", "--trainer.max_steps=abc", "stray"],
        ["--run_name=x", "--logger=csv,wandb", "--seed_everything=3", "--ckpt_path=x.ckpt", "--weights_only=true"],
        ["--model.net.width=[2000, 1000]", "--model.net.depth=null"],
        ["--model.num_classes=null", "--data.augment=null", "--trainer.callbacks=null", "--trainer.precision=null"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_what_may_be_right_passes(overrides: list[str]) -> None:
    check("digits", *overrides)


@pytest.mark.parametrize(
    ("recipe", "overrides", "error"),
    [
        ("digits", "--modl.net.width=3", "there is no key modl; did you mean model?"),
        ("digits", "--trainer.max_stepz 3", "trainer.max_stepz: there is no such key; did you mean max_steps?"),
        ("digits", "--trainer.max_steps=abc", "trainer.max_steps: expected int, got abc"),
        ("digits", "--trainer.max_steps=null", "trainer.max_steps: expected int, got null"),
        ("digits", "--model.net.tau=null", "LogicMLP): expected float or 'auto', got null"),
        ("digits", "--model.net.thresholds=null", "expected list or 'auto', got null"),
        ("mnist-8k-learned-aug", "--data.size=null", "MNIST): expected 28 or 20, got null"),
        ("digits", "--model.net.width=wide", "model.net.width (lgn_lightning.models.LogicMLP): expected int or list"),
        ("digits", "--trainer.max_epochs=ten", "trainer.max_epochs: expected int or null, got ten"),
        ("digits", "--model.optimizer.lr=fast", "model.optimizer.lr (torch.optim.Adam): expected float or Tensor"),
        ("digits", "--model.optimizer=Adamm", "model.optimizer: there is no class Adamm; did you mean Adam?"),
        ("digits", "--data.batch_size=large", "data.batch_size (lgn_lightning.data.Digits): expected int, got large"),
        ("digits", "--data=Digit", "data: there is no class Digit; did you mean Digits?"),
        ("digits", "--trainer.callbacks+=GateEntropyy", "there is no class GateEntropyy; did you mean GateEntropy?"),
        ("digits", "--model.optimizer.momentum=1", "model.optimizer (torch.optim.Adam): momentum: there is no such"),
        ("digits", "--data.augment.rotate=1", "data.augment (lgn_lightning.data.Affine): rotate: there is no"),
        ("digits", "--data=MNIST", "set --model.net.in_shape=[1,28,28]"),
        ("digits", "--model.num_classes=9", "set --model.num_classes=10"),
        ("digits", "--model.net.width=2001", "model.net: the last layer's width 2001 does not divide into 10 classes"),
        ("digits", "--model.net.width=100", "LogicLayer(448, 100): 100 gates have 200 inputs and cannot use all 448"),
        (
            "mnist-8k-learned-aug",
            "--model.net.width=50",
            "50 gates have 100 inputs, each one of 16, and cannot use all 2352; make the layer at least 74 wide",
        ),
        ("digits", "--model.net.depth=0", "depth=0: give the number of layers"),
        ("digits", "--model.net.connections=[random]", "give one value, or one for each of the 4 layers"),
        ("digits", "--model.net.thresholds=[0.5,0.2]", "thresholds must be increasing"),
        ("mnist-tree-s", "--model.net.padding=[0,1]", "padding=[0, 1]: give one value, or one for each of the 3"),
        ("mnist-tree-s", "--model.net.pool=9", "pooling 9x9 does not fit its 2x2 outputs"),
        ("mnist-tree-s", "--model.net.dense=[100,20]", "and cannot use all 1296"),
    ],
)
def test_what_cannot_be_right_is_one_error(recipe: str, overrides: str, error: str) -> None:
    with pytest.raises(LgnError) as caught:
        check(recipe, *overrides.split())
    assert error in str(caught.value)


def test_a_key_of_a_callback_in_the_file(tmp_path: Path) -> None:
    recipe = read_settings(find_recipe("digits"))
    recipe["trainer"]["callbacks"][0]["init_args"]["moniter"] = "val/acc_hard"
    with pytest.raises(UsageError, match=r"callbacks \(.*ModelCheckpoint\): moniter: .*did you mean monitor\?"):
        check_recipe(yaml.safe_load(yaml.safe_dump(recipe)), [])


def test_what_is_known_of_data_is_what_the_modules_have(tmp_path: Path) -> None:
    for cls, arguments in ((Digits, {}), (MNIST, {}), (MNIST, {"size": 20}), (FashionMNIST, {}), (CIFAR10, {})):
        module = cls(**arguments)  # type: ignore[abstract, arg-type]
        assert known_data(cls.__name__, **arguments) == (module.image_shape, module.num_classes)  # type: ignore[arg-type]
    for name in ("cat", "dog", ".ipynb_checkpoints"):
        (tmp_path / "train" / name).mkdir(parents=True)
    own = {"root": str(tmp_path), "image_size": 12, "grayscale": True}
    assert known_data("ImageFolder", **own) == (ImageFolder(**own).image_shape, 2)  # type: ignore[arg-type]
    assert known_data("ImageFolder", str(tmp_path / "nowhere")) == (None, None)
    assert known_data("SomebodyElses") == (None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "fit digts",
        "fit digits --model.net.dept=2",
        "fit digits --model.net.in_shape=[1,9,9]",
        "fit digits --help",
    ],
)
def test_the_answer_takes_no_second(arguments: str, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    lgn = [sys.executable, "-X", "importtime", "-m", "lgn_lightning", *arguments.split()]
    done = subprocess.run(lgn, capture_output=True, text=True, cwd=tmp_path, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "lgn_lightning.cli.main" in imported
    assert not imported & {"torch", "lightning", "torchvision", "jsonargparse"}
    # Processor time, with room for a slow machine; the imports above are what decides.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
