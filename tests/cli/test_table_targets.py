"""A table's targets from CSV to predictions, report and cross-validation, as a user types it."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lgn_lightning.circuit import load_circuit
from lgn_lightning.circuit.simulate import pack_bits, unpack_bits
from lgn_lightning.cli.main import main
from lgn_lightning.cli.reproduce import Reproduction
from lgn_lightning.report.gate_diagram import node_values
from lgn_lightning.runs.recipes import find_recipe
from tests.circuit.random_circuits import random_bits, random_circuit

SMALL = ["--model.net.width=200", "--trainer.max_steps=300", "--trainer.val_check_interval=100"]


def table(path: Path) -> Path:
    generator = np.random.default_rng(0)
    x, kind = generator.normal(size=160), generator.choice(["a", "b"], 160)
    y = 20 * (x > 0) + 10 * (kind == "a") + generator.normal(size=160)
    frame = pd.DataFrame({"x": x, "kind": kind, "y": y, "hot": (x > 0.5).astype(int), "cold": (x < -0.5).astype(int)})
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("recipe", ["table", "digits"], ids=["newest kept", "best kept"])
def test_without_validation_the_end_of_the_training_is_kept(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = [f"--data.path={table(tmp_path / 't.csv')}", "--data.target=kind"] if recipe == "table" else []
    small = [*SMALL, "--model.net.width=300", "--data.val_fraction=0"]
    assert main(["fit", recipe, *own, *small]) == 0
    result = json.loads(Path(f"runs/{recipe}/version_0/result.json").read_text())
    assert result["checkpoint"] == "checkpoints/last.ckpt"
    assert result["accuracy_c"] == pytest.approx(result["accuracy_hard"])


def test_a_table_with_the_classes_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    data = table(tmp_path / "t.csv")
    assert main(["fit", "table", f"--data.path={data}", "--data.target=kind", *SMALL, "--run_name=kinds"]) == 0
    frame = pd.read_csv(data)
    frame.loc[0, "kind"], frame.loc[1, "kind"] = None, "neither"
    frame.to_csv("new.csv", index=False)
    capsys.readouterr()
    assert main(["predict", "runs/table/kinds", "new.csv", "--out", "p.csv"]) == 0
    told = capsys.readouterr().err
    assert "target 'kind' has neither, no class of the net" in told
    assert "not used" not in told
    found = pd.read_csv("p.csv")
    assert found["label"].fillna("").tolist() == ["", "", *frame["kind"][2:]]
    hits = (found["class"] == frame["kind"])[2:]
    assert 0.5 < hits.mean() < 1
    assert f"accuracy: {hits.mean():.2%} of {len(frame) - 2} samples" in told
    frame.drop(columns="kind").to_csv("bare.csv", index=False)
    assert main(["predict", "runs/table/kinds", "bare.csv", "--out", "q.csv"]) == 0
    assert "accuracy" not in capsys.readouterr().err
    assert pd.read_csv("q.csv").equals(found.drop(columns="label"))


def test_marks_of_missing_values_are_those_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.read_csv(table(tmp_path / "t.csv"))[["x", "hot", "kind"]]
    frame["kind"] = np.where(frame["x"] > 0, "a", "b")
    frame.loc[::4, "x"] = -99.0
    frame["hot"] = frame["hot"].astype(str).where(np.arange(160) % 5 > 0, "?")
    frame.to_csv("t.csv", index=False)
    own = ["--data.path=t.csv", "--data.target=kind", '--data.missing=["-99", "?"]']
    assert main(["fit", "table", *own, *SMALL[:1], "--trainer.max_steps=20", "--trainer.val_check_interval=20"]) == 0
    frame.replace({"x": {-99.0: None}, "hot": {"?": None}}).to_csv("gaps.csv", index=False)
    for name in ("t", "gaps"):
        assert main(["predict", "runs/table", f"{name}.csv", "--out", f"of_{name}.csv"]) == 0
    assert Path("of_t.csv").read_text() == Path("of_gaps.csv").read_text()


def test_a_number_from_csv_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    data = table(tmp_path / "t.csv")
    of_number = ["--data.path", str(data), "--data.target=y", "--data.drop=[hot,cold]"]
    assert main(["fit", "table", *of_number, *SMALL, "--run_name=number"]) == 0
    result = json.loads(Path("runs/table/number/result.json").read_text())
    assert result["metric"] == "r2"
    assert result["accuracy_c"] == pytest.approx(result["accuracy_hard"])
    assert result["metrics"]["rmse_hard"] > 0
    assert main(["predict", "runs/table/number", "t.csv", "--out", "p.csv"]) == 0
    rows = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    truth = pd.read_csv(data)["y"]
    assert np.corrcoef([float(row["value"]) for row in rows], truth)[0, 1] > 0.7
    assert main(["report", "runs/table/number", "--data.root", str(data)]) == 0
    page = Path("runs/table/number/report.html").read_text()
    found = json.loads(page.partition('id="report-data">')[2].partition("</script>")[0])
    assert found["test"]["R²"] == pytest.approx(result["accuracy_hard"], abs=1e-5)
    assert len(found["flips"]["columns"]) == 2
    assert max(found["flips"]["columns"]) > 0
    assert 'id="bit-table"' in page
    assert "NOT EQUAL" not in capsys.readouterr().out


def test_several_labels_from_csv_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = table(tmp_path / "t.csv")
    of_labels = ["--data.path", str(data), "--data.target=[hot,cold]", "--data.drop=[y]"]
    assert main(["fit", "table", *of_labels, *SMALL, "--run_name=labels"]) == 0
    assert main(["predict", "runs/table/labels", "t.csv", "--out", "p.csv"]) == 0
    rows = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    frame = pd.read_csv(data)
    for name in ("hot", "cold"):
        assert ([int(row[name]) for row in rows] == frame[name]).mean() > 0.8
    assert main(["report", "runs/table/labels", "--data.root", str(data)]) == 0
    circuit = main(["export", "runs/table/labels", "--format", "circuit", "--out", "exported"])
    assert circuit == 0
    assert load_circuit(next(Path("exported").glob("*.lgn"))).class_names == ("hot", "cold")


def test_folds_are_trained_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = table(tmp_path / "t.csv")
    changes = [f"--data.path={data}", "--data.target=hot", "--data.drop=[y,cold]", *SMALL]
    job = Reproduction.of(find_recipe("table"), overrides=changes, folds=2)
    ran: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        ran.append(arguments)
        return main(arguments)

    result = job.run([0], run)
    assert [(r.seed, r.fold) for r in result.runs] == [(0, 0), (0, 1)]
    assert [arguments[0] for arguments in ran] == ["fit", "verify"] * 2
    assert result.runs[0].accuracy_hard != result.runs[1].accuracy_hard or result.accuracy == 100
    assert job.settings != Reproduction.of(find_recipe("table"), overrides=changes).settings
    rows = {json.dumps(json.loads((job.folder(0, f).result_file).read_text())["available"]) for f in (0, 1)}
    assert rows == {"64"}, "the test split of a fold is that half of the training rows"


def test_values_of_nodes_are_those_of_the_simulation() -> None:
    circuit = random_circuit(3, inputs=8, gates=40)
    bits = random_bits(circuit, 20)
    every = circuit.with_gates(circuit.gates, circuit.operands, np.arange(48, dtype=np.int32))
    values = unpack_bits(every.simulate(pack_bits(bits)), 20)
    assert [node_values(circuit, row).tolist() for row in bits] == values.tolist()
