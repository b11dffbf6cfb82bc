"""Candidates of learned connections that are replaced by new ones."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from wire_toy import SHAPE, Framed, fit, net

from lgn_lightning.callbacks import (
    AvoidConstantInputs,
    LocalCandidates,
    RefreshCandidates,
    ResumePoint,
    SamplerSchedule,
    WireSchedule,
)
from lgn_lightning.callbacks.refresh_candidates import refresh
from lgn_lightning.nn import LearnedConnections, LogicTreeConv2d, logic_layers
from tests.synthetic import SyntheticImages


def test_the_weakest_candidates_are_replaced_and_start_below_the_best() -> None:
    torch.manual_seed(0)
    connections = LearnedConnections(12, 30, 5)
    with torch.no_grad():
        connections.logits.normal_()
        connections.candidates[connections.candidates == 7] = 3  # what no gate has as a candidate stays away
    logits, candidates = connections.logits.detach().clone(), connections.candidates.clone()
    rows = refresh(connections, 2, 1.5, torch.Generator().manual_seed(3))
    weakest = logits.argsort(2)[:, :, :2]
    assert torch.equal(rows, torch.zeros_like(rows).scatter(2, weakest, True))
    assert torch.equal(connections.logits[~rows], logits[~rows])
    assert torch.equal(connections.candidates[~rows], candidates[~rows])
    torch.testing.assert_close(
        connections.logits.detach()[rows], (logits.amax(2, keepdim=True) - 1.5).expand_as(logits)[rows]
    )
    drawn = connections.candidates[rows]
    assert set(drawn.tolist()) == set(range(12)) - {7}


def test_groups_of_channels_stay_apart() -> None:
    conv = LogicTreeConv2d(8, 6, 3, 2, connections="learned", num_candidates=4, groups=2)
    assert conv.learned is not None
    before = conv.learned.candidates.clone()
    rows = refresh(conv.learned, 2, 1.0, torch.Generator().manual_seed(3))
    assert rows.float().mean() == 0.5
    assert not torch.equal(conv.learned.candidates, before)
    channel = conv.learned.candidates.view(2, -1) // 9  # a candidate is (channel · 3 + row) · 3 + column
    assert channel[0].max() < 4 <= channel[1].min()


def test_refreshes_come_when_they_should_and_forget_the_optimizer(tmp_path: Path) -> None:
    data = SyntheticImages(SHAPE)
    model = net(data)
    seen: list[torch.Tensor] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: object) -> None:
            layer = next(iter(logic_layers(model).values())).learned
            seen.append(layer.candidates.clone())  # type: ignore[union-attr,operator]
            if trainer.global_step == 4:
                changed = seen[4] != seen[3]
                moments = trainer.optimizers[0].state[layer.logits]["exp_avg"]  # type: ignore[union-attr]
                assert not moments[changed].any()
                assert moments[~changed].any()

    trainer = fit(tmp_path, model, data, RefreshCandidates(every_n_steps=2, count=2, until=0.6), Watch())
    changes = [step for step in range(1, 10) if not torch.equal(seen[step], seen[step - 1])]
    assert changes == [2, 4, 6]
    gates = sum(layer.out_dim for layer in logic_layers(model).values())
    assert trainer.logged_metrics["refreshed/candidates"] == 3 * 2 * 2 * gates


def test_refreshing_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    data = SyntheticImages(SHAPE)
    with pytest.raises(ValueError, match="at least one step and one candidate"):
        RefreshCandidates(count=0)
    with pytest.raises(ValueError, match="this net has none"):
        fit(tmp_path, net(data, "random"), data, RefreshCandidates())
    with pytest.raises(ValueError, match="would replace all 4 candidates of an input; take at most 3"):
        fit(tmp_path, net(data), data, RefreshCandidates(count=4))


@pytest.mark.parametrize("local", [[], [LocalCandidates([1, 1])]], ids=["anywhere", "near"])
def test_a_run_with_all_callbacks_on_wires_resumes_exactly(tmp_path: Path, local: list[Callback]) -> None:
    def callbacks(name: str, steps: int) -> list[Callback]:
        return [
            AvoidConstantInputs(),
            *copy.deepcopy(local),
            RefreshCandidates(every_n_steps=3, count=2, until=0.9),
            WireSchedule(every_n_steps=2, until=0.9),
            SamplerSchedule(start=1.0, end=0.0, parameter="choice_noise", until=0.7),
            ResumePoint(),
            ModelCheckpoint(tmp_path / name, every_n_train_steps=steps, save_top_k=-1, filename="{step}"),
        ]

    ends = []
    for name, ckpt in (("whole", None), ("resumed", tmp_path / "whole" / "step=4.ckpt")):
        data = Framed(SHAPE)
        model = net(data) if ckpt is None else net(data).requires_grad_()
        if ckpt is not None:
            for layer in logic_layers(model).values():
                layer.learned.reset_parameters()  # type: ignore[union-attr,operator]
        torch.manual_seed(5 if ckpt is None else 6)
        fit(tmp_path, model, data, *callbacks(name, 4), enable_checkpointing=True, ckpt_path=ckpt)
        ends.append(model.state_dict())
    for key, value in ends[0].items():
        assert torch.equal(ends[1][key], value), key
