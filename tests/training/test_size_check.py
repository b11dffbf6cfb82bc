from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from lgn_lightning.base.errors import DataError
from lgn_lightning.cli.main import main
from lgn_lightning.models import MLP, LogicMLP, LogicTreeNet, TorchvisionNet
from lgn_lightning.training.size_check import check_sizes
from tests.synthetic import SyntheticImages

NETS = {
    "dense": lambda: LogicMLP((1, 4, 4), 4, width=40, depth=1),
    "tree": lambda: LogicTreeNet((1, 4, 4), 4, channels=[4], dense=[40], tree_depth=2),
    "mlp": lambda: MLP((1, 4, 4), 4, width=8, depth=2),
}


def data(shape: tuple[int, ...] = (1, 4, 4), classes: int = 4) -> SimpleNamespace:
    return SimpleNamespace(image_shape=shape, num_classes=classes)


@pytest.mark.parametrize("kind", NETS)
def test_every_net_tells_its_sizes(kind: str) -> None:
    net = NETS[kind]()
    check_sizes(net, 4, data())
    check_sizes(net, 4, None)
    check_sizes(nn.Sequential(net), 4, SimpleNamespace(image_shape=[1, 4, 4]))
    with pytest.raises(
        DataError,
        match=re.escape("has images of shape [1, 4, 5] and 4 classes, but model.net.in_shape is [1, 4, 4]; set"),
    ):
        check_sizes(net, 4, data((1, 4, 5)))
    with pytest.raises(DataError, match=re.escape("model.net.num_classes is 4, model.num_classes is 4; set")):
        check_sizes(net, 4, data(classes=3))
    with pytest.raises(
        DataError, match=r"^the net gives 4 scores, but model.num_classes is 5; set --model.num_classes=4$"
    ):
        check_sizes(net, 5, None)


def test_nets_and_data_that_say_nothing_pass() -> None:
    check_sizes(nn.Sequential(nn.Flatten(), nn.ReLU()), 5, object())
    check_sizes(nn.Sequential(), 5, None)
    check_sizes(nn.Identity(), 3, data(classes=3))
    with pytest.raises(DataError, match=r"model.net.num_classes is 4"):
        check_sizes(TorchvisionNet("mobilenet_v3_small", (1, 4, 4), 4), 3, data(classes=3))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--model.net.num_classes=5"], "10 classes, but model.net.num_classes is 5; set --model.net.num_classes=10"),
        (["--model.num_classes=5"], "10 classes, but model.num_classes is 5; set --model.num_classes=10"),
        (
            ["--model.net.num_classes=5", "--model.num_classes=5", "--model.net.in_shape=[1,9,9]"],
            "SyntheticImages has images of shape [1, 8, 8] and 10 classes, but model.net.in_shape is "
            "[1, 9, 9], model.net.num_classes is 5, model.num_classes is 5; set --model.net.in_shape=[1,8,8] "
            "--model.net.num_classes=10 --model.num_classes=10",
        ),
    ],
)
def test_fit_compares_before_the_first_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--model.net.width=300", "--model.net.depth=1", "--trainer.enable_model_summary=false"]
    images = f"--data={SyntheticImages.__module__}.SyntheticImages"
    assert main(["fit", "digits", images, "--data.shape=[1, 8, 8]", "--data.augment=null", *small, *overrides]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))
