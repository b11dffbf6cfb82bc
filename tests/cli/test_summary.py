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
from lgn_lightning.circuit.emit import compiled
from lgn_lightning.cli.summary import Summary, hardware, print_summary, summarize, with_compiled
from lgn_lightning.data import Digits
from lgn_lightning.nn import LogicLayer, LutLayer
from lgn_lightning.training.checkpoint import load_net

METRICS = {"test/acc_soft": 0.5, "test/acc_hard": 0.5}
TESTED = SimpleNamespace(callback_metrics=METRICS, num_test_batches=[1], world_size=1)


@pytest.mark.parametrize(
    ("net", "row"),
    [
        (LutLayer(8, 8, arity=4, parametrization="sigmoid"), r" of 16 bits"),
        (LogicLayer(8, 8), r" of 4 bits"),
        (nn.Sequential(LutLayer(8, 8, arity=3, parametrization="sigmoid"), LogicLayer(8, 8)), r" bits"),
    ],
)
def test_entropy_is_beside_its_maximum(net: nn.Module, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summarize(TESTED, LogicClassifier(net, 2), Digits(), None))  # type: ignore[arg-type]
    assert re.search(r"gate entropy +│ \d+\.\d\d" + row, capsys.readouterr().out)


def test_the_c_runs_on_the_test_split(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = digits_run / "checkpoints" / "best.ckpt"
    net, data = load_net(checkpoint), Digits()
    module = LogicClassifier(net, 10)
    summary = with_compiled(summarize(TESTED, module, data, checkpoint), module, data)  # type: ignore[arg-type]
    images, labels = data.test_samples()
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
        with_compiled(Summary(0.5, 0.5, checkpoint=checkpoint), module, Digits())


@pytest.mark.parametrize("ranks", [1, 2])
def test_both_accuracies_are_of_the_same_images(
    ranks: int, digits_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = digits_run / "checkpoints" / "best.ckpt"
    data, module = Digits(eval_batch_size=20), LogicClassifier(load_net(checkpoint), 10)
    tested = SimpleNamespace(callback_metrics=METRICS, num_test_batches=[3], world_size=ranks)
    summary = with_compiled(summarize(tested, module, data, checkpoint), module, data)  # type: ignore[arg-type]
    assert (summary.tested, summary.compared, summary.available) == (60 * ranks, 60 * ranks, 360)
    images, labels = (part[: 60 * ranks] for part in data.test_samples())
    assert summary.accuracy_c == pytest.approx(float((module.net(images).argmax(1) == labels).float().mean()))
    print_summary(summary)
    assert f"first {60 * ranks} of 360" in capsys.readouterr().out


def test_a_library_that_cannot_be_run_takes_no_result_along(
    digits_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: str) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(compiled.ctypes, "CDLL", refuse)
    monkeypatch.setattr(compiled, "_noexec", lambda path: True)
    module = LogicClassifier(load_net(digits_run / "checkpoints" / "best.ckpt"), 10)
    given = Summary(0.5, 0.25, checkpoint=digits_run / "checkpoints" / "best.ckpt")
    summary = with_compiled(given, module, Digits())
    assert (summary.accuracy_hard, summary.accuracy_c) == (0.25, None)
    print_summary(summary)
    assert "noexec" in capsys.readouterr().out


def test_hardware_is_named() -> None:
    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    assert re.search(r", 2 processes × \d+ threads?$", hardware(trainer))  # type: ignore[arg-type]
