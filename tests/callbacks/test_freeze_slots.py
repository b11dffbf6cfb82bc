from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lgn_lightning.callbacks import FreezeSlots
from lgn_lightning.circuit import Circuit
from lgn_lightning.models import LogicMLP
from tests.callbacks.callback_toy import CLASSES, SHAPE, images, loader, module, trainer


def net() -> LogicMLP:
    torch.manual_seed(1)
    return LogicMLP(SHAPE, CLASSES, width=12, depth=3, connections="slots", num_candidates=4, tau=3.0)


def test_layers_freeze_one_by_one_and_the_rest_trains_on_their_gates(tmp_path: Path) -> None:
    of, callback = net(), FreezeSlots(tolerance=1.0, patience=2)
    before = [of[number].weights.detach().clone() for number in (1, 2, 3)]
    trainer(tmp_path, callback, max_epochs=-1, max_steps=3).fit(module(of), loader(batch_size=4))
    assert callback.frozen == 1  # followed from the first step on, then steady for two
    assert [of[number].frozen for number in (1, 2, 3)] == [True, False, False]
    kept = of[1].weights.detach().clone()
    fit = trainer(tmp_path, callback, max_epochs=-1, max_steps=9)
    fit.fit(module(of), loader(batch_size=4))
    assert fit.logged_metrics["frozen/layers"] == callback.frozen == 2  # the last layer goes on
    assert torch.equal(of[1].weights, kept)
    assert not any(torch.equal(of[number].weights, start) for number, start in zip((1, 2, 3), before, strict=True))
    x = torch.stack([pixels for pixels, _ in images(24)])
    of.train()
    bits = of[2](of[1](of[0](x)))
    assert set(bits.unique().tolist()) <= {0.0, 1.0}
    of.eval()
    assert torch.equal(of[2](of[1](of[0](x))), bits)
    counts = (of(x) * 3).round().int().numpy()
    assert (Circuit.from_module(of).scores(x.numpy()) == counts).all()


def test_frozen_layers_stay_after_a_resume(tmp_path: Path) -> None:
    of, callback = net(), FreezeSlots()
    callback.load_state_dict({"frozen": 1, "mean": 0.5, "steady": 3})
    assert callback.state_dict() == {"frozen": 1, "mean": 0.5, "steady": 3}
    weights = of[1].weights.detach().clone()
    trainer(tmp_path, callback, max_steps=2).fit(module(of), loader())
    assert torch.equal(of[1].weights, weights)
    assert of[2].weights.requires_grad


def test_bad_arguments_and_nets_without_slots(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        FreezeSlots(patience=0)
    with pytest.raises(ValueError, match="this net has 0; choose connections: slots"):
        trainer(tmp_path, FreezeSlots()).fit(module(), loader())
