"""The plot of accuracy over lookup tables, and the recipes that it trains."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.script import load


def test_lines_become_a_plot(tmp_path: Path) -> None:
    rows = [
        {"recipe": "one", "target": None, "lut6": 1300, "validation": 0.93},
        {"recipe": "one", "target": 1000, "lut6": 990, "validation": 0.91},
        {"recipe": "one", "target": 500, "lut6": 700, "validation": -0.1},  # above its target
        {"recipe": "two", "target": 90, "lut6": 80, "validation": 0.5},
    ]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    load("hardware_price").plot(tmp_path / "lines.jsonl", tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert text.count("<circle") == 3
    for part in ("one", "two", "1,300", "990", "93.0"):
        assert f">{part}<" in text


def test_recipes_have_a_price_and_keep_what_fits() -> None:
    settings = load("hardware_price").recipe_for("digits", 900, 40, ["model.net.init_args.width=200"])
    assert settings["model"]["net"]["init_args"]["width"] == 200
    assert settings["trainer"]["max_steps"] == settings["model"]["lr_scheduler"]["init_args"]["T_max"] == 40
    first, *_, last = settings["trainer"]["callbacks"]
    assert first["init_args"]["monitor"] == "val/score_within"
    assert last["init_args"]["target"] == 900
