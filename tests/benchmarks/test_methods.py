"""The comparison of training methods, with a stand-in for the training and once with a real one of a few steps."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lgn_lightning.base.errors import RecipeError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    yield import_module("methods"), import_module("methods_report")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def methods(modules: Any) -> Any:
    return modules[0]


CONTENT = yaml.safe_load((BENCHMARKS / "methods.yaml").read_text())


@pytest.fixture
def trained(methods: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets a run be trained by writing its result; the list fills with the names of the runs."""
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def fit(arguments: list[str]) -> int:
        recipe, name = Path(arguments[1]), arguments[2].partition("=")[2]
        names.append(f"{recipe.stem}/{name}")
        folder = Path("runs", recipe.stem, name)
        folder.mkdir(parents=True)
        if name.startswith("tuning"):
            settings = yaml.safe_load(recipe.read_text())
            rate, tau = settings["model"]["optimizer"]["init_args"]["lr"], settings["model"]["net"]["init_args"]["tau"]
            score = 0.9 - abs(rate - 0.1) - (0.0 if tau > 6 else 0.01)
            (folder / "metrics.csv").write_text(
                f"step,train/loss,val/acc_hard\n9,1.0,\n9,,{score}\n19,,{score - 0.1}\n"
            )
            return 0
        seed = int(name.rpartition("-")[2])
        if "walsh" in recipe.stem:
            return 1
        result = {
            **{"accuracy_hard": 0.9 + seed / 100, "accuracy_soft": 0.93, "gates": 8000, "steps": 2000, "metric": "acc"},
            **{"gates_exported": None, "monitor": "val/acc_hard", "validation": 0.95, "hardware": "a stand-in"},
            **{"train_seconds": 7.0, "train_cpu_seconds": 5.0, "torch": "2.11", "commit": "0123456789"},
        }
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "cost.json").write_text('{"gates_exported": 4000, "lut6": 3000}')
        return 0

    monkeypatch.setattr(methods, "fit", fit)
    return names


RUN = ["run", "digits", "--gates", "8000", "--seeds", "0-1", "--methods"]


def test_lines_tables_and_nothing_trained_twice(modules: Any, trained: list[str], tmp_path: Path) -> None:
    methods, report = modules
    assert methods.main([*RUN, "original", "light"]) == 0
    assert len(set(trained)) == len(trained) == 4
    lines = [json.loads(text) for text in Path("results", "methods", "lines.jsonl").read_text().splitlines()]
    assert [(line["method"], line["seed"]) for line in lines] == [
        ("original", 0),
        ("original", 1),
        ("light", 0),
        ("light", 1),
    ]
    assert methods.main([*RUN, "original", "light"]) == 0
    (tmp_path / "runs").rename(tmp_path / "elsewhere")  # lines alone are enough
    assert methods.main([*RUN, "original", "light"]) == 0
    assert len(trained) == 4
    page = Path("page.md")
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert report.main(["--write", str(page), "--plot", "."]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert re.search(
        r"\| `light` \| 0.03, 1 \(untuned\) \| 2 \| .* \| 90.50 ± 0.71 \| \+2.50 \| 4,000 \| 3,000 \| 5 \|", text
    )
    assert "| `warp` | not measured |" in text
    assert "spam 8,000" in text
    assert len(list(Path().glob("ladder-*.svg"))) == 3


def test_a_new_tuning_replaces_the_runs_of_the_old_one(modules: Any) -> None:
    _, report = modules
    cell = {"kind": "run", "dataset": "spam", "size": 8000, "method": "light", "budget": "steps", "tuned": True}
    lines = [cell | {"rate": rate, "tau": 1, "seed": seed} for rate in (0.3, 1.0) for seed in (0, 1)]
    lines += [cell | {"budget": "60 s", "rate": 0.3, "tau": 1, "seed": 0}]
    tried = [
        {"kind": "tuning", "dataset": "spam", "method": "light", "rate": rate, "tau": 1, "validation": score}
        for rate, score in ((0.3, 0.94), (1.0, 0.95), (0.1, 0.93))
    ]
    for order in (lines, lines[::-1]):  # of files, which are read by name: a shard's old lines may come last
        found = {(line["budget"], line["rate"], line["seed"]) for line in report.current_runs([*tried, *order])}
        assert found == {("steps", 1.0, 0), ("steps", 1.0, 1), ("60 s", 0.3, 0)}


def test_shards_share_the_cells_and_see_each_others_lines(methods: Any, trained: list[str]) -> None:
    names = ["original", "light", "gumbel"]
    assert methods.main([*RUN, *names, "--shard", "1/2"]) == 0
    assert len(trained) == 4
    assert methods.main([*RUN, *names, "--shard", "2/2"]) == 0
    assert len(set(trained)) == len(trained) == 6
    assert methods.main([*RUN, *names]) == 0
    assert len(trained) == 6
    assert {file.name for file in Path("results", "methods").iterdir()} == {"shard-1-of-2.jsonl", "shard-2-of-2.jsonl"}


def test_a_failed_run_is_named_and_the_others_go_on(
    methods: Any, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert methods.main([*RUN, "walsh", "light"]) == 1
    said = capsys.readouterr()
    assert "method='walsh'" in said.err
    assert "digits-8000-light" in said.out


def test_the_tuning_chooses_by_validation(methods: Any, trained: list[str]) -> None:
    assert methods.main(["tune", "digits", "--methods", "light"]) == 0
    assert len(trained) == 6
    lines = methods.read_lines(Path("results", "methods"))
    cell = methods.Cell("digits", "light", 8000)
    assert methods.chosen(lines, cell, methods.Ladder(CONTENT)) == methods.Choice(0.1, 2)
    assert methods.chosen(lines, methods.Cell("digits", "warp", 8000), methods.Ladder(CONTENT)).tuned is False
    assert methods.main(["tune", "digits", "--methods", "light"]) == 0
    assert len(trained) == 6


def test_a_best_rate_at_an_end_is_no_end(methods: Any, trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    content = {**CONTENT, "tuning": {**CONTENT["tuning"], "rates": [0.3, 1.0], "beyond": [0.1, 3.0]}}
    Path("methods.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(methods, "METHODS", Path("methods.yaml"))
    assert methods.main(["tune", "digits", "--methods", "light"]) == 0
    lines = methods.read_lines(Path("results", "methods"))
    assert [(line["rate"], line["tau"]) for line in lines] == [(0.3, 1), (1.0, 1), (0.1, 1), (0.1, 0.5), (0.1, 2)]


def test_equal_processor_time_follows_from_equal_steps(methods: Any, trained: list[str]) -> None:
    timed = [*RUN, "light", "--cpu-seconds", "10"]
    assert methods.main(timed) == 1  # the time of a step is not known
    assert methods.main([*RUN, "light"]) == 0
    assert methods.main(timed) == 0
    lines = methods.read_lines(Path("results", "methods"))
    assert [line["budget"] for line in lines] == ["steps", "steps", "10 s", "10 s"]
    recipe = yaml.safe_load(Path("runs/recipes/digits-8000-light.yaml").read_text())
    assert recipe["trainer"]["max_steps"] == 4000  # 5 s were 2,000


def test_a_method_inherits_settings_and_callbacks(methods: Any) -> None:
    ladder = methods.Ladder(CONTENT)
    recipe = ladder.recipe(methods.Cell("digits", "ours-best", 8000), methods.Choice(0.1, 2), 1000)
    net, callbacks = recipe["model"]["net"]["init_args"], recipe["trainer"]["callbacks"]
    assert (net["sampler"], net["connections"], net["num_candidates"]) == ("straight_through", "learned", 16)
    assert (net["width"], net["depth"], net["tau"]) == (2000, 4, 9.899)
    assert recipe["model"]["parameter_groups"] == {"*.learned.logits": {"lr": 0.03}}
    assert [callback["class_path"].rpartition(".")[2] for callback in callbacks] == [
        "ModelCheckpoint",
        "RefreshCandidates",
    ]
    assert recipe["model"]["lr_scheduler"]["init_args"]["T_max"] == 1000
    circle = {"methods": {"a": {"like": "b"}, "b": {"like": "a"}}, "datasets": CONTENT["datasets"]}
    with pytest.raises(RecipeError, match="a → b → a"):
        methods.Ladder(circle).recipe(methods.Cell("digits", "a", 8000), methods.Choice(1, 1), 10)
    with pytest.raises(RecipeError, match="there is no method 'c'"):
        ladder.recipe(methods.Cell("digits", "c", 8000), methods.Choice(1, 1), 10)


def test_a_damaged_line_is_named(methods: Any, tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text('{"run": "a"}\n{"run": ')
    with pytest.raises(RecipeError, match=r"lines\.jsonl, line 2"):
        methods.read_lines(tmp_path)


@pytest.mark.parametrize("method", list(CONTENT["methods"]))
def test_every_method_is_accepted_by_fit(
    methods: Any, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds net, data and trainer of each method, as `lgn fit` would; a rehearsal trains one step."""
    from lgn_lightning.cli.training_cli import TrainingCLI

    monkeypatch.chdir(tmp_path)
    content = {**CONTENT, "datasets": {"digits": {**CONTENT["datasets"]["digits"], "depth": {600: 2}}}}
    cell = methods.Cell("digits", method, 600)
    recipe = methods.write_recipe(cell, methods.Ladder(content).recipe(cell, methods.Choice(0.1, 1), 20))
    quiet = ["--trainer.fast_dev_run=1", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
    TrainingCLI("fit", recipe, quiet)


@pytest.mark.soak
def test_a_real_run(methods: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = {**CONTENT["datasets"]["digits"], "depth": {1200: 4}, "steps": {1200: 40}}
    monkeypatch.setattr(methods.yaml, "safe_load", lambda _: {**CONTENT, "datasets": {"digits": dataset}})
    assert methods.main(["run", "digits", "--methods", "straight-through", "--seeds", "0"]) == 0
    line = json.loads(Path("results", "methods", "lines.jsonl").read_text())
    assert line["gates"] == 1200
    assert line["accuracy_hard"] == line["accuracy_soft"]
    assert line["lut6"] > 0
    assert line["train_cpu_seconds"] > 0


def test_one_method_whose_seeds_fall_apart_does_not_blur_the_others(modules: Any) -> None:
    rng = np.random.default_rng(0)
    scores = [list(rng.normal(97, 0.3, 3)) for _ in range(300)]
    deviation = modules[1]._usual_deviation
    assert deviation(scores) == pytest.approx(0.3, rel=0.1)
    assert deviation([*scores, [97.0, 60.0, 20.0]]) == pytest.approx(0.3, rel=0.1)
    assert deviation([[97.0], [98.0]]) == 0


def test_a_signal_ends_the_training_too(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(BENCHMARKS)!r})
import methods
def work():
    while True:
        Path("alive").open("a").write(".")
        time.sleep(0.02)
methods.in_child(work, Path("log.txt"))
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) as process:
        end = time.monotonic() + 120
        while not (tmp_path / "alive").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 143
    written = (tmp_path / "alive").stat().st_size
    time.sleep(0.2)
    assert (tmp_path / "alive").stat().st_size == written
