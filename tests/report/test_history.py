"""The curves of a run, from the files of either logger."""

import random
from contextlib import suppress
from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from lgn_lightning.base.errors import RunError
from lgn_lightning.report.history import History, read_history


def test_metrics_csv(run: Path) -> None:
    history = read_history(run)
    assert history.source == "metrics.csv"
    steps, values = history.curves["val/acc_hard"]
    assert steps == [19, 39, 59]
    assert all(0 <= value <= 1 for value in values)
    assert history.last("val/acc_hard") == values[-1]
    assert list(history.layers("gate_entropy/layer_")) == [1, 2, 3]
    assert history.get("nothing") is None
    assert history.last("nothing") is None


def test_tensorboard_events_give_the_same_curves(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    expected = read_history(run).curves
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    for name, (steps, values) in expected.items():
        for step, value in zip(steps, values, strict=True):
            logger.log_metrics({name: value, "epoch": 0}, step)
    logger.experiment.close()
    history = read_history(tmp_path)
    assert history.source == "TensorBoard events"
    assert history.curves.keys() == expected.keys()
    for name, (steps, values) in expected.items():
        assert history.curves[name][0] == steps
        assert history.curves[name][1] == pytest.approx(values, rel=1e-6)


def test_no_logger(tmp_path: Path) -> None:
    assert read_history(tmp_path) == History()


def test_rows_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step,loss,acc\n0,2,nan,0.5\n0,1,0.25,\n0,,1,1\n")
    assert read_history(tmp_path).curves == {"loss": ([1], [0.25]), "acc": ([2], [0.5])}


@pytest.mark.parametrize("content", [b"nonsense", b"\x00" * 200, b"\xff" * 200], ids=["text", "zeros", "ones"])
def test_events_that_cannot_be_read_are_one_error_or_none(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    with suppress(RunError):
        assert read_history(tmp_path).curves == {}


def test_damaged_events_never_end_in_another_error(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    for step in range(5):
        logger.log_metrics({"loss": 0.5, "acc": 0.25}, step)
    logger.experiment.close()
    (file,) = tmp_path.glob("events.*")
    whole, chance = file.read_bytes(), random.Random(0)
    for _ in range(60):
        data = bytearray(whole[: chance.choice((len(whole), chance.randrange(len(whole))))] or b"x")
        for _ in range(chance.choice((1, 8))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        with suppress(RunError):
            read_history(tmp_path)
