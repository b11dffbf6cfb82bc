"""Fits that cannot train by a CUDA graph: each says why, once, and trains."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from lgn_lightning.models import LogicMLP, LogicTreeNet
from lgn_lightning.training.graph_rules import net_reason, optimizer_reason, reason_against
from tests.training.graph_toy import Adam, StandIn, classifier, fit
from tests.training.toy import net, trainer


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (partial(torch.optim.Adam, fused=True), None),
        (torch.optim.AdamW, None),
        (partial(torch.optim.SGD, lr=0.1, fused=True), None),
        (partial(torch.optim.SGD, lr=0.1), "SGD keeps its state or its learning rate on the host; use Adam"),
        (partial(torch.optim.Adam, lr=torch.tensor(0.1)), "the learning rate of Adam is a tensor"),
        (partial(torch.optim.Adam, differentiable=True), "Adam is differentiable"),
    ],
)
def test_optimizers(optimizer: Any, reason: str | None) -> None:
    given = optimizer_reason([optimizer(net().parameters())])
    assert given is None if reason is None else reason in str(given)


def test_two_optimizers() -> None:
    one = Adam(net().parameters())
    assert optimizer_reason([one, one]) == "there are 2 optimizers"


def test_nets() -> None:
    model = net()
    assert net_reason(model) is None
    model[1].register_forward_hook(lambda *_: None)
    assert net_reason(model) == "1 has hooks, which a replay would not call"
    model = net()
    model[1].to("meta")
    assert net_reason(model) == "the net lies on cpu, meta"
    learned = LogicMLP((1, 2, 3), 2, 12, 1, connections="learned")
    assert (net_reason(learned) or "").startswith("1 chooses other wires at every step, for which only straight-thr")
    learned = LogicMLP((1, 2, 3), 2, 12, 1, connections="learned", sampler="straight_through")
    assert net_reason(learned) is None
    trees = LogicTreeNet((1, 4, 4), 2, [4], [20], tree_connections="learned")
    assert net_reason(trees) is None


class _Watcher(pl.Callback):
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("settings", "module", "reason"),
    [
        ({"accumulate_grad_batches": 2}, {}, "gradients are accumulated over 2 batches"),
        ({"callbacks": [GradientAccumulationScheduler({1: 2})]}, {}, "GradientAccumulationScheduler accumulates"),
        ({"gradient_clip_val": 0.5}, {}, r"gradients are clipped \(gradient_clip_val=0.5\)"),
        ({"detect_anomaly": True}, {}, "detect_anomaly looks at every value"),
        ({"callbacks": [_Watcher()]}, {}, "the callback _Watcher has on_before_optimizer_step"),
        ({}, {"optimizer": partial(torch.optim.SGD, lr=0.1)}, "SGD keeps its state"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_reasons_against(tmp_path: Path, stand_in: StandIn, settings: Any, module: Any, reason: str) -> None:
    with pytest.warns(UserWarning, match=f"runs without a CUDA graph: {reason}") as told:
        run = fit(tmp_path, classifier(**module), max_epochs=1, **settings)
    assert run.global_step in (3, 5)
    assert sum("CUDA graph" in str(warning.message) for warning in told) == 1
    assert stand_in.warmed_up == 0


def test_reason_against_a_loss_scaler(tmp_path: Path, stand_in: StandIn) -> None:
    run = trainer(tmp_path)
    run.precision_plugin.scaler = object()  # type: ignore[attr-defined]
    assert "precision 16-mixed" in str(reason_against(run, classifier()))


def test_reason_against_several_devices(tmp_path: Path, stand_in: StandIn) -> None:
    run = trainer(tmp_path, strategy="ddp_spawn", devices=2)
    assert reason_against(run, classifier()) == "DDPStrategy trains on several devices"
