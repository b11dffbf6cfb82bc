"""What a recurrent net does with its state, logged at validation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning.callbacks import StateActivity
from lgn_lightning.callbacks.state_activity import measure
from lgn_lightning.models import LogicRNN
from lgn_lightning.nn.states import states_of
from lgn_lightning.training.classifier import LogicClassifier
from tests.callbacks.callback_toy import net as dense_net
from tests.callbacks.callback_toy import trainer


def recurrent(sampler: str = "soft", **options: int) -> LogicRNN:
    torch.manual_seed(0)
    return LogicRNN(2, in_bits=3, state=8, width=16, out=4, sampler=sampler, **options).eval()


def test_kept_state_is_not_used() -> None:
    x = torch.randint(2, (20, 5, 3)).bool()
    kept = measure(recurrent(), x)
    assert kept["state/used"] == kept["state/changes"] == kept["state/entropy_last"] == 0
    assert 0 < kept["gap/state_first"] < kept["gap/state_last"] < 1, "soft state drifts from step to step"
    moved = recurrent()
    for parameter in moved.parameters():
        nn.init.normal_(parameter)
    values = measure(moved, x)
    hard = states_of(moved, x)[0][1]
    overall = hard.flatten(0, 1)
    assert values["state/used"] == pytest.approx((overall.min(0).values < overall.max(0).values).float().mean().item())
    assert values["state/changes"] > 0
    assert measure(recurrent("straight_through"), x)["gap/state_last"] == 0


def test_states_are_those_that_outputs_are_made_of() -> None:
    net = recurrent(layers=2)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x = torch.randint(2, (20, 5, 3)).bool()
    (_, first, _), (name, second, _) = states_of(net, x)
    assert name == "2"
    assert first.shape == second.shape == (20, 5, 8)
    cell, bits = net[1].cell, x.float()
    assert torch.equal(cell(bits[:, 3], first[:, 2])[1], first[:, 3])


def test_it_is_logged(tmp_path: Path) -> None:
    x = torch.randint(2, (20, 5, 3)).float()
    data = DataLoader(TensorDataset(x, x[:, 0, 0].long()), batch_size=10)
    fit = trainer(tmp_path, StateActivity())
    fit.fit(LogicClassifier(recurrent().train(), num_classes=2), data, data)
    assert {"state/used", "gap/state_last"} <= fit.callback_metrics.keys()
    assert measure(dense_net(), torch.zeros(2, 1, 2, 3, dtype=torch.uint8)) == {}
