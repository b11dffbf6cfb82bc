"""The table at the end of ``lgn fit``."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lgn_lightning import LogicClassifier
from lgn_lightning.base.errors import ExportError
from lgn_lightning.circuit import CompiledCircuit
from lgn_lightning.cli.summary import hardware, print_summary, summarize
from lgn_lightning.data import Digits
from lgn_lightning.nn import LogicLayer, LutLayer
from lgn_lightning.training.checkpoint import load_net

TESTED = SimpleNamespace(callback_metrics={"test/acc_soft": 0.5, "test/acc_hard": 0.5})


@pytest.mark.parametrize(
    ("net", "row"),
    [
        (LutLayer(8, 8, arity=4, parametrization="sigmoid"), r" of 16 bits"),
        (LogicLayer(8, 8), r" of 4 bits"),
        (nn.Sequential(LutLayer(8, 8, arity=3, parametrization="sigmoid"), LogicLayer(8, 8)), r" bits"),
    ],
)
def test_entropy_is_beside_its_maximum(net: nn.Module, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summarize(TESTED, LogicClassifier(net, 2), None, None))  # type: ignore[arg-type]
    assert re.search(r"gate entropy +│ \d+\.\d\d" + row, capsys.readouterr().out)


def test_the_c_runs_on_the_test_split(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = digits_run / "checkpoints" / "best.ckpt"
    net, data = load_net(checkpoint), Digits()
    summary = summarize(TESTED, LogicClassifier(net, 10), data, checkpoint)  # type: ignore[arg-type]
    images, labels = data.test_images()
    with torch.no_grad():
        assert summary.accuracy_c == pytest.approx(float((net(images).argmax(1) == labels).float().mean()))
    assert (summary.compared, summary.gates) == (360, 900)
    assert summary.gates_exported is not None
    assert summary.gates_exported < 900
    assert summary.images_per_second is not None
    assert summary.images_per_second > 0
    print_summary(summary)
    assert "equal scores on all 360 test images" in capsys.readouterr().out


def test_c_that_differs_from_the_net_is_an_error(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = CompiledCircuit.scores
    monkeypatch.setattr(CompiledCircuit, "scores", lambda self, x: original(self, x) + 1)
    checkpoint = digits_run / "checkpoints" / "best.ckpt"
    module = LogicClassifier(load_net(checkpoint), 10)
    with pytest.raises(ExportError, match=r"lgn_net\.c disagrees with the hard net on 360 of 360 test samples"):
        summarize(TESTED, module, Digits(), checkpoint)  # type: ignore[arg-type]


def test_hardware_is_named() -> None:
    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    assert re.search(r", 2 processes × \d+ threads?$", hardware(trainer))  # type: ignore[arg-type]
