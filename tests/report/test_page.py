"""The page: well-formed, self-contained, and every figure equal to one computed another way."""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lgn_lightning.callbacks import GateEntropy
from lgn_lightning.circuit import Circuit
from lgn_lightning.cli.main import main
from lgn_lightning.data import ImageSet
from lgn_lightning.gates import GATE_NAMES
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import logic_layers
from lgn_lightning.report import write_report
from lgn_lightning.report.circuit_facts import input_reads
from lgn_lightning.report.findings import Findings
from lgn_lightning.report.history import History
from lgn_lightning.report.layers import layer_facts
from lgn_lightning.report.page import render
from lgn_lightning.runs.recipes import find_recipe
from lgn_lightning.training.checkpoint import LoadedNet, load_net
from tests.report.conftest import cells, data_of, strict_parse


def test_is_html5_that_loads_nothing(page: str) -> None:
    strict_parse(page)
    assert "http" not in page
    assert all(link.startswith(("data:", "#")) for link in re.findall(r'\b(?:src|href)="([^"]*)"', page))
    assert not re.search(r"<link|@import|<script src|url\((?!#)", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    # Every reference inside of a drawing has its target.
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_has_every_section_and_chart(page: str) -> None:
    for section in ("about", "training", "gates", "activity", "circuit", "confusion", "throughput"):
        assert f'<section id="{section}">' in page
    for chart in ("accuracy", "gap", "loss", "layer_gap", "rate", "entropy", "activity", "passes", "pixels", "piece"):
        assert re.search(
            rf'<figure id="chart-{chart}">\s*<h3>.*?</h3>\s*(<div class="row">\s*)?<svg class="chart"', page
        )
    assert 'id="missing"' not in page
    assert "<b>+0.00</b>" in page  # a straight-through net has no gap, not even -0.00
    assert "var(--soft)" in page
    assert "#0" not in re.sub(r"<style>.*?</style>|data:image[^\"]*", "", page, flags=re.DOTALL)  # no stand-in is left


def test_says_what_the_run_was(run: Path, page: str) -> None:
    result = json.loads((run / "result.json").read_text())
    facts = dict(cells(page, "about-table"))
    assert facts["recipe"] == "digits"
    assert facts["training"] == "60 steps, seed 0"
    assert facts["training time"] == f"{result['train_seconds']:.1f} s"
    assert facts["commit"] == result["commit"]
    assert re.fullmatch(r"0\.1 at first, [\d.e-]+ at last; Adam, CosineAnnealingLR", facts["learning rate"])
    assert re.fullmatch(r"simulated circuit, .*compiled C: equal on \d+ validation samples", facts["verified"])
    assert facts["verified on the test split"] == "compiled C: equal scores on 360 images"
    settings = yaml.safe_load(html.unescape(re.search(r"<pre>(.*?)</pre>", page, re.DOTALL)[1]))
    assert settings["model"]["net"]["init_args"]["width"] == 300
    assert settings["trainer"]["max_steps"] == 60
    assert "depth: gates from an input to an output" in page
    assert data_of(page)["about"] == {name: html.unescape(text) for name, text in facts.items()}


def test_numbers_have_one_form(run: Path, page: str) -> None:
    shown = re.sub(r"<(script|style|svg|pre)\b.*?</\1>", "", page, flags=re.DOTALL)
    commit = json.loads((run / "result.json").read_text())["commit"]
    shown = shown.replace(str(commit), "")  # one in a hundred is of digits alone
    assert not re.search(r"\d %", shown)
    assert not re.search(r">\d{4,}<", shown), "thousands have commas"
    tiles = re.findall(r"<b>([^<]*)</b><span>images/s, ([^<]*)<", shown)
    assert tiles
    assert {name: rate for rate, name in tiles} == dict(cells(page, "throughput-table")[1:])


def test_accuracy_and_confusion_are_those_of_the_net(run: Path, page: str, test_split: ImageSet) -> None:
    images, labels = test_split
    net = load_net(run / "checkpoints" / "best.ckpt")
    with torch.no_grad():
        predicted = net(images).argmax(1)
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (labels.numpy(), predicted.numpy()), 1)
    data = data_of(page)
    assert data["test"]["confusion"] == matrix.tolist()
    assert data["test"]["images"] == len(labels) == 360
    accuracy = float((predicted == labels).float().mean())
    assert data["test"]["acc_hard"] == pytest.approx(accuracy)
    assert f"<b>{100 * accuracy:.2f}%</b><span>hard accuracy, 360 test images" in page
    shown = [[int(text or 0) for text in row[1:]] for row in cells(page, "confusion-table")[1:]]
    assert shown == matrix.tolist()


def test_layers_are_those_of_the_net(run: Path, page: str, test_split: ImageSet) -> None:
    net = load_net(run / "checkpoints" / "best.ckpt")
    entropies = GateEntropy.summary(net)
    x = net[0](test_split.images)
    for number, (entry, layer) in enumerate(zip(data_of(page)["layers"], logic_layers(net).values(), strict=True), 1):
        assert entry["entropy"] == pytest.approx(entropies[f"gate_entropy/layer_{number}"])
        assert entry["chosen"] == torch.bincount(layer.gates().long(), minlength=16).tolist()
        with torch.no_grad():
            x = layer(x)
        assert entry["ones"] == pytest.approx(float(x.mean()))
        assert entry["constant_outputs"] == int((x == x[0]).all(0).sum())
    table = cells(page, "gate-table")[1:]
    assert [row[0] for row in table] == [name.replace("_", " ") for name in GATE_NAMES]
    assert float(table[3][1]) == pytest.approx(100 * float((net[1].gates() == 3).float().mean()), abs=0.06)


def test_circuit_is_that_of_the_net(run: Path, page: str) -> None:
    circuit = Circuit.from_module(load_net(run / "checkpoints" / "best.ckpt"))
    data = data_of(page)["circuit"]
    small = circuit.optimize(2)
    assert data["gates"] == circuit.num_gates == 900
    assert {name: after for name, _, after in data["passes"]}["map_to_luts"] == circuit.optimize(3).num_gates
    assert data["depth"] == small.stats().depth
    assert np.array(data["pixel_reads"]).tolist() == input_reads(small).reshape(-1, 8, 8).sum(0).tolist()


def test_soft_accuracy_is_shown_for_the_tested_checkpoint_only(run: Path, page: str, tmp_path: Path) -> None:
    rows = (run / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("test/acc_soft")
    logged = next(float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column])
    assert data_of(page)["test"]["acc_soft"] == pytest.approx(logged)
    copy = tmp_path / "version_0"
    shutil.copytree(run, copy)
    text = (copy / "metrics.csv").read_text()
    hard = rows[0].split(",").index("test/acc_hard")
    value = next(row.split(",")[hard] for row in rows[1:] if row.split(",")[hard])
    (copy / "metrics.csv").write_text(text.replace(value, "0.123"))
    assert data_of(write_report(copy).read_text())["test"]["acc_soft"] is None


def test_says_what_is_missing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LGN_DATA_ROOT", str(tmp_path / "nowhere"))
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    recipe = yaml.safe_load(checkpoint["lgn_recipe"])
    recipe["data"] = {"class_path": "lgn_lightning.data.MNIST", "init_args": {"root": "elsewhere"}}
    checkpoint["lgn_recipe"] = yaml.safe_dump(recipe)
    torch.save(checkpoint, tmp_path / "alone.ckpt")
    page = write_report(tmp_path / "alone.ckpt").read_text()
    strict_parse(page)
    missing = re.search(r'<section id="missing">(.*?)</section>', page, re.DOTALL)[1]
    assert "metrics.csv" in missing
    assert "nowhere" in missing
    assert data_of(page)["test"] is None
    assert data_of(page)["circuit"]["gates"] == 900  # what needs neither is there
    for section in ("training", "activity", "confusion", "throughput"):
        assert f'<section id="{section}">' not in page


def test_baseline_without_gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = yaml.safe_load(find_recipe("mnist-mlp-128").read_text())
    recipe["model"]["net"]["init_args"] |= {"in_shape": [1, 8, 8], "width": 16}
    recipe["data"] = {"class_path": "lgn_lightning.data.Digits"}
    Path("mlp.yaml").write_text(yaml.safe_dump(recipe))
    short = ["--trainer.max_steps=20", "--trainer.val_check_interval=10"]
    assert main(["fit", "mlp.yaml", *short]) == 0
    page = write_report("runs/mlp/version_0").read_text()
    strict_parse(page)
    assert "cannot become gates" in page
    assert "every gate" not in page
    assert data_of(page)["layers"] == []
    assert data_of(page)["test"]["images"] == 360


@pytest.mark.parametrize(
    ("arity", "parametrization", "soft", "most"),
    [
        (2, "softmax", "a mixture of the 16 (softmax)", "4 bits"),
        (2, "sigmoid", "each the sigmoid of a weight (sigmoid)", "4 bits"),
        (3, "walsh", "each the sigmoid of a Walsh sum (walsh)", "8 bits"),
    ],
)
def test_says_what_a_soft_gate_is(arity: int, parametrization: str, soft: str, most: str, tmp_path: Path) -> None:
    net = LogicMLP((1, 8, 8), 10, 100, 2, 5.0, arity=arity, parametrization=parametrization).eval()
    layers, _ = layer_facts(net, None)
    curve = ([1, 2], [1.0, 0.5])
    entropies = {f"gate_entropy/layer_{number}": curve for number in (1, 2)}
    history = History("metrics.csv", {"train/loss": curve, **entropies})
    recipe = "model: {net: {class_path: lgn_lightning.models.LogicMLP}}"
    run = LoadedNet(tmp_path / "best.ckpt", net, {"global_step": 2, "lgn_recipe": recipe})
    page = render(Findings(run, history, layers))
    strict_parse(page)
    [note] = re.findall(r"Soft: every gate (.*?)\. Hard", page)
    assert note.endswith(soft)
    assert f"{most}: all gates equally likely" in page
    shares = {text for row in cells(page, "gate-table")[1:] for text in row[1:]}
    assert ("–" in shares) == (arity != 2), "the 16 gates have two inputs: others are not counted"


def test_keeps_the_old_report_if_a_new_one_fails(run: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import lgn_lightning.report.page as module

    def fail(_: object) -> str:
        raise OSError("no")

    monkeypatch.setattr(module, "render", fail)
    with pytest.raises(OSError, match="no"):
        write_report(run)
    assert (run / "report.html").read_text() == page
    assert sorted(path.name for path in run.glob("*.html")) == ["report.html"]
