"""``lgn validate`` and ``lgn test``: a run is measured with its own settings."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

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


def edited(run: Path, place: str, **changes: Any) -> Path:
    """A checkpoint whose settings someone else wrote: another part of them, or all of it."""
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    recipe = yaml.safe_load(content["lgn_recipe"])
    part = recipe
    for key in place.split("."):
        part = part[key]
    part.update(changes)
    torch.save({**content, "lgn_recipe": yaml.safe_dump(recipe)}, "net.ckpt")
    return Path("net.ckpt")


def test_nothing_else_of_a_checkpoint_is_built(
    digits_run: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("evil.py").write_text("import pathlib\npathlib.Path('canary').touch()\nclass Touch: pass\n")
    monkeypatch.syspath_prepend(str(here))
    evil = {"class_path": "evil.Touch"}
    path = edited(digits_run, "trainer", callbacks=[evil], logger=evil, plugins=[evil], strategy="evil", precision="x")
    edited_model = yaml.safe_load(torch.load(path, weights_only=True)["lgn_recipe"])["model"]
    assert edited_model["optimizer"]
    assert main(["test", "net.ckpt"]) == 0
    assert "test/acc_hard" in capsys.readouterr().out
    edited(digits_run, "model", optimizer=evil, lr_scheduler=evil, compile=True)
    assert main(["validate", "net.ckpt"]) == 0
    for place, changes in (("model", {"net": evil}), ("model", {"loss": evil}), ("data", evil)):
        edited(digits_run, place, **changes)
        assert main(["test", "net.ckpt"]) == 1
        assert "names the class evil.Touch" in (error := error_of(capsys))
        assert "lgn test net.ckpt --trust-modules evil" in error
    assert not Path("canary").exists()
    assert main(["test", "net.ckpt", "--trust-modules", "evil"]) == 1
    assert Path("canary").exists(), "trusted, so imported"


@pytest.mark.parametrize(
    "net",
    [
        {"class_path": "torch.nn.Identity"},
        {"class_path": "torch.nn.Linear", "init_args": {"in_features": 5, "out_features": 3}},
        {"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 1, "out_channels": 2, "kernel_size": 20}},
    ],
    ids=lambda net: net["class_path"],
)
def test_nets_that_nobody_can_have_trained_are_one_error(
    digits_run: Path, here: Path, net: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = edited(digits_run, "model", net={"class_path": net["class_path"], "init_args": net.get("init_args", {})})
    content = torch.load(path, weights_only=True)
    built = getattr(torch.nn, net["class_path"].rpartition(".")[2])(**net.get("init_args", {}))
    content["state_dict"] = {f"net.{name}": value for name, value in built.state_dict().items()}
    torch.save(content, path)
    for command in ("test", "predict", "report", "export"):
        assert main([command, str(path)]) == 1
        error = error_of(capsys)
        assert error.count("error: ") == 1
        assert "Traceback" not in error


def test_more_names_than_scores_are_one_error(digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load(digits_run / "checkpoints" / "best.ckpt", weights_only=True)
    torch.save({**content, "lgn_class_names": list("012345678")}, "net.ckpt")
    assert main(["predict", "net.ckpt"]) == 1
    assert "there are 9 names of classes, and 10 scores" in error_of(capsys)


def test_data_are_looked_for_where_the_user_says(
    digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mnist = {"class_path": "lgn_lightning.data.MNIST", "init_args": {"root": "/far", "download": True}}
    edited(digits_run, "data", **mnist)
    assert main(["test", "net.ckpt"]) == 1
    error = error_of(capsys)
    assert "names root '/far', which is not followed: lgn test net.ckpt --data.root /far takes it" in error
    assert f"not found in {here / 'data'}" in error
    assert main(["test", "net.ckpt", f"--data.root={here / 'near'}", "--data.download=false"]) == 1
    assert f"not found in {here / 'near'}" in (error := error_of(capsys))
    assert "/far" not in error


def test_weights_that_do_not_fit_are_one_error(
    digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(digits_run / "checkpoints" / "best.ckpt", weights_only=True)
    del content["lgn_sha256"]
    weights = content["state_dict"]
    for changes in (
        {"net.1.weights": weights["net.1.weights"][:-1]},
        {"net.1.indices_a": weights["net.1.indices_a"] + 10_000},
        {"net.1.indices_a": "[0, 1]"},
        {"net.9.weights": torch.zeros(3)},
    ):
        torch.save({**content, "state_dict": weights | changes}, "net.ckpt")
        for command in (["test"], ["export", "--out", "x"]):
            assert main([command[0], "net.ckpt", *command[1:]]) == 1
            assert "lgn: error: checkpoint net.ckpt" in error_of(capsys)
