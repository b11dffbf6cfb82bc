"""The hint that images want more thresholds than the net has."""

import re
from typing import Any

import pytest

from lgn_lightning.callbacks import ThresholdHint
from lgn_lightning.data import Digits
from lgn_lightning.models import LogicMLP
from lgn_lightning.training.module import LogicModule


class _Trainer:
    is_global_zero, fast_dev_run, overfit_batches = True, False, 0

    def __init__(self, data: Any) -> None:
        self.datamodule = data


def hint(thresholds: list[float], capsys: pytest.CaptureFixture[str]) -> str:
    data = Digits()
    data.setup("fit")
    net = LogicMLP((1, 8, 8), 10, 500, 1, thresholds=thresholds)
    trainer: Any = _Trainer(data)
    ThresholdHint().on_fit_start(trainer, LogicModule(net, num_classes=10))
    return capsys.readouterr().err


def test_one_threshold_on_grey_digits_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(
        r"1 a pixel, keep (\d+)% .* --model.net.thresholds=auto takes 7, which keep (9\d|100)%", hint([0.5], capsys)
    )
    assert found is not None
    assert int(found[1]) < 75


def test_enough_thresholds_get_no_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert hint([0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875], capsys) == ""


def test_data_without_images_get_no_hint(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = _Trainer(None)
    ThresholdHint().on_fit_start(trainer, LogicModule(LogicMLP((1, 8, 8), 10, 500, 1), num_classes=10))
    assert capsys.readouterr().err == ""
