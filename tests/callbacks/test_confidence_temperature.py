from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from lgn_lightning.callbacks import ConfidenceTemperature
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import GroupSum, SlotLayer, Threshold
from lgn_lightning.nn.samplers import Gumbel
from tests.callbacks.callback_toy import CLASSES, SHAPE, loader, module, trainer


def net(**options: object) -> LogicMLP:
    torch.manual_seed(1)
    return LogicMLP(SHAPE, CLASSES, width=12, depth=2, **{"sampler": "straight_through", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("every", [1, 2])
def test_the_temperature_is_that_of_the_equations(tmp_path: Path, every: int) -> None:
    of = net()
    logits = [layer.weights.detach().clone() for layer in (of[1], of[2])]
    callback = ConfidenceTemperature(decay=0.9, every_n_steps=every)
    fit = trainer(tmp_path, callback, max_steps=2 * every)
    model = module(of)
    model.lr = 1e-12  # weights stay, so that every step sees the same
    fit.fit(model, loader(batch_size=4))
    confidence = torch.cat([torch.softmax(part, 1).amax(1) for part in logits]).mean().item()
    mean = 1 / 16
    for kept in (0.9, 0.9**every):
        mean = kept * mean + (1 - kept) * confidence
    expected = 3.0 - (3.0 - 0.5) * (mean - 1 / 16) / (1 - 1 / 16)
    assert callback.temperature == pytest.approx(expected, rel=1e-5)
    assert all(layer.sampler.temperature == callback.temperature for layer in (of[1], of[2]))
    assert fit.logged_metrics["sampler/temperature"] == pytest.approx(expected, rel=1e-5)
    other = ConfidenceTemperature()
    other.load_state_dict(callback.state_dict())
    assert other.decided == callback.decided


@pytest.mark.parametrize("parametrization", ["softmax", "sigmoid", "walsh", "covjac"])
def test_decided_gates_have_the_lowest_temperature(tmp_path: Path, parametrization: str) -> None:
    of = net(parametrization=parametrization)
    with torch.no_grad():
        of[1].weights *= 100
        of[2].weights *= 100
    callback = ConfidenceTemperature(decay=0.0, every_n_steps=1)
    trainer(tmp_path, callback, max_steps=1).fit(module(of), loader())
    assert 0.5 <= callback.temperature < 0.7


@pytest.mark.parametrize("slots", [2, 16, 64])
def test_slots_that_are_all_as_likely_have_the_highest_temperature(tmp_path: Path, slots: int) -> None:
    layer = SlotLayer(math.prod(SHAPE), 12, num_candidates=slots, sampler=Gumbel(straight_through=True))
    torch.nn.init.zeros_(layer.weights)
    callback = ConfidenceTemperature(decay=0.0, every_n_steps=1)
    of = nn.Sequential(Threshold([0.5], SHAPE), layer, GroupSum(CLASSES))
    trainer(tmp_path, callback, max_steps=1).fit(module(of), loader())
    assert callback.temperature == pytest.approx(3.0)


def test_soft_gates_and_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"straight-through samplers alone.* soft"):
        trainer(tmp_path, ConfidenceTemperature()).fit(module(net(sampler="soft")), loader())
    with pytest.raises(ValueError, match="0 < lowest"):
        ConfidenceTemperature(highest=0.1)
