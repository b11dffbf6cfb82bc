"""What a callback does at a step it does once, in however many batches the step comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils.data import ConcatDataset, DataLoader

from lgn_lightning.callbacks import (
    ConfidenceTemperature,
    FreezeSlots,
    HardwarePrice,
    RefreshCandidates,
    ResampleSlots,
    SamplerSchedule,
    WirePenalty,
    WireSchedule,
)
from lgn_lightning.models import LogicMLP
from tests.callbacks.callback_toy import CLASSES, SHAPE, images, module, trainer

STRAIGHT = {"sampler": "straight_through", "parametrization": "sigmoid"}


def trained(folder: Path, connections: str, callback: Callback, batches: int) -> tuple[dict[str, Any], Any, Any]:
    """Six steps on one batch, which comes so many times a step: states of net and callback, and what is logged."""
    torch.manual_seed(1)
    options = {} if connections == "slots" else STRAIGHT
    net = LogicMLP(SHAPE, CLASSES, 12, 3, tau=3.0, connections=connections, num_candidates=4, **options)  # type: ignore[arg-type]
    data = DataLoader(ConcatDataset([images(8)] * 8), batch_size=8)
    fit = trainer(folder, callback, max_epochs=-1, max_steps=6, accumulate_grad_batches=batches)
    fit.fit(module(net), data)
    assert fit.global_step == 6
    logged = {name: value for name, value in fit.logged_metrics.items() if "/" in name}
    return net.state_dict(), callback.state_dict(), logged


@pytest.mark.parametrize(
    ("connections", "of"),
    [
        ("learned", lambda: RefreshCandidates(every_n_steps=2, count=1, until=1.0)),
        ("learned", lambda: WireSchedule(every_n_steps=2, until=1.0)),
        ("learned", lambda: SamplerSchedule(start=2.0, end=1.0)),
        ("random", lambda: WirePenalty()),
        ("random", lambda: HardwarePrice(weight=0.1, target=2, every_n_steps=2)),
        ("random", lambda: ConfidenceTemperature(decay=0.9)),
        ("slots", lambda: FreezeSlots(tolerance=1.0, patience=2)),
        ("slots", lambda: ResampleSlots(tolerance=1.0, patience=2, decided=0.2)),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value()).__name__,
)
def test_a_step_of_several_batches_is_one_step(connections: str, of: Any, tmp_path: Path) -> None:
    # Four parts of a gradient add up to it without rounding.
    once, often = (trained(tmp_path / str(batches), connections, of(), batches) for batches in (1, 4))
    for alone, several in zip(once, often, strict=True):
        torch.testing.assert_close(several, alone)
