"""A layer and a callback of another package: installed, named in a recipe, trained, exported and verified."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lgn_lightning import Circuit
from lgn_lightning.cli.main import main

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed as a user would install it, into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    copy = tmp_path_factory.mktemp("source")  # a build leaves files beside the sources
    for path in PLUGIN.rglob("*"):
        if path.suffix in (".py", ".toml"):
            target = copy / path.relative_to(PLUGIN)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", folder, copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_recipe_trains_exports_and_verifies(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    assert main(["fit", str(PLUGIN / "majority.yaml"), "--trainer.max_steps=300", "--model.net.width=500"]) == 0
    run = tmp_path / "runs" / "majority" / "version_0"
    result = json.loads((run / "result.json").read_text())
    # The whole net became gates, and its C answers as the hard net does (`lgn fit` compares every test image).
    assert result["compared"] == 360
    assert result["accuracy_c"] == result["accuracy_hard"] > 0.8
    with (run / "metrics.csv").open() as file:
        undecided = [float(row["majority/undecided"]) for row in csv.DictReader(file) if row.get("majority/undecided")]
    assert len(undecided) == 3
    assert 0 < undecided[-1] < undecided[0] < 1  # the layer learns: its inputs make up their minds
    capsys.readouterr()
    assert main(["verify", str(run)]) == 1
    assert f"lgn verify {run} --trust-modules majority_gates" in capsys.readouterr().err
    assert main(["verify", str(run), "--trust-modules", "majority_gates"]) == 0
    assert "NOT EQUAL" not in capsys.readouterr().out


def test_circuit_of_the_layer_is_the_layer(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    from majority_gates import MajorityLayer

    layer = MajorityLayer(9, 40).eval()
    x = torch.rand(200, 9) > 0.5
    assert np.array_equal(Circuit.from_module(layer).scores(x.numpy()), layer(x).int().numpy())
    with pytest.raises(ValueError, match="needs 3 inputs"):
        MajorityLayer(2, 4)
