"""Fits whose training step is a CUDA graph, with a stand-in that replays by calling the step again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from lgn_lightning import LogicClassifier
from lgn_lightning.training.graphed_step import WARM_UP
from tests.training.graph_toy import RATE, Adam, StandIn, classifier, fit, same
from tests.training.toy import net


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []
        self.gradients: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(outputs["loss"].item())
        self.gradients.append(sum(p.grad.norm().item() for p in pl_module.parameters()))
        assert trainer.callback_metrics["train/loss"].item() == self.seen[-1]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fit_with_a_graph_is_the_fit_without(tmp_path: Path, stand_in: StandIn, precision: Any) -> None:
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    results = []
    for graph in (True, False):
        model, watch = classifier(cuda_graph=graph, lr_scheduler=schedule), Losses()
        run = fit(tmp_path, model, callbacks=[watch], precision=precision)
        results.append((model, watch, run))
    (graphed, seen, run), (plain, expected, other) = results
    assert seen.seen == expected.seen
    assert seen.gradients == expected.gradients
    assert same(graphed, plain)
    assert run.global_step == other.global_step == 15
    assert run.optimizers[0].param_groups[0]["lr"] == other.optimizers[0].param_groups[0]["lr"] == RATE / 2**15
    assert {k: v.item() for k, v in run.callback_metrics.items()} == {
        k: v.item() for k, v in other.callback_metrics.items()
    }
    assert stand_in.recorded == 1
    assert stand_in.replayed == 12 - WARM_UP


def test_checkpoints_resume_with_and_without_a_graph(tmp_path: Path, stand_in: StandIn) -> None:
    whole = classifier(cuda_graph=False)
    fit(tmp_path, whole)
    checkpoint = ModelCheckpoint(tmp_path / "kept", save_last=True)
    fit(tmp_path, classifier(), max_epochs=2, callbacks=[checkpoint], enable_checkpointing=True)
    path = str(tmp_path / "kept" / "last.ckpt")
    (state,) = torch.load(path, weights_only=True)["optimizer_states"]
    assert state["param_groups"][0]["capturable"] is False
    assert state["param_groups"][0]["lr"] == RATE
    for graph in (True, False):
        resumed = classifier(cuda_graph=graph)
        assert fit(tmp_path, resumed, checkpoint=path).global_step == 15
        assert same(resumed, whole)


def test_the_cpu_has_no_graphs(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the net is on cpu; a CUDA GPU is needed"):
        assert fit(tmp_path, classifier()).global_step == 15


class _Own(LogicClassifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)


def test_a_training_step_of_a_subclass_still_trains(tmp_path: Path, stand_in: StandIn) -> None:
    torch.manual_seed(3)
    own = _Own(net(), 2, optimizer=Adam, cuda_graph=True)
    fit(tmp_path, own)
    plain = classifier(cuda_graph=False)
    fit(tmp_path, plain)
    assert same(own, plain)


def test_the_step_can_be_recorded_again(tmp_path: Path, stand_in: StandIn) -> None:
    class Reset(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: object) -> None:
            if trainer.global_step == 6:
                pl_module.reset_cuda_graph()

    fit(tmp_path, classifier(), callbacks=[Reset()])
    assert stand_in.recorded == 2
