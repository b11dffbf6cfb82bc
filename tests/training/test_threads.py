"""Small nets train on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as pl
import pytest
import torch

from lgn_lightning.models import MLP, LogicMLP
from lgn_lightning.models.tree import LogicTreeNet
from lgn_lightning.training.threads import WORTH_THREADS, spare_threads


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")  # that of tests/conftest.py
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trainer(**options: object) -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options)  # type: ignore[arg-type]


def net() -> LogicMLP:
    return LogicMLP([1, 4, 4], 10, 1000, 2, connections="random")


def test_a_small_net_takes_one_thread(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        spare_threads(trainer(devices=1), net(), 100)
    assert torch.get_num_threads() == 1
    assert "one thread: for 2,000 gates and batches of 100" in caplog.text


def test_work_for_two_threads_has_them() -> None:
    spare_threads(trainer(devices=1), net(), WORTH_THREADS // 2000 + 1)
    assert torch.get_num_threads() == 2


def test_nets_whose_work_is_not_known_by_their_gates_keep_their_threads() -> None:
    spare_threads(trainer(devices=1), MLP([1, 4, 4], 10, 20, 2), 100)
    spare_threads(trainer(devices=1), LogicTreeNet([1, 8, 8], 10, [4], [40]), 100)
    assert torch.get_num_threads() == 2


def test_the_environment_decides_if_it_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    spare_threads(trainer(devices=1), net(), 100)
    assert torch.get_num_threads() == 2


def test_several_processes_share_the_cores_by_themselves() -> None:
    spare_threads(trainer(devices=2, strategy="ddp"), net(), 100)
    assert torch.get_num_threads() == 2
