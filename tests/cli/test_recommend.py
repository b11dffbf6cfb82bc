"""`lgn recommend`: a recipe for data that nobody has seen, which `lgn fit` takes as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lgn_lightning.cli.main import main

#: A rehearsal of a recipe, which builds all of it and trains a step.
REHEARSAL = ["--trainer.fast_dev_run=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]

PARTS = ("train", "test")


def recommended(given: list[str], capsys: pytest.CaptureFixture[str], rehearse: bool = True) -> tuple[str, dict]:
    """What the command writes, and its settings; `lgn fit` takes it."""
    capsys.readouterr()
    assert main(["recommend", "--data", *given]) == 0
    text = capsys.readouterr().out
    Path("my.yaml").write_text(text)
    if rehearse:
        assert main(["fit", "my.yaml", *REHEARSAL]) == 0
    return text, yaml.safe_load(text)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_images(
    folder: Path, sizes: list[tuple[int, int]], colour: bool, parts: tuple[str, ...] = ("train", "test")
) -> None:
    chance = np.random.default_rng(0)
    for part in parts:
        for label, name in enumerate(("dark", "light")):
            (folder / part / name).mkdir(parents=True)
            for number in range(12):
                height, width = sizes[number % len(sizes)]
                pixels = chance.integers(0, 128, (height, width, 3), np.uint8) + 120 * label
                pixels = pixels if colour else np.repeat(pixels[:, :, :1], 3, axis=2)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{number}.png")


def test_a_known_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    text, settings = recommended(["Digits"], capsys)
    assert settings["model"]["net"]["init_args"]["thresholds"] == "auto"
    assert "1,221 images train, 1 channel of 8 × 8 pixels, 10 classes" in text
    assert "17 grey levels" in text
    assert "digits" in text.partition("tuned by hand")[2].partition("paper:")[0]
    assert settings["trainer"]["max_steps"] == settings["model"]["lr_scheduler"]["init_args"]["T_max"] == 2000
    lines = text.partition("paper:")[2].splitlines()
    bare = [line for line in lines if ": " in line and "#" not in line and "class_path" not in line]
    assert {line.split(":")[0].strip() for line in bare} <= {"num_classes", "title", "init_args"}  # all others say why


def test_thresholds_that_fit_are_found_anew_by_fit(capsys: pytest.CaptureFixture[str]) -> None:
    recommended(["Digits", "--gates", "1000"], capsys, rehearse=False)
    quiet = [
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=2",
        "--run_name=a",
        "--trainer.enable_progress_bar=false",
    ]
    assert main(["fit", "my.yaml", *quiet, "--trainer.limit_test_batches=0"]) == 0
    used = yaml.safe_load(Path("runs/my/a/config.yaml").read_text())["model"]["net"]["init_args"]["thresholds"]
    assert len(used) == 7
    assert used == sorted(used)


def test_a_folder_of_grey_images_of_many_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(Path("photos"), [(90, 60), (120, 80), (100, 70)], colour=False)
    _, settings = recommended(["photos"], capsys)
    data = settings["data"]["init_args"]
    assert data["root"] == "photos"
    assert data["grayscale"] is True
    assert data["image_size"] == [48, 32]
    assert settings["model"]["net"]["init_args"]["in_shape"] == [1, 48, 32]


def test_the_size_is_that_of_most_images(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(Path("photos"), [(32, 32)] * 10 + [(8, 32), (12, 32)], colour=False)
    _, settings = recommended(["photos"], capsys, rehearse=False)
    assert settings["data"]["init_args"]["image_size"] == [32, 32]


def test_a_net_too_narrow_for_all_thresholds_has_quantiles(capsys: pytest.CaptureFixture[str]) -> None:
    for part in PARTS:
        for label, name in enumerate("ab"):
            Path("dark", part, name).mkdir(parents=True)
            for number in range(12):
                pixels = (np.linspace(0, 9, 64 * 64).reshape(64, 64) ** 2 + 40 * label + number).astype(np.uint8)
                Image.fromarray(pixels).save(f"dark/{part}/{name}/{number}.png")
    text, settings = recommended(["dark", "--gates", "9000"], capsys)
    thresholds = settings["model"]["net"]["init_args"]["thresholds"]
    assert len(thresholds) == 2
    assert max(thresholds) < 0.5  # no pixel is brighter
    assert "recommended for dark" in text
    wide = text.partition("--gates ")[2].partition("want --gates ")[2].split()[0]
    _, settings = recommended(["dark", "--gates", wide], capsys)
    assert settings["model"]["net"]["init_args"]["thresholds"] == "auto"


@pytest.mark.parametrize(
    ("side", "given", "expected", "local"),
    [
        (16, [], [0], False),
        (16, ["--gates", "1800"], None, True),
        (12, [], None, False),
        (16, ["--net", "tree"], [0], False),
    ],
)
def test_images_of_many_grey_levels_read_edges_and_others_have_wires_from_nearby(
    side: int, given: list[str], expected: list[int] | None, local: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless they are tiny, or the first layer has few gates for so many bits."""
    chance = np.random.default_rng(0)
    for part in PARTS:
        for label in range(8):  # a grey each: seven thresholds tell them apart
            Path("greys", part, f"{label}").mkdir(parents=True)
            for number in range(6):
                pixels = (32 * label + chance.integers(0, 30, (side, side))).astype(np.uint8)
                Image.fromarray(pixels).save(f"greys/{part}/{label}/{number}.png")
    _, settings = recommended(["greys", *given], capsys, rehearse="--net" not in given)
    net = settings["model"]["net"]["init_args"]
    assert net["thresholds"] == "auto"
    assert net.get("edges") == expected
    callbacks = [callback["class_path"].rpartition(".")[2] for callback in settings["trainer"]["callbacks"]]
    assert ("LocalCandidates" in callbacks) == local


def test_a_folder_of_colour_images_of_one_size_without_a_test(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(Path("photos"), [(16, 20)], colour=True, parts=("train",))
    assert main(["recommend", "--data", "photos", "--net", "tree"]) == 0
    said = capsys.readouterr()
    settings = yaml.safe_load(said.out)
    assert settings["model"]["net"]["class_path"].endswith("LogicTreeNet")
    assert settings["model"]["net"]["init_args"]["channels"] == [32, 128, 512]
    assert "image_size" not in settings["data"]["init_args"]
    assert "put images into photos/test/<class>/" in said.err


def test_trees_for_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(Path("photos"), [(16, 16)], colour=True)
    text, _ = recommended(["photos", "--net", "tree"], capsys, rehearse=False)
    assert "HorizontalFlip" in text
    smaller = ["--model.net.channels=[4,8,8]", "--model.net.dense=[200,100,60]"]
    assert main(["fit", "my.yaml", *REHEARSAL, *smaller]) == 0


@pytest.mark.parametrize("task", ["class", "number"])
def test_a_table(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    chance = np.random.default_rng(0)
    x, kind = chance.normal(size=400), chance.choice(["a", "b"], 400)
    y = np.where(x > 0, "yes", "no") if task == "class" else 3 * x
    pd.DataFrame({"x": x, "kind": kind, "y": y}).to_csv("my table.csv", index=False)
    text, settings = recommended(["my table.csv", "--target", "y"], capsys)
    data = settings["data"]["init_args"]
    assert (data["path"], data["target"]) == ("my table.csv", "y")
    assert data["thresholds"] == (32 if task == "class" else 64)
    assert settings["trainer"]["callbacks"][0]["init_args"]["monitor"] is None  # as the recipe `table`
    assert "304 rows train, 2 columns: 1 category, 1 float32" in text
    assert "lgn recommend --data 'my table.csv' --target y" in text


@pytest.mark.parametrize("name", ["0x1F", ".inf", "1_000_", "no", "2026-01-01", "größe", "a b"])
def test_names_that_look_like_numbers_stay_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"x": range(400), name: ["p", "q"] * 200}).to_csv("t.csv", index=False)
    _, settings = recommended(["t.csv", f"--target={name}"], capsys)
    assert settings["data"]["init_args"]["target"] == name


def test_what_the_data_module_is_told_stands_in_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    chance = np.random.default_rng(0)
    x, days = chance.normal(size=400), pd.date_range("2026-01-01", periods=400).strftime("%Y-%m-%d")
    table = pd.DataFrame({"day": days, "x": x, "y": np.where(x > 0, "yes", "no")})
    table.to_csv("t.csv", index=False)
    assert main(["recommend", "--data", "t.csv", "--target", "y"]) == 1
    assert "--data.drop '[day]'" in capsys.readouterr().err  # what it says is what the command takes
    given = ["--data.target=y", "--data.drop", "[day]", "--data.batch_size=50", "--data.thresholds", "5"]
    text, settings = recommended(["t.csv", *given, "--data.val_fraction=0.1"], capsys)
    data = settings["data"]["init_args"]
    chosen = {"target": "y", "drop": ["day"], "batch_size": 50, "thresholds": 5, "val_fraction": 0.1}
    assert data == {"path": "t.csv", **chosen}
    steps = settings["trainer"]["max_steps"]
    assert f"{steps * 50 / 288:,.0f} passes over 288 samples" in text
    assert "--data.drop '[day]' --data.batch_size=50" in text  # the command in its head


def test_colours_and_size_of_images_are_as_told(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(Path("photos"), [(90, 60), (120, 80)], colour=False)
    _, settings = recommended(
        ["photos", "--net=dense", "--data.grayscale=false", "--data.image_size=[8,8]"], capsys, rehearse=False
    )
    assert settings["data"]["init_args"]["grayscale"] is False
    assert settings["model"]["net"]["init_args"]["in_shape"] == [3, 8, 8]


def test_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    chance = np.random.default_rng(0)
    labels = np.repeat(["up", "down"], 20)
    x = chance.normal(size=(40, 9, 2)).cumsum(1).astype(np.float32)
    np.savez("series.npz", x=x, y=labels)
    text, settings = recommended(["series.npz"], capsys)
    assert "9 to 9 steps of 2 channels, 2 classes" in text
    assert settings["model"]["net"]["init_args"]["steps"] == 9


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["nowhere"], "no such path, and no data module"),
        (["tt.csv", "--target", "b"], "tt.csv: there is no such path"),
        (["./runs/tt", "--target", "b"], "./runs/tt: there is no such path"),
        (["t.csv"], "--target <column>; t.csv has a, b"),
        (["Digits", "--gates", "50"], "100 or more"),
        (["Digits", "--gates", "1000", "--net", "tree"], "dense nets"),
        (["GameOfLife"], "there are no rules for GameOfLife"),
        (["empty"], "train"),
        (["t.csv", "--target", "b", "--data.dorp", "[a]"], "dorp: there is no such key; did you mean drop?"),
        (["t.csv", "--target", "b", "--data.thresholds"], "--data.<key> <value>"),
        (["t.csv", "--target", "b", "--trainer.max_steps", "9"], "--trainer.max_steps: it takes --data.<key> <value>"),
        (["t.csv", "--target", "b", "--data.batch_size", "many"], "expected int"),
    ],
)
def test_what_cannot_be_recommended_is_one_error(
    given: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("t.csv").write_text("a,b\n1,2\n")
    Path("empty").mkdir()
    try:
        code = main(["recommend", "--data", *given])
    except SystemExit as end:  # of argparse
        code = int(str(end.code))
    said = capsys.readouterr()
    assert code in (1, 2)
    assert error in said.err
    assert said.out == ""
