from __future__ import annotations

from functools import partial

import pytest

from lgn_lightning.training import graph_rules, graphed_training
from lgn_lightning.training.graphed_step import GraphedStep
from tests.training.graph_toy import StandIn


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Every fit trains by a stand-in of a graph, unless something but the device is against it."""
    made = StandIn()
    monkeypatch.setattr(graph_rules, "_device_reason", lambda device: None)
    monkeypatch.setattr(graphed_training, "GraphedStep", partial(GraphedStep, recorder=made))
    return made
