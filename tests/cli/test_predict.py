"""``lgn predict``, by circuit files, checkpoints and runs."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

from lgn_lightning.circuit import LoopedCircuit
from lgn_lightning.cli.main import main
from lgn_lightning.data import Digits
from lgn_lightning.data.border import remove_border
from lgn_lightning.data.decode import decode_files
from lgn_lightning.models import MLP
from lgn_lightning.training.classifier import LogicClassifier
from tests.circuit.random_circuits import random_circuit
from tests.circuit.random_conv_nets import tree_net
from tests.data.conftest import digit_like


def test_predict_images_arrays_and_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    circuit = random_circuit(3, inputs=30, levels=[63, 200], image_shape=(1, 3, 5), class_names=tuple("abcd"))
    circuit.save("net.lgn")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 3, 5)).astype(np.uint8)
    np.save("x.npy", pixels)
    (folder / "images").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image[0]).save(f"images/{index}.png")
    Path("images/._0.png").write_bytes(b"left by macOS")
    expected = circuit.predict(pixels).tolist()
    for inputs in (["x.npy"], ["images"], [f"images/{index}.png" for index in range(4)]):
        assert main(["predict", "net.lgn", *inputs]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [int(row["class"]) for row in rows] == expected
        assert [row["name"] for row in rows] == ["abcd"[k] for k in expected]
    assert main(["predict", "net.lgn", "x.npy", "--scores", "--out", "out.csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(Path("out.csv").read_text())))
    assert [[int(row[f"score_{name}"]) for name in "abcd"] for row in rows] == circuit.scores(pixels).tolist()


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "lightning"):
    sys.modules[name] = None  # an import of it fails
from lgn_lightning.cli.main import main
for arguments in (["x.npy", "--scores"], ["images"]):
    code = main(["predict", "net.lgn", *arguments, "--engine", "interpreter"])
    assert code == 0, code
"""


def test_predict_needs_no_torch(folder: Path) -> None:
    circuit = random_circuit(3, inputs=30, levels=[63, 200], image_shape=(1, 3, 5)).with_preparation("resize")
    circuit.save("net.lgn")
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3)).astype(np.uint8)
    Path("images").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image[: 9 - index, index:]).save(f"images/{index}.png")
    pixels = decode_files(sorted(Path("images").iterdir()), (3, 5), grayscale=True, resize=True).numpy()
    np.save("x.npy", pixels)
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [row.split(",") for row in done.stdout.splitlines() if not row.startswith("input")]
    assert [int(row[1]) for row in rows] == circuit.predict(pixels).tolist() * 2


def test_predict_prepares_images_as_mnist_20_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    circuit = random_circuit(3, inputs=800, levels=[63, 200], image_shape=(1, 20, 20)).with_preparation("remove_border")
    circuit.save("net.lgn")
    pixels = digit_like(4, seed=1)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(f"{index}.png")
    Image.fromarray(remove_border(pixels)[0]).save("cropped.png")
    assert main(["predict", "net.lgn", *(f"{index}.png" for index in range(4)), "cropped.png"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    expected = circuit.predict(remove_border(pixels)).tolist()
    assert [int(row["class"]) for row in rows] == [*expected, expected[0]]
    Image.new("L", (28, 28), 9).save("white.png")
    circuit.with_preparation("squeeze").save("later.lgn")
    for arguments, message in (
        (["net.lgn", "white.png"], "white.png: image 0 has only 0 black rows"),
        (["later.lgn", "0.png"], "prepared by 'squeeze', which this release does not know"),
    ):
        assert main(["predict", *arguments]) == 1
        assert message in capsys.readouterr().err


def test_predict_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (7, 3)).save("wide.png")
    np.save("wide.npy", np.zeros((2, 9), np.uint8))
    np.save("normalised.npy", np.full((2, 1, 3, 5), -0.5))
    np.save("bits.npy", np.zeros((2, 30), np.int64))
    np.save("features.npy", np.zeros((2, 12), np.float32))
    Path("broken.npy").write_bytes(b"\x93NUMPY")
    Path("zip.npy").write_bytes(b"PK\x03\x04" + b"a" * 50)
    np.savez("named.npz", x=np.zeros(9))
    Path("named.npz").rename("named.npy")
    (folder / "empty").mkdir()
    for arguments, message in (
        (["none.lgn", "x.npy"], "there is no file or folder none.lgn"),
        (["net.lgn"], "give what to predict"),
        (["net.lgn", "wide.png"], "is 3×7 pixels, but the net was trained on 3×5"),
        (["net.lgn", "wide.npy"], "samples must be bool"),
        (["net.lgn", "normalised.npy"], "pixels to uint8 from 0 to 255 first: (x * 255).round().astype(np.uint8)"),
        (["net.lgn", "bits.npy"], "convert bits first: x.astype(bool)"),
        (["plain.lgn", "features.npy"], "convert bits first: x.astype(bool)"),
        (["net.lgn", "broken.npy"], "cannot be read as arrays"),
        (["net.lgn", "zip.npy"], "cannot be read as arrays (File is not a zip file)"),
        (["net.lgn", "named.npy"], "named.npy holds arrays by names (x); write one alone"),
        (["net.lgn", "nothing.png"], "there is no image or folder nothing.png"),
        (["net.lgn", "empty"], "no images in empty"),
        (["plain.lgn", "wide.png"], "give bits, as a .npy array of bools"),
        (["net.lgn", "bits.npy", "--threads", "0"], "--threads must be at least 1, got 0"),
    ):
        assert main(["predict", *arguments]) == 1, arguments
        assert message in capsys.readouterr().err


def test_predict_by_a_run_a_checkpoint_and_its_circuit_is_one_thing(
    digits_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(digits_run, "runs/digits/version_0")
    best = Path("runs/digits/version_0/checkpoints/best.ckpt")
    assert main(["predict", "runs/digits", "--scores"]) == 0, "the newest run of the recipe"
    printed = capsys.readouterr()
    assert f"{best} (chosen by validation" in printed.err
    digits = Digits()
    digits.setup("test")
    images, labels = digits.test_samples()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [row["label"] for row in rows] == [str(label) for label in labels.tolist()]
    accuracy = json.loads((digits_run / "result.json").read_text())["accuracy_hard"]
    assert f"accuracy: {accuracy:.2%} of 360 samples" in printed.err
    hits = sum(row["class"] == row["label"] for row in rows)
    assert hits / len(rows) == pytest.approx(accuracy)
    np.save("x.npy", images.numpy())
    assert main(["export", str(best), "--format", "circuit"]) == 0
    capsys.readouterr()
    for source, *inputs in (
        ["runs/digits/version_0", "x.npy"],
        [str(best), "--data", "digits"],
        ["export/lgn_net.lgn", "x.npy"],
        ["export/lgn_net.lgn", "--data", "digits", "--out", "out.csv"],
    ):
        assert main(["predict", source, *inputs, "--scores", "--threads", "2"]) == 0
        out = capsys.readouterr().out
        table = Path("out.csv").read_text() if "--out" in inputs else out
        again = list(csv.DictReader(io.StringIO(table)))
        assert ["label" in row for row in again] == ["--data" in inputs] * 360
        assert again == [{name: row[name] for name in again[0]} for row in rows]
    Image.fromarray(images[0, 0].numpy()).save("one.png")
    assert main(["predict", str(best), "one.png"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"one.png,{rows[0]['class']},{rows[0]['name']}"


def test_predict_by_a_baseline_without_gates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = LogicClassifier(MLP((1, 3, 5), 4, width=8, depth=2), 4)
    trainer = pl.Trainer(max_steps=0, logger=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("mlp.ckpt")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 3, 5)).astype(np.uint8)
    np.save("x.npy", pixels)
    Image.fromarray(pixels[0, 0]).save("0.png")
    scores = module.net.eval()(torch.from_numpy(pixels)).detach()
    assert main(["predict", "mlp.ckpt", "x.npy", "--scores"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["class"]) for row in rows] == scores.argmax(1).tolist()
    assert [float(row["score_3"]) for row in rows] == pytest.approx(scores[:, 3].tolist())
    assert main(["predict", "mlp.ckpt", "0.png"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(f"0.png,{scores[0].argmax()},")
    assert main(["predict", "mlp.ckpt"]) == 1
    assert "does not say where its data are" in capsys.readouterr().err
    assert main(["predict", "mlp.ckpt", "x.npy", "--engine", "numpy"]) == 1, "there is no circuit of it"


def test_predict_the_data_of_a_recipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_circuit(0, inputs=64, levels=[127], image_shape=(1, 8, 8), classes=10).save("digits.lgn")
    assert main(["predict", "digits.lgn", "--data", "digits"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 360


def test_predict_by_a_looped_circuit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    looped = LoopedCircuit.from_module(tree_net())
    looped.save("loops.lgn")
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16)).astype(np.uint8)
    np.save("x.npy", images)
    assert main(["predict", "loops.lgn", "x.npy"]) == 0
    rows = [row.split(",") for row in capsys.readouterr().out.splitlines()[1:]]
    assert [int(row[1]) for row in rows] == looped.predict(images).tolist()


def test_labels_are_the_folders_with_names_of_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    circuit = random_circuit(3, inputs=30, levels=[63, 200], image_shape=(1, 3, 5), class_names=tuple("abcd"))
    circuit.save("net.lgn")
    pixels = np.random.default_rng(1).integers(0, 256, (8, 1, 3, 5)).astype(np.uint8)
    guesses = ["abcd"[k] for k in circuit.predict(pixels)]
    true = [*guesses[:4], *("abcd"[("abcd".index(name) + 1) % 4] for name in guesses[4:])]
    for index, (image, name) in enumerate(zip(pixels, true, strict=True)):
        Path("test", name, "deeper").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(f"test/{name}/deeper/{index}.png")
    Image.fromarray(pixels[0, 0]).save("test/of_no_class.png")
    assert main(["predict", "net.lgn", "test"]) == 0
    printed = capsys.readouterr()
    rows = {Path(row["input"]).stem: row for row in csv.DictReader(io.StringIO(printed.out))}
    assert [rows[str(index)]["label"] for index in range(8)] == true
    assert rows["of_no_class"]["label"] == ""
    assert "accuracy: 50.00% of 8 samples" in printed.err
    assert main(["predict", "net.lgn", f"test/{true[0]}/deeper/0.png"]) == 0
    printed = capsys.readouterr()
    assert "label" not in printed.out + printed.err


def test_predict_takes_arrays_as_people_have_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = (3, 4, 5)
    circuit = random_circuit(3, inputs=120, levels=[63, 200], image_shape=shape)
    circuit.save("colour.lgn")
    random_circuit(4, inputs=40, levels=[63, 200], image_shape=(1, 4, 5)).save("grey.lgn")
    pixels = np.random.default_rng(1).integers(0, 256, (6, *shape)).astype(np.uint8)
    last = pixels.transpose(0, 2, 3, 1)
    for net, arrays in (
        ("colour.lgn", [pixels, last, pixels / 255, pixels.astype(np.int64), last.astype(np.float32)]),
        ("colour.lgn", [pixels[0], last[0], pixels[:1]]),
        ("grey.lgn", [pixels[:, :1], pixels[:, 0], last[..., :1], pixels[:, 0] / np.float32(255)]),
        ("grey.lgn", [pixels[0, 0], pixels[0, :1], last[0, :, :, :1]]),
    ):
        printed = set()
        for array in arrays:
            np.save("x.npy", array)
            assert main(["predict", net, "x.npy", "--scores"]) == 0
            printed.add(capsys.readouterr().out)
        assert len(printed) == 1, net


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_predict_says_that_small_whole_numbers_are_nearly_black(
    dtype: type, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_floats = dtype in (np.float32, np.float64)
    for value, says in ((0, False), (1, not of_floats), (16, True), (200, False)):
        pixels = np.zeros((2, 1, 3, 5), dtype)
        pixels[0, 0, 0, 0] = value
        np.save("x.npy", pixels)
        assert main(["predict", "net.lgn", "x.npy"]) == 0
        assert (f"is {value} of 255, nearly black: scale them" in capsys.readouterr().err) == says


def test_predict_resizes_if_it_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8)).save("large.png")
    assert main(["predict", "net.lgn", "large.png"]) == 1
    assert "--resize" in capsys.readouterr().err
    assert main(["predict", "net.lgn", "large.png", "--resize"]) == 0
