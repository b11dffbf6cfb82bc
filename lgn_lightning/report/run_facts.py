"""What a run was: settings, learning rate, time, commit, and what its circuit was checked against."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import yaml

from lgn_lightning.base.settings_text import arguments_of
from lgn_lightning.deploy.folder import ExportedCircuit
from lgn_lightning.report.history import History
from lgn_lightning.runs.folder import RunFolder
from lgn_lightning.training.checkpoint import LoadedNet


def run_facts(run: LoadedNet, history: History) -> list[tuple[str, str]]:
    """Collects them, as names and texts; what is not known is left out."""
    result = RunFolder(run.folder).result or {}
    seed = result.get("seed", run.recipe.get("seed_everything"))
    facts = [
        ("recipe", result.get("recipe") or run.folder.parent.name),
        ("training", f"{result.get('steps', run.step):,} steps" + ("" if seed is None else f", seed {seed}")),
        ("learning rate", _rate(run.recipe.get("model") or {}, history)),
        ("training time", _duration(result.get("train_seconds"))),
        ("hardware", result.get("hardware")),
        ("commit", result.get("commit")),
        ("torch", result.get("torch")),
    ]
    exported = ExportedCircuit.of_checkpoint(run.checkpoint)
    check = None if exported is None else exported.manifest.get("check")
    if check:
        compared = ", ".join(check["compared"])
        facts.append(
            ("verified", f"{compared}: {check['result']} on {check['samples']:,} {check['samples_from']} samples")
        )
    if result.get("compared"):
        compared = f"{result['compared']:,} {result.get('noun', 'images')}"
        facts.append(("verified on the test split", f"compiled C: equal scores on {compared}"))
    return [(name, str(text)) for name, text in facts if text]


def settings_text(run: LoadedNet) -> str:
    """All settings as YAML, without those that are null."""
    return yaml.safe_dump(_without_nulls(run.recipe), sort_keys=False, allow_unicode=True)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _rate(model: dict[str, Any], history: History) -> str:
    """``0.1 at first, 2.7e-06 at last; Adam, CosineAnnealingLR``, as far as settings from a file say so."""
    named = [_class_name(model.get(key)) for key in ("optimizer", "lr_scheduler")]
    first = arguments_of(model.get("optimizer")).get("lr")
    curve = history.get("train/lr")
    rates = [f"{first:g} at first"] if isinstance(first, int | float) else []
    rates += [] if curve is None else [f"{curve[1][-1]:.2g} at last"]
    return "; ".join(part for part in (", ".join(rates), ", ".join(filter(None, named))) if part)


def _class_name(setting: Any) -> str:
    path = setting.get("class_path") if isinstance(setting, dict) else None
    return path.rpartition(".")[2] if isinstance(path, str) else ""


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds:.1f} s" if seconds < 60 else f"{timedelta(seconds=round(seconds))} h:min:s"
