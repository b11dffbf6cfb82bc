"""Callbacks that change a net while it trains, each with wires that it is for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
from tests.callbacks.callback_toy import CLASSES, SHAPE

each_changing = pytest.mark.parametrize(
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


def net_for(connections: str, seed: int = 1) -> LogicMLP:
    """A net of three layers with these wires."""
    torch.manual_seed(seed)
    options: dict[str, Any] = (
        {} if connections == "slots" else {"sampler": "straight_through", "parametrization": "sigmoid"}
    )
    return LogicMLP(SHAPE, CLASSES, 12, 3, tau=3.0, connections=connections, num_candidates=4, **options)
