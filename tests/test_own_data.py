"""A folder of images of the user's own, from ``lgn fit`` to ``lgn predict``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lgn_lightning.circuit import load_circuit
from lgn_lightning.cli.main import main
from lgn_lightning.data import ImageFolder
from lgn_lightning.training.checkpoint import load_net

CLASSES = ("ant", "bee", "cat")
FIT = [
    "--data=lgn_lightning.data.ImageFolder",
    "--data.root=my_images",
    "--data.image_size=8",
    "--data.grayscale=true",
    "--data.batch_size=10",
    "--model.net.thresholds=[0.4, 0.6]",
    "--model.net.width=300",
    "--model.net.depth=2",
    "--model.net.num_classes=3",
    "--model.num_classes=3",
    "--trainer.max_steps=6",
    "--trainer.val_check_interval=3",
    "--trainer.enable_model_summary=false",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In ``my_images``: 20 training and 10 test images a class, grey and coloured, of any size."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 10)):
        for label, name in enumerate(CLASSES):
            (tmp_path / "my_images" / part / name).mkdir(parents=True)
            for index in range(count):
                height, width = random.integers(6, 20, 2)
                pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
                pixels[:, label * width // 3 : (label + 1) * width // 3] //= 3  # a dark stripe
                image = Image.fromarray(pixels).convert("L" if index % 2 else "RGB")
                image.save(tmp_path / "my_images" / part / name / f"{index}.png")
    return tmp_path


def test_a_net_predicts_the_folder_that_it_was_trained_on(folder: Path) -> None:
    assert main(["fit", "digits", *FIT]) == 0
    run = folder / "runs/digits/version_0"
    assert json.loads((run / "circuits/best/manifest.json").read_text())["preparation"] == "resize"
    assert main(["export", str(run), "--format", "circuit"]) == 0
    assert main(["export", "export/lgn_net.lgn", "--format", "circuit", "--out", "again"]) == 0
    assert load_circuit("again/lgn_net.lgn").preparation == "resize"
    assert main(["predict", "again/lgn_net.lgn", "my_images/test", "--out", "classes.csv"]) == 0
    rows = list(csv.DictReader(Path("classes.csv").read_text().splitlines()))
    predicted = {str(Path(row["input"])): int(row["class"]) for row in rows}

    data = ImageFolder("my_images", image_size=8, grayscale=True)
    net = load_net(run / "checkpoints/best.ckpt")
    classes = net(data.test_samples()[0]).argmax(1).tolist()
    files = [str(path) for path, _ in data._list("test")]
    assert predicted == dict(zip(files, classes, strict=True))
    assert len(set(classes)) > 1
    assert {row["name"] for row in rows} <= set(CLASSES)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("test", "tests", "my_images/test; put test images into test/<class>/"),
        ("test/bee", "test/bees", "test has class folders that train has not: bees"),
        ("train", "training", "my_images/train; data.root"),
    ],
)
def test_a_wrong_split_is_an_error_before_training(
    folder: Path, capsys: pytest.CaptureFixture[str], source: str, target: str, message: str
) -> None:
    (folder / "my_images" / source).rename(folder / "my_images" / target)
    assert main(["fit", "digits", *FIT]) == 1
    assert message in capsys.readouterr().err
    assert not list(folder.glob("runs/*/*/*"))
