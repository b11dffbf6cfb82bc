"""A table of the user's own, from ``lgn fit`` to ``lgn predict``, ``verify`` and ``report``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lgn_lightning.circuit import load_circuit
from lgn_lightning.cli.main import main
from lgn_lightning.data import Table
from lgn_lightning.training.checkpoint import load_net
from tests.synthetic import write_table

FIT = [
    "fit",
    "table",
    "--data.path=my.csv",
    "--data.target=kind",
    "--model.net.width=60",
    "--trainer.max_steps=8",
    "--trainer.val_check_interval=4",
    "--trainer.enable_model_summary=false",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and a run on it."""
    folder = tmp_path_factory.mktemp("table")
    write_table(folder / "my.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(FIT) == 0
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_sizes_that_the_recipe_leaves_open_are_in_the_run(here: Path) -> None:
    config = yaml.safe_load((here / "runs/table/version_0/config.yaml").read_text())
    assert config["model"]["num_classes"] == config["model"]["net"]["init_args"]["num_classes"] == 3
    assert config["model"]["net"]["init_args"]["num_bits"] == Table("my.csv", "kind").num_bits


def test_columns_are_shown_before_training(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--trainer.fast_dev_run=true"]) == 0
    said = capsys.readouterr().out
    assert "float64" in said, "the column `when` needs it"
    assert all(name in said for name in ("size", "count", "key", "when", "is big", "colour"))


def test_a_run_and_its_circuit_predict_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv("my.csv").drop(columns="kind")[["colour", "when", "key", "is big", "size", "count"]]
    frame.loc[0, "colour"] = "pink"
    frame = frame.astype({"when": "Float64"})
    frame.loc[1:3, "when"] = None
    frame.assign(more=1).to_csv("new.csv", index=False)
    assert main(["predict", "runs/table", "new.csv", "--out", "p.csv", "--scores"]) == 0
    said = capsys.readouterr().err
    assert "colour: 1 values" in said
    assert "when: 3 values are missing, and none was in training" in said
    assert "size:" not in said, "it has missing values in training, too"
    assert "more" in said
    assert main(["export", "runs/table", "--format", "circuit", "--out", "circuit"]) == 0
    assert main(["predict", "circuit/lgn_net.lgn", "new.csv", "--out", "q.csv", "--scores"]) == 0
    assert Path("p.csv").read_text() == Path("q.csv").read_text()
    rows = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    assert [int(row["row"]) for row in rows] == list(range(len(frame)))
    assert {row["class"] for row in rows} <= {"a", "b", "c"}
    assert all(0.333 <= float(row["probability"]) <= 1 for row in rows)
    circuit, net = load_circuit("circuit/lgn_net.lgn"), load_net("runs/table")
    data = Table("my.csv", "kind")
    samples = data.test_samples()[0]
    scores = net(samples).numpy() * circuit.tau
    assert np.array_equal(circuit.scores(samples.numpy()), np.rint(scores).astype(int))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda frame: frame.drop(columns="size"), "'size'"),
        (lambda frame: frame.rename(columns={"colour": "color"}), "'color' is nearest"),
        (lambda frame: frame.assign(count=1.5), "1.5"),
        (lambda frame: frame.assign(size="big"), "'big'"),
    ],
)
def test_tables_that_do_not_fit(change, says: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    change(pd.read_csv("my.csv")).to_csv("bad.csv", index=False)
    assert main(["predict", "runs/table", "bad.csv", "--out", "bad_out.csv"]) == 1
    assert says in capsys.readouterr().err
    assert not Path("bad_out.csv").exists()


def test_everything_that_is_made_of_it_is_equal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "runs/table", "--no-proof"]) == 0
    said = capsys.readouterr().out
    assert "equal      hard net in torch" in said
    assert "equal      encoder" in said


def test_the_report_shows_columns(here: Path) -> None:
    assert main(["report", "runs/table", "--data-root", "my.csv"]) == 0
    page = (here / "runs/table/version_0/report.html").read_text()
    assert 'id="column-table"' in page
    assert "test rows" in page
    data = json.loads(page.partition('id="report-data">')[2].partition("</script>")[0].replace("<\\/", "</"))
    assert data["test"] is not None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["--data.target=kin"], "'kind'"),
        (["--data.path=no.csv"], "no.csv"),
        (["--data.drop=[colr]"], "'colour'"),
    ],
)
def test_settings_that_do_not_fit(
    settings: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in Path("runs/table").iterdir())
    assert main([*FIT, *settings]) == 1
    assert says in capsys.readouterr().err
    assert sorted(path.name for path in Path("runs/table").iterdir()) == before


@pytest.mark.parametrize(
    ("target", "task", "model", "columns"),
    [
        ("price", "number", "number", ["row", "value"]),
        ("is big", "class", "yes_no", ["row", "class", "probability"]),
        ("[is big]", "labels", "labels", ["row", "is big"]),
    ],
)
def test_other_targets(
    target: str, task: str, model: str, columns: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.read_csv(write_table(tmp_path / "my.csv"), dtype_backend="numpy_nullable")
    frame.drop(columns="when").assign(price=np.arange(len(frame)) / 7).to_csv("my.csv", index=False)
    assert main([*FIT, f"--data.target={target}", f"--data.task={task}", f"--model.target={model}"]) == 0
    pd.read_csv("my.csv").drop(columns=target.strip("[]")).to_csv("new.csv", index=False)
    assert main(["predict", "runs/table", "new.csv", "--out", "p.csv"]) == 0
    assert main(["export", "runs/table", "--format", "circuit", "--out", "c"]) == 0
    assert main(["predict", "c/lgn_net.lgn", "new.csv", "--out", "q.csv"]) == 0
    assert Path("p.csv").read_text() == Path("q.csv").read_text()
    assert Path("p.csv").read_text().splitlines()[0].split(",") == columns


def test_a_table_of_other_categories_is_not_measured(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its codes would be others: green would be taken for red."""
    frame = pd.read_csv("my.csv", dtype_backend="numpy_nullable")
    frame["colour"] = frame["colour"].replace("blue", "pink")
    frame.to_csv("pink.csv", index=False)
    for command in (
        ["test", "runs/table", "--data.path=pink.csv"],
        ["predict", "runs/table", "--data-root", "pink.csv"],
    ):
        assert main(command) == 1
        assert "trained on 'colour' (category, blue" in capsys.readouterr().err
    assert main(["predict", "runs/table", "pink.csv", "--out", "pink_classes.csv"]) == 0
