"""What a run was, as far as its settings, which come from a file, say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lgn_lightning.report.history import History
from lgn_lightning.report.run_facts import run_facts
from lgn_lightning.training.checkpoint import open_net

ADAM = "torch.optim.Adam"


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ({"class_path": ADAM, "init_args": {"lr": 0.1}}, "0.1 at first; Adam, CosineAnnealingLR"),
        ({"class_path": ADAM, "init_args": {"lr": "fast"}}, "Adam, CosineAnnealingLR"),
        ({"class_path": ADAM, "init_args": [0.1]}, "Adam, CosineAnnealingLR"),
        ({"class_path": False, "init_args": {"lr": 0.1}}, "0.1 at first; CosineAnnealingLR"),
        ("Adam", "CosineAnnealingLR"),
        (None, "CosineAnnealingLR"),
    ],
)
def test_settings_of_another_kind_are_left_out(run: Path, optimizer: Any, expected: str) -> None:
    loaded = open_net(run)
    recipe = loaded.recipe | {"model": loaded.recipe["model"] | {"optimizer": optimizer}}
    changed = replace(loaded, content=loaded.content | {"lgn_recipe": yaml.safe_dump(recipe)})
    facts = dict(run_facts(changed, History()))
    assert facts["learning rate"] == expected
