"""What a callback does at a step it does once, in however many batches the step comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import ConcatDataset, DataLoader

from lgn_lightning.callbacks import SamplerSchedule
from tests.callbacks.callback_toy import images, module, trainer
from tests.callbacks.changing import each_changing, net_for


def trained(folder: Path, connections: str, callback: Callback, batches: int) -> tuple[dict[str, Any], Any, Any]:
    """Six steps on one batch, which comes so many times a step: states of net and callback, and what is logged."""
    net = net_for(connections)
    data = DataLoader(ConcatDataset([images(8)] * 8), batch_size=8)
    fit = trainer(folder, callback, max_epochs=-1, max_steps=6, accumulate_grad_batches=batches)
    fit.fit(module(net), data)
    assert fit.global_step == 6
    logged = {name: value for name, value in fit.logged_metrics.items() if "/" in name}
    return net.state_dict(), callback.state_dict(), logged


@each_changing
def test_a_step_of_several_batches_is_one_step(connections: str, of: Any, tmp_path: Path) -> None:
    # Four parts of a gradient add up to it without rounding.
    once, often = (trained(tmp_path / str(batches), connections, of(), batches) for batches in (1, 4))
    for alone, several in zip(once, often, strict=True):
        torch.testing.assert_close(several, alone)


def test_a_plan_of_batches_a_step_is_taken_into_account(tmp_path: Path) -> None:
    """Three epochs of four batches: steps of one, then of four."""
    schedule = SamplerSchedule(start=2.0, end=1.0)
    fit = trainer(tmp_path, schedule, GradientAccumulationScheduler({0: 1, 1: 4}), max_epochs=3)
    fit.fit(module(net_for("learned")), DataLoader(images(8), batch_size=2))
    assert fit.global_step == 6
    assert fit.logged_metrics["sampler/temperature"] == 1.0
