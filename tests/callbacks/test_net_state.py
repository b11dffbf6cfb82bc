"""A callback object that has trained one net trains another as a new object would."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lgn_lightning.callbacks import FpgaCost, FreezeSlots, ScoreSaturation
from lgn_lightning.models import LogicMLP
from tests.callbacks.callback_toy import CLASSES, SHAPE, loader, module, trainer
from tests.callbacks.changing import each_changing, net_for


def trained(folder: Path, net: LogicMLP, callback: Callback) -> tuple[Any, ...]:
    """States after six steps, and what was logged."""
    torch.manual_seed(0)
    fit = trainer(folder, callback, max_epochs=-1, max_steps=6)
    fit.fit(module(net), loader(batch_size=4))
    return net.state_dict(), callback.state_dict(), fit.logged_metrics


@each_changing
def test_another_net_begins_anew(connections: str, of: Any, tmp_path: Path) -> None:
    used = of()
    trained(tmp_path, net_for(connections, seed=2), used)
    again = trained(tmp_path, net_for(connections), used)
    torch.testing.assert_close(again, trained(tmp_path, net_for(connections), of()), rtol=0, atol=0)


def test_a_state_that_was_given_is_kept_and_pickled(tmp_path: Path) -> None:
    callback, net = FreezeSlots(), net_for("slots")
    callback.load_state_dict({"frozen": 1, "mean": None, "steady": 0})
    for _ in range(2):  # the same net goes on
        trained(tmp_path, net, callback)
        assert callback.frozen == 1
    assert pickle.loads(pickle.dumps(callback)).frozen == 1


def test_another_net_is_measured_and_warned_of_anew(tmp_path: Path) -> None:
    def warnings_of(callback: Callback, net: Any) -> list[str]:
        with pytest.warns() as caught:
            trainer(tmp_path, callback).fit(module(net), loader(), loader())
        return [str(w.message) for w in caught]

    class Unknown(LogicMLP):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * (2.0 if x.sum() > 0 else 1.0)

    costs = FpgaCost()
    assert any("FpgaCost logs nothing" in text for text in warnings_of(costs, Unknown(SHAPE, CLASSES, 12, 2)))
    known = trainer(tmp_path, costs)
    known.fit(module(), loader(), loader())
    assert known.logged_metrics["fpga/lut6"] > 0
    saturation = ScoreSaturation(limit=1.01)
    for _ in range(2):
        sharp = LogicMLP(SHAPE, CLASSES, 12, 2, tau=0.01)
        assert any("the scores saturate" in text for text in warnings_of(saturation, sharp))
