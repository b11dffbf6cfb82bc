"""Slots that have lost are exchanged while a net trains."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import seed_everything
from wire_toy import SHAPE, fit

from lgn_lightning.callbacks import ResampleSlots
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import SlotLayer
from tests.synthetic import SyntheticImages


def net(data: SyntheticImages, connections: str = "slots") -> LogicMLP:
    return LogicMLP(SHAPE, data.num_classes, 20 * data.num_classes, 2, connections=connections, num_candidates=6)


def test_converged_neurons_get_new_slots(tmp_path: Path) -> None:
    seed_everything(1)
    data = SyntheticImages(SHAPE)
    model = net(data)
    layers = [layer for layer in model.modules() if isinstance(layer, SlotLayer)]
    with torch.no_grad():
        layers[0].weights[:7, 1] = 30.0  # so sure that its entropy moves no more
    before = layers[0].slot_a.clone()
    trainer = fit(tmp_path, model, data, ResampleSlots(patience=2, tolerance=1e-3, until=1.0))
    changed = (layers[0].slot_a != before).any(1)
    assert changed[:7].all()
    assert trainer.logged_metrics["resampled/neurons"] >= 7
    assert (layers[0].weights.argmax(1)[:7] == 1).all()


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="decay=1"):
        ResampleSlots(decay=1)
    data = SyntheticImages(SHAPE)
    with pytest.raises(ValueError, match="this net has none; choose connections: slots"):
        fit(tmp_path, net(data, "random"), data, ResampleSlots())
