"""What the pages tell a reader to type is typed here: files are written, commands run, programs compiled."""

from __future__ import annotations

import importlib
import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lgn_lightning import LogicLayer
from lgn_lightning.circuit import Circuit
from lgn_lightning.cli.main import main
from lgn_lightning.models import LogicMLP
from tests.circuit.tools import needs_abc
from tests.docs.pages import DOCS, NARROW, SHORT, blocks, follow

IMAGES = DOCS / "images"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a short demo."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "digits", *SHORT, NARROW]) == 0
    return folder / "runs"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(run: Path, folder: Path) -> Path:
    """A folder in which the demo was run."""
    shutil.copytree(run, folder / "runs")
    return folder


def test_quickstart(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = follow(DOCS / "quickstart.md", monkeypatch, capsys)
    left = {path.name for path in (folder / "runs/digits/version_0").iterdir()}
    assert {"config.yaml", "metrics.csv", "checkpoints", "circuits", "result.json", "report.html"} <= left
    assert "\nequal" in said
    assert len((folder / "predictions.csv").read_text().splitlines()) == 1 + 360


def test_own_data(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = follow(DOCS / "own_data.md", monkeypatch, capsys)
    assert sorted(path.name for path in (folder / "runs/digits").iterdir()) == ["version_0", "version_1"]
    [head, *rows] = said.partition("input,")[2].splitlines()
    assert head.endswith("score_one,score_two,score_zero"), "the circuit names the classes"
    assert sum(row.split(",")[2] == "two" for row in rows) > 0.7 * len(rows) > 10


@needs_abc
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="no Icarus Verilog")
@pytest.mark.soak
def test_streams(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "streams.md").read_text()
    page = folder / "page.md"
    # Without the data of others, and the training that tests/cli/test_streams.py does.
    kept, _, rest = text.partition("## Sequences of your own")
    page.write_text(kept + "## A stream" + rest.partition("## A stream")[2].partition("## Cellular automata")[0])
    said = follow(page, monkeypatch, capsys, shorten=False)
    assert "so all sequences" in said
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "|".join(lines).count("1 odd|0 odd|1 even|1 odd") == 3, "Python, C and Verilog"
    assert "PASS 64 steps" in said


def test_a_parametrization_of_ones_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = blocks(DOCS / "plugins.md")
    [(place, block)] = [(place, block) for place, block in enumerate(found) if block.title == "mygates.py"]
    Path("mygates.py").write_text(block.text)
    monkeypatch.syspath_prepend(str(folder))
    monotone = importlib.import_module("mygates").MonotoneGates
    exec(found[place + 1].text, {"LogicMLP": LogicMLP, "Circuit": Circuit, "MonotoneGates": monotone})
    for sampler in ("soft", "gumbel", "straight_through"):
        torch.manual_seed(0)
        layer = LogicLayer(20, 60, parametrization=monotone(), sampler=sampler)
        x = torch.rand(100, 20).round()
        layer(x).sum().backward()
        assert layer.weights.grad is not None
        assert layer.weights.grad.abs().sum() > 0
        hard = layer.parametrization.hard_table(layer.weights)
        index = 2 * x[:, layer.indices[0]].long() + x[:, layer.indices[1]].long()
        expected = hard[torch.arange(60), index].float()
        with torch.no_grad():
            assert torch.equal(layer.eval()(x), expected)
        assert np.array_equal(Circuit.from_module(layer).scores(x.numpy() > 0.5), expected.int().numpy())
    given = ["--model.net.parametrization={class_path: mygates.MonotoneGates}", "--model.net.sampler=soft"]
    assert main(["fit", "digits", *SHORT, NARROW, *given]) == 0
    assert main(["verify", "runs/digits/version_0", "--no-proof", "--trust-modules", "mygates"]) == 0
    assert main(["fit", "digits", *SHORT, NARROW, "--model.net.parametrization=mygates.MonotoneGates"]) == 1
    assert '{"class_path": "mygates.MonotoneGates"}' in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_python(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = follow(DOCS / "python.md", monkeypatch, capsys)
    hard = re.search(r"hard accuracy ([\d.]+)%", said)
    assert hard is not None
    assert float(hard[1]) > 80
    assert "\nequal" in said
    assert {path.suffix for path in (folder / "circuit").iterdir()} >= {".c", ".h", ".lgn", ".v"}
    assert (folder / "exported" / "lgn_net.c").is_file()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_deploy(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = follow(DOCS / "deploy.md", monkeypatch, capsys)
    classes = (trained / "classes.txt").read_text().split()
    predicted = (trained / "predictions.csv").read_text().split()[1:]
    assert classes == [line.split(",")[2] for line in predicted]
    assert len(set(classes)) == 10
    # packed.c prints the scores of a sample of zeros and of one of ones.
    circuit = Circuit.load(trained / "circuit" / "lgn_net.lgn")
    bits = np.stack([np.zeros(circuit.num_inputs, bool), np.ones(circuit.num_inputs, bool)])
    zeros, ones = (" ".join(map(str, row)) for row in circuit.scores(bits))
    assert f"{zeros}\n{ones}\n" in said


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_tables(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = follow(DOCS / "tables.md", monkeypatch, capsys)
    rows = (folder / "predictions.csv").read_text().splitlines()
    assert rows[0] == "row,class,probability"
    assert len(rows) == 1 + 20
    assert "\n".join(rows) in said, "the circuit file gives the same"
    assert "\nequal" in said
    assert re.search(r"^class_[012]$", said, re.MULTILINE), "the C program named a class"
    assert re.search(r"^\w+ > [\d.]+$", said, re.MULTILINE)


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="no iverilog")
@pytest.mark.skipif(shutil.which("yosys") is None, reason="no yosys")
def test_fpga(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = follow(DOCS / "fpga.md", monkeypatch, capsys)
    assert "PASS 64 vectors" in said
    assert re.search(r"^all +[\d,]+ +[\d,]+ +\d+ +[\d,]+$", said, re.MULTILINE)
    assert ("proven for all inputs" in said) == (shutil.which("berkeley-abc") is not None)


def test_pictures_of_the_concepts_are_those_that_their_script_draws(tmp_path: Path) -> None:
    runpy.run_path(str(IMAGES / "concepts.py"))["main"](tmp_path)
    drawn, kept = ({path.name: path.read_text() for path in f.iterdir()} for f in (tmp_path, IMAGES / "concepts"))
    assert drawn == kept, "run: python docs/images/concepts.py docs/images/concepts"
    assert {f"images/concepts/{name}" for name in kept} == set(
        re.findall(r"images/concepts/\w+\.svg", (DOCS / "concepts.md").read_text())
    )


def test_the_picture_of_the_rooms_shows_the_contracts(tmp_path: Path) -> None:
    runpy.run_path(str(IMAGES / "house.py"))["house"]().save(tmp_path / "house.svg")
    kept = (IMAGES / "house.svg").read_text()
    assert (tmp_path / "house.svg").read_text() == kept, "run: python docs/images/house.py docs/images/house.svg"
