"""``lgn reproduce``: seeds, going on with killed runs, budgets, and that a row says what was done."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lgn_lightning.base.errors import ExportError, LgnError
from lgn_lightning.cli import run_result
from lgn_lightning.cli.main import main
from lgn_lightning.cli.reproduce import Reproduction
from lgn_lightning.cli.results import append_result, read_results
from lgn_lightning.runs.folder import RunFolder
from lgn_lightning.runs.recipes import find_recipe
from tests.killed_runs import kill_at_step, run_lgn

STEPS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small digits recipe, reproduced with two seeds, the second of which was killed once."""
    folder = tmp_path_factory.mktemp("reproduce")
    content = yaml.safe_load(find_recipe("digits").read_text())
    content["paper"]["accuracy"] = 50.0
    content["model"]["net"]["init_args"] |= {"width": 300, "depth": 2}
    content["trainer"] |= {"max_steps": STEPS, "val_check_interval": 5, "enable_progress_bar": False}
    (folder / "small.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        job = Reproduction.of(Path("small.yaml"))
        killed = []

        def fit(arguments: list[str]) -> int:
            if "--seed_everything=5" in arguments:
                killed.append(run_lgn(arguments, kill_at_step(12)))
                return killed[0]
            return run_lgn(arguments)

        with pytest.raises(LgnError, match=r"seed 5 stopped with exit code -9.*resumes it"):
            job.run([3, 5], fit)
        assert killed == [-signal.SIGKILL]
        append_result(job.run([5, 3], run_lgn))
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_a_row_holds_one_run_a_seed_of_equal_settings(here: Path) -> None:
    [result] = read_results()
    assert [run.seed for run in result.runs] == [3, 5]
    assert {run.steps for run in result.runs} == {STEPS}
    assert {run.gates for run in result.runs} == {600}
    assert all(run.gates_exported is None or 0 < run.gates_exported < 600 for run in result.runs)
    assert result.runs[0].accuracy_hard != result.runs[1].accuracy_hard, "another seed is another net"
    for run in result.runs:
        files = list(Path("runs/small").glob(f"*-seed-{run.seed}/result.json"))
        assert len(files) == 1, "a killed run is gone on with"
        values = json.loads(files[0].read_text())
        assert (values["seed"], values["accuracy_hard"]) == (run.seed, run.accuracy_hard)
        assert values["commit"] == run.commit
    assert result.to_paper == pytest.approx(
        100 * (result.runs[0].accuracy_hard + result.runs[1].accuracy_hard) / 2 - 50
    )


def test_what_is_trained_is_not_trained_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("results/small.json").read_bytes()
    arguments = ["reproduce", "small.yaml", "--seeds", "3,5", "--data.root", "elsewhere"]
    assert main(arguments) == 0, "where the data lies changes nothing"
    assert Path("results/small.json").read_bytes() == before
    output = capsys.readouterr().out
    assert output.count("trained already") == 2
    assert "2 seeds" in output


@pytest.mark.parametrize("key", ["trainer.max_steps", "model.lr_scheduler.T_max", "model.lr_scheduler.init_args.T_max"])
def test_a_budget_and_a_number_that_it_shrinks_are_refused(key: str) -> None:
    name = key.replace(".init_args", "")
    with pytest.raises(LgnError, match=f"--budget shrinks {name}: give the number or the budget"):
        Reproduction.of(find_recipe("digits"), 0.1, [f"--{key}=90"])
    assert Reproduction.of(find_recipe("digits"), 1, [f"--{key}=90"]).shrunk == []


def test_other_data_of_ones_own_are_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("a", "1"), ("b", "2"), ("c/a", "1")):
        (tmp_path / name / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "train" / "x.csv").write_text(text)
        (tmp_path / name / "train" / "image.png").write_bytes(text.encode() * int(text))
    file, folder = "train/x.csv", "--data=lgn_lightning.data.ImageFolder"

    def made(recipe: str, *overrides: str) -> Reproduction:
        return Reproduction.of(find_recipe(recipe), overrides=overrides)

    tables = [made("table", f"--data.root={tmp_path / name / file}") for name in "ab"]
    assert tables[0].settings != tables[1].settings
    assert tables[0].settings == made("table", f"--data.init_args.root={tmp_path / 'c/a' / file}").settings
    assert tables[0].changes == ["data.root=x.csv"]
    images = [made("digits", folder, f"--data.root={tmp_path / name}") for name in "ab"]
    assert images[0].settings != images[1].settings
    assert images[0].settings == made("digits", folder, f"--data.root={tmp_path / 'c/a'}").settings
    for name, one in zip("ab", images, strict=True):
        monkeypatch.setenv("LGN_DATA_ROOT", str(tmp_path / name))
        assert made("digits", folder).settings == one.settings
    known = [made("mnist", f"--data.root={tmp_path / name}") for name in "ab"]
    assert known[0].settings == known[1].settings == made("mnist").settings
    assert known[0].changes == []
    foreign = [made("digits", "--data=of_mine.Data", f"--data.root={tmp_path / name}").settings for name in "ab"]
    assert foreign[0] != foreign[1]


def test_a_run_whose_c_differs_from_its_net_is_no_result(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differs(*_: object) -> None:
        raise ExportError("lgn_net.c disagrees with the hard net on 3 of 360 test samples")

    monkeypatch.setattr(run_result, "with_compiled", differs)
    job = Reproduction.of(Path("small.yaml"))
    for _ in range(2):  # the second time it is trained already
        with pytest.raises(LgnError, match=r"compiled C that is not its net: lgn_net\.c disagrees"):
            job.run([11], main)
    assert capsys.readouterr().out.count("trained already") == 1


def test_other_settings_are_another_row_and_shown(here: Path) -> None:
    job = Reproduction.of(Path("small.yaml"), 0.5, ["--model.net.tau=5", "--logger=csv"])
    assert job.changes == ["model.net.tau=5"]
    result = job.run([3], run_lgn)
    [run] = result.runs
    assert run.steps == STEPS // 2
    assert result.settings != Reproduction.of(Path("small.yaml"), 0.5).settings
    config = yaml.safe_load(job.folder(3).config.read_text())
    assert config["model"]["net"]["init_args"]["tau"] == 5
    append_result(result, Path("other"))
    append_result(result, Path("other"))
    assert read_results(Path("other")) == [result], "the same runs are one row"
    assert result.budget == 0.5
    assert result.deviation is None


def test_a_budget_shortens_schedules_and_validations_with_the_training() -> None:
    job = Reproduction.of(find_recipe("mnist-48k-st"), 0.01)
    assert set(job.shrunk) == {
        "--trainer.max_steps=400",
        "--trainer.val_check_interval=400",
        "--model.lr_scheduler.init_args.T_max=400",
    }
    assert Reproduction.of(find_recipe("mnist-48k-st"), 0.5).shrunk.count("--trainer.max_steps=20000") == 1
    assert Reproduction.of(find_recipe("mnist-48k-st")).shrunk == []


def test_a_budget_s_arguments_are_accepted_by_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(find_recipe("mnist-48k-st").read_text())
    content["data"] = {"class_path": "lgn_lightning.data.Digits"}
    content["model"]["net"]["init_args"] |= {"in_shape": [1, 8, 8], "width": 100}
    content["trainer"]["enable_progress_bar"] = False
    Path("st.yaml").write_text(yaml.safe_dump(content))
    job = Reproduction.of(Path("st.yaml"), 0.0001)
    [run] = job.run([0], run_lgn).runs
    assert run.steps == 4
    assert yaml.safe_load(job.folder(0).config.read_text())["model"]["lr_scheduler"]["init_args"]["T_max"] == 4


def test_a_baseline_without_gates_is_a_row_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(find_recipe("mnist-mlp-128").read_text())
    content["data"] = {"class_path": "lgn_lightning.data.Digits"}
    content["model"]["net"]["init_args"] |= {"in_shape": [1, 8, 8], "width": 10}
    content["trainer"]["enable_progress_bar"] = False
    Path("mlp.yaml").write_text(yaml.safe_dump(content))
    result = Reproduction.of(Path("mlp.yaml"), 0.0001).run([0], run_lgn)
    assert (result.runs[0].gates, result.runs[0].gates_exported) == (None, None)
    assert result.paper.accuracy == 97.92


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs a recipe first"),
        (["digitz"], "did you mean digits"),
        (["digits", "--seed_everything=1"], "see --seeds"),
        (["digits", "stray.yaml"], "no recipe file stray.yaml"),
        (["digits", "--budget", "0.5", "stray"], "does not understand 'stray'"),
    ],
)
def test_wrong_usage_is_one_message_and_trains_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        ({"paper": -1}, [], "paper: it is -1"),
        ({"paper": {"accuracy": "97"}}, [], "paper: accuracy is '97'"),
        ({"paper": {"gates": [1]}}, [], "paper: gates is a list"),
        ({"paper": {"nonsense": 1}}, [], "paper: nonsense is not known"),
        ({"trainer": -1}, ["--budget=0.5"], "there is nothing to shrink"),
        ({"trainer": {"max_steps": "many"}}, ["--budget=0.5"], "there is nothing to shrink"),
    ],
    ids=str,
)
def test_nonsense_in_a_recipe_is_one_error_and_trains_nothing(
    change: dict[str, Any], options: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(yaml.safe_dump(yaml.safe_load(find_recipe("digits").read_text()) | change))
    assert main(["reproduce", "x.yaml", *options]) == 1
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


@pytest.mark.parametrize(
    "content", ["", "[" * 100_000, "[]", "-1", "{}", '{"accuracy_hard": "high"}', '{"gates": NaN}']
)
def test_a_result_of_anything_else_is_one_error(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Reproduction.of(find_recipe("digits")).folder(0)
    folder.path.mkdir(parents=True)
    folder.result_file.write_text(content)
    assert main(["reproduce", "digits", "--seeds=0"]) == 1
    error = capsys.readouterr().err
    assert "result.json" in error
    assert "remove it" in error
    assert not Path("results").exists()


def test_a_run_keeps_its_seed_when_its_folder_is_there_without_settings(here: Path) -> None:
    job = Reproduction.of(Path("small.yaml"), 0.25)
    job.folder(9).path.mkdir(parents=True)  # killed before config.yaml was written
    job.run([9], run_lgn)
    assert (RunFolder(job.folder(9).path).result or {})["seed"] == 9


def test_a_signal_reaches_the_training_which_has_the_time_to_stop(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    endless = ["reproduce", str(folder / "small.yaml"), "--seeds=0", "--trainer.max_steps=1000000"]
    with Path("log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "lgn_lightning", *endless], stdout=log, stderr=log)
    end = time.monotonic() + 120
    while not list(Path("runs").glob("small/*/checkpoints/*.ckpt")):
        assert process.poll() is None, Path("log.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 143, Path("log.txt").read_text()
    [run] = Path("runs").glob("small/*")
    assert f"resume: lgn fit --resume {run}" in Path("log.txt").read_text(), "the training ended before us"
