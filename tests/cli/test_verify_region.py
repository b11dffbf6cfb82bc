"""``lgn verify --robust`` and ``--independent-of``."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lgn_lightning.base.columns import Column, Comparisons, Op
from lgn_lightning.circuit import Circuit
from lgn_lightning.circuit.check import robust
from lgn_lightning.cli.main import main
from lgn_lightning.deploy.source import CircuitSource
from tests.circuit.random_circuits import gates_of
from tests.cli.conftest import error_of

needs_solver = pytest.mark.skipif(not shutil.which("berkeley-abc"), reason="berkeley-abc is not installed")


def bright() -> Circuit:
    """Class 1 if both pixels are above 99; of two pixels."""
    base = gates_of([(8, 0, 1), (7, 0, 1), (1, 0, 1), (1, 0, 1)], [2, 4], inputs=2)
    outputs = np.array([2, 4], np.int32)  # nor, and
    return Circuit(2, base.gates, base.a, base.b, outputs, 2, levels=np.array([99], np.uint8), image_shape=(1, 1, 2))


def old() -> Circuit:
    """Class 1 if age is above 40 and sex is m."""
    columns = (Column("age", "int32"), Column("sex", "category", ("f", "m")))
    comparisons = Comparisons(
        columns, np.array([0, 1], np.int32), np.array([Op.GREATER, Op.EQUAL], np.uint8), np.array([40, 2], np.int64)
    )
    base = gates_of([(14, 0, 1), (1, 0, 1)], [2, 3], inputs=2)
    return Circuit(2, base.gates, base.a, base.b, base.outputs, 2, comparisons=comparisons, class_names=("no", "yes"))


def test_an_image(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bright().save("net.lgn")
    Image.fromarray(np.array([[120, 103]], np.uint8)).save("image.png")
    assert main(["verify", "net.lgn", "--robust", "image.png", "--radius", "3"]) == 0
    assert "proven     image.png, each pixel ±3: class 1" in capsys.readouterr().out
    assert not Path("counterexample.png").exists()
    assert main(["verify", "net.lgn", "--robust", "image.png", "--radius", "4", "--counterexample", "other.png"]) == 1
    out = capsys.readouterr().out
    assert "REFUTED" in out
    assert "other.png: 1 pixels differ, class 0" in out
    with Image.open("other.png") as other:
        found = np.asarray(other)
    assert np.array_equal(found, [[120, 99]])
    assert bright().predict(found[None, None])[0] == 0


def test_rows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old().save("net.lgn")
    Path("rows.csv").write_text("age,sex\n50,m\n30,f\n")
    assert main(["verify", "net.lgn", "--robust", "rows.csv", "--range", "age=±9"]) == 0
    out = capsys.readouterr().out
    assert "proven     row 0: class yes" in out
    assert "proven     row 1: class no" in out
    assert main(["verify", "net.lgn", "--robust", "rows.csv", "--range", "age=+-10", "--range", "sex=any"]) == 1
    assert "REFUTED    row 0: class yes" in capsys.readouterr().out
    assert main(["verify", "net.lgn", "--robust", "rows.csv", "--range", "age=41:200"]) == 0


def test_marks_of_missing_values_are_those_of_the_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An age of 99 that means that there is none stays none, whatever the sex."""
    settings = {"data": {"init_args": {"missing": ["99", "?"]}}}
    source = CircuitSource(Path("run"), old(), settings=settings)
    monkeypatch.setattr("lgn_lightning.cli.verify_region.read_source", lambda *_, **__: source)
    for age, sex in (("99", "m"), ("50", "?")):
        Path("rows.csv").write_text(f"age,sex\n{age},{sex}\n")
        changing = "sex" if age == "99" else "age"
        assert main(["verify", "run", "--robust", "rows.csv", "--range", f"{changing}=any"]) == 0
    Path("rows.csv").write_text("age,sex\n98,m\n")
    assert main(["verify", "run", "--robust", "rows.csv", "--range", "sex=any"]) == 1


def test_a_column(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old().save("net.lgn")
    assert main(["verify", "net.lgn", "--independent-of", "sex"]) == 1
    out = capsys.readouterr().out
    assert "REFUTED    the decision does not depend on 'sex'" in out
    assert out.count("age=") == 2
    assert out.count("class yes") == out.count("class no") == 1


@needs_solver
def test_undecided_has_a_status_of_its_own(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bright().save("net.lgn")
    Image.fromarray(np.array([[120, 103]], np.uint8)).save("image.png")
    monkeypatch.setattr(robust, "decides_alike", None)
    monkeypatch.setattr("lgn_lightning.cli.verify_region.decides_alike", lambda *_: robust.Answer(None, "time was up"))
    assert main(["verify", "net.lgn", "--robust", "image.png"]) == 3
    assert "undecided  image.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows", "--robust", "rows.csv"], "say which columns may change"),
        (["rows", "--robust", "rows.csv", "--range", "age=much"], "give LOW:HIGH"),
        (["rows", "--robust", "rows.csv", "--range", "weight=any"], "no column 'weight'"),
        (["rows", "--independent-of", "weight"], "no column 'weight'"),
        (["rows", "--robust", "rows.csv", "--range", "age=9:1"], "is empty"),
        (["image", "--independent-of", "sex"], "this net takes none"),
        (["image", "--robust", "image.png", "--range", "age=any"], "this net takes none"),
        (["image", "--robust", "image.png", "--radius", "-1"], "0 or more grey levels"),
        (["image", "--robust", "nothing.png"], "there is no image or folder"),
    ],
)
def test_what_cannot_be_asked(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    bright().save("image.lgn")
    old().save("rows.lgn")
    Image.fromarray(np.array([[120, 103]], np.uint8)).save("image.png")
    Path("rows.csv").write_text("age,sex\n50,m\n")
    assert main(["verify", f"{arguments[0]}.lgn", *arguments[1:]]) == 1
    assert message in error_of(capsys)
