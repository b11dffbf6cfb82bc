"""The report: well-formed, self-contained, and every figure equal to one computed another way."""

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
from lgn_lightning.data import Digits
from lgn_lightning.gates import GATE_NAMES
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import logic_layers
from lgn_lightning.report import write_report
from lgn_lightning.report.history import History
from lgn_lightning.report.layers import layer_facts
from lgn_lightning.report.page import Findings, render
from lgn_lightning.report.run import Run
from lgn_lightning.runs.recipes import find_recipe
from lgn_lightning.training.checkpoint import load_net

SHORT = ["--trainer.max_steps=60", "--trainer.val_check_interval=20", "--trainer.enable_model_summary=false"]
SMALL = ["--model.net.width=300", "--model.net.depth=3", *SHORT]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a short training, with its report."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "digits", *SMALL]) == 0
        assert main(["report", "runs/digits/version_0"]) == 0
    return folder / "runs" / "digits" / "version_0"


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def test_images() -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(Digits().test_dataloader())
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return images, labels


def data_of(page: str) -> dict:
    return json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])


def cells(page: str, table: str) -> list[list[str]]:
    text = re.search(rf'<table id="{table}">(.*?)</table>', page, re.DOTALL)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]


def strict_parse(page: str) -> None:
    html5lib = pytest.importorskip("html5lib", reason="html5lib is not installed")
    html5lib.HTMLParser(strict=True).parse(page)


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
    for section in ("training", "gates", "activity", "circuit", "confusion", "throughput"):
        assert f'<section id="{section}">' in page
    for chart in ("accuracy", "gap", "loss", "layer_gap", "entropy", "activity", "passes", "pixels", "piece"):
        assert re.search(rf'<figure id="chart-{chart}">\s*<h3>.*?</h3>\s*<svg class="chart"', page)
    assert 'id="missing"' not in page
    assert "<b>+0.00</b>" in page  # a straight-through net has no gap, not even -0.00
    assert "var(--soft)" in page
    assert "#0" not in re.sub(r"<style>.*?</style>|data:image[^\"]*", "", page, flags=re.DOTALL)  # no stand-in is left


def test_accuracy_and_confusion_are_those_of_the_net(
    run: Path, page: str, test_images: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = test_images
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
    assert f"<b>{100 * accuracy:.2f} %</b><span>hard accuracy, 360 test images" in page
    shown = [[int(text or 0) for text in row[1:]] for row in cells(page, "confusion-table")[1:]]
    assert shown == matrix.tolist()


def test_layers_are_those_of_the_net(run: Path, page: str, test_images: tuple[torch.Tensor, torch.Tensor]) -> None:
    net = load_net(run / "checkpoints" / "best.ckpt")
    entropies = GateEntropy.summary(net)
    x = net[0](test_images[0])
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
    net = load_net(run / "checkpoints" / "best.ckpt")
    circuit = Circuit.from_module(net)
    data = data_of(page)["circuit"]
    assert data["gates"] == 900
    small = circuit.optimize(2)
    by_pass = {name: after for name, _, after in data["passes"]}
    assert by_pass["hash_structure"] >= by_pass["remove_dead_gates"] == small.num_gates
    assert by_pass["map_to_luts"] == circuit.optimize(3).num_gates
    assert data["depth"] == small.stats().depth
    reads = np.zeros(circuit.num_inputs, int)
    for node in [*small.a.tolist(), *small.b.tolist(), *small.outputs.tolist()]:
        if node < circuit.num_inputs:
            reads[node] += 1
    assert np.array(data["pixel_reads"]).tolist() == reads.reshape(-1, 8, 8).sum(0).tolist()


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


def test_checkpoint_as_target_and_other_place(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "here.html"
    assert main(["report", str(run / "checkpoints" / "last.ckpt"), "--out", str(out)]) == 0
    data = data_of(out.read_text())
    assert data["checkpoint"] == "last.ckpt"
    assert data["step"] == 60


def test_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    recipe = yaml.safe_load(checkpoint["lgn_recipe"])
    recipe["data"] = {"class_path": "lgn_lightning.data.MNIST", "init_args": {"root": "nowhere"}}
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


def test_tensorboard_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.chdir(tmp_path)
    logger = ["--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=tb"]
    assert main(["fit", "digits", *SMALL, *logger]) == 0
    folder = next(tmp_path.glob("tb/*/*"))
    page = write_report(folder).read_text()
    assert "From TensorBoard events" in page
    assert '<figure id="chart-accuracy">' in page
    assert '<figure id="chart-entropy">' in page


def test_baseline_without_gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = yaml.safe_load(find_recipe("mnist-mlp-128").read_text())
    recipe["model"]["net"]["init_args"] |= {"in_shape": [1, 8, 8], "width": 16}
    recipe["data"] = {"class_path": "lgn_lightning.data.Digits"}
    Path("mlp.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", "mlp.yaml", *SHORT]) == 0
    page = write_report("runs/mlp/version_0").read_text()
    strict_parse(page)
    assert "cannot become gates" in page
    assert "every gate" not in page
    assert data_of(page)["layers"] == []
    assert data_of(page)["test"]["images"] == 360


def test_nets_of_other_shapes_are_measured_on_plain_tensors(run: Path, page: str) -> None:
    net = load_net(run / "checkpoints" / "best.ckpt")
    images = torch.cat([x for x, _ in Digits().test_dataloader()]).numpy()
    packed, count = layer_facts(net, images)
    plain, same = layer_facts(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Sequential(*net)), images)
    assert count == same == 360
    for left, right in zip(packed, plain, strict=True):
        assert np.array_equal(left.on, right.on)


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
    run = Run("a/b", tmp_path, tmp_path / "best.ckpt", net, {"paper": None}, step=2)
    page = render(Findings(run, history, layers))
    strict_parse(page)
    [note] = re.findall(r"Soft: every gate (.*?)\. Hard", page)
    assert note.endswith(soft)
    assert f"{most}: all gates equally likely" in page
    shares = {text for row in cells(page, "gate-table")[1:] for text in row[1:]}
    assert ("–" in shares) == (arity != 2), "the 16 gates have two inputs: others are not counted"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing", "there is no run or checkpoint"),
        ("empty", "holds no checkpoint"),
        ("broken.ckpt", "cannot be read"),
    ],
)
def test_bad_input_is_one_error(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken.ckpt").write_bytes(b"x" * 100)
    assert main(["report", target]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.html"))


def test_keeps_the_old_report_if_a_new_one_fails(run: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import lgn_lightning.report.page as module

    def fail(_: object) -> str:
        raise OSError("no")

    monkeypatch.setattr(module, "render", fail)
    with pytest.raises(OSError, match="no"):
        write_report(run)
    assert (run / "report.html").read_text() == page
    assert sorted(path.name for path in run.glob("*.html")) == ["report.html"]
