"""``lgn validate`` and ``lgn test``: a run is measured with its own settings."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from lgn_lightning.cli.main import main
from tests.cli.conftest import error_of


def test_a_run_is_measured_with_its_own_settings(
    digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(digits_run, "runs/digits/version_0")
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    expected = json.loads((digits_run / "result.json").read_text())["accuracy_hard"]
    assert main(["test", "runs/digits/version_0"]) == 0
    assert "test/acc_hard" in capsys.readouterr().out
    [row] = csv.DictReader(Path("runs/digits/version_0/test.csv").read_text().splitlines())
    assert float(row["test/acc_hard"]) == pytest.approx(expected)
    assert main(["validate", "runs/digits/version_0/checkpoints/last.ckpt", "--data.eval_batch_size=50"]) == 0
    new = {str(path.relative_to("runs/digits/version_0")) for path in Path("runs").rglob("*") if path.is_file()}
    old = {str(path.relative_to("runs/digits/version_0")) for path in before}
    assert new - old == {"test.yaml", "test.csv", "validate.yaml", "validate.csv"}
    assert all(path.read_bytes() == content for path, content in before.items()), "the run stays as it was"


def test_a_checkpoint_brings_its_settings_also_where_a_recipe_is_named(
    digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(digits_run / "checkpoints" / "best.ckpt", "net.ckpt")
    assert main(["test", "digits", "--ckpt_path", "net.ckpt"]) == 0
    output = capsys.readouterr().out
    assert "the settings are those of net.ckpt, in the place of digits.yaml" in output
    assert "test/acc_hard" in output
    assert {path.name for path in here.iterdir()} == {"net.ckpt", "test.yaml", "test.csv"}


def test_a_checkpoint_without_settings_needs_the_recipe(
    digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(digits_run / "checkpoints" / "best.ckpt", weights_only=True)
    for settings in (None, yaml.safe_dump({"model": yaml.safe_load(content["lgn_recipe"])["model"]})):
        torch.save({**content, "lgn_recipe": settings}, "bare.ckpt")
        assert main(["test", "bare.ckpt"]) == 1
        assert "give the recipe, as in `lgn test <recipe> --ckpt_path bare.ckpt`" in error_of(capsys)
    assert main(["test", "digits", "--model.net.width=300", "--model.net.depth=3", "--ckpt_path=bare.ckpt"]) == 0
    assert "test/acc_hard" in capsys.readouterr().out


def test_evaluation_without_a_checkpoint_is_an_error(
    digits_run: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "digits"]) == 1
    assert "needs a trained net: lgn test <run folder or checkpoint>; `lgn fit digits` leaves one" in error_of(capsys)
    assert main(["test"]) == 1
    assert "needs a trained net first: lgn test <run folder or checkpoint>" in error_of(capsys)
    for target in ("nowhere.ckpt", "runs/digits/version_9"):
        assert main(["test", target]) == 1
        assert f"there is no run or checkpoint {target}; runs are in runs/<recipe>/" in error_of(capsys)
    assert list(here.iterdir()) == []
    monkeypatch.chdir(digits_run.parents[2])
    assert main(["test", "digits"]) == 1
    assert "needs a trained net: lgn test runs/digits/version_0" in error_of(capsys)
