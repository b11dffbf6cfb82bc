"""The command line: what it does, and that bad input gets one clear error, a non-zero exit and no files."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import lgn_lightning
from lgn_lightning.cli.fit import choose_run
from lgn_lightning.cli.main import COMMANDS, main
from lgn_lightning.nn import logic_layers
from lgn_lightning.runs.recipes import find_recipe, recipe_files
from lgn_lightning.training.checkpoint import load_net
from lgn_lightning.training.classifier import LogicClassifier
from tests.cli.conftest import SMALL


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_fit_leaves_checkpoints_metrics_and_a_circuit(digits_run: Path) -> None:
    assert {path.name for path in (digits_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    header = (digits_run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/acc_hard", "val/acc_soft", "val/gap_acc", "test/acc_hard", "gate_entropy/mean"} <= set(header)
    config = yaml.safe_load((digits_run / "config.yaml").read_text())
    assert config["model"]["lr_scheduler"]["init_args"]["T_max"] == config["trainer"]["max_steps"] == 60
    names = {path.suffix for path in (digits_run / "circuits" / "best").iterdir()}
    assert {".c", ".h", ".json"} <= names


def test_fit_prints_one_result_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", *SMALL]) == 0
    table = capsys.readouterr().out.split("Result on the test split")[1]
    rows = ("soft accuracy", "hard accuracy", "discretization gap", "gates", "gate entropy", "exported C", "images/s")
    assert all(row in table for row in (*rows, "gates that compute nothing"))
    assert "equal scores on all 360 test images" in table


@pytest.mark.parametrize(
    "option", ["enable_progress_bar=false", "callbacks+=lightning.pytorch.callbacks.TQDMProgressBar"]
)
def test_progress_bar_is_the_users_choice(option: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", *SMALL, f"--trainer.{option}"]) == 0
    assert "Result on the test split" in capsys.readouterr().out


def test_checkpoint_rebuilds_its_net_and_exports_identical_c(digits_run: Path, folder: Path) -> None:
    checkpoint = digits_run / "checkpoints" / "best.ckpt"
    net = load_net(checkpoint)
    content = torch.load(checkpoint, weights_only=True)
    saved = content["state_dict"]
    for name, layer in logic_layers(net).items():
        assert torch.equal(layer.indices_a, saved[f"net.{name}.indices_a"])
    assert yaml.safe_load(content["lgn_recipe"])["model"]["net"]["init_args"]["width"] == 300
    assert main(["export", str(checkpoint), "--out", str(folder / "a")]) == 0
    assert main(["export", str(checkpoint), "--out", str(folder / "b")]) == 0
    assert (folder / "a" / "lgn_net.c").read_bytes() == (folder / "b" / "lgn_net.c").read_bytes()
    assert (folder / "a" / "lgn_net.c").read_bytes() == (digits_run / "circuits" / "best" / "lgn_net.c").read_bytes()


def test_a_run_is_measured_with_its_own_settings(
    digits_run: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(digits_run, "runs/digits/version_0")
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    expected = json.loads((digits_run / "result.json").read_text())["accuracy_hard"]
    assert main(["test", "runs/digits/version_0"]) == 0
    assert "test/acc_hard" in capsys.readouterr().out
    [row] = csv.DictReader(Path("runs/digits/version_0/test.csv").read_text().splitlines())
    assert float(row["test/acc_hard"]) == pytest.approx(expected)
    assert main(["validate", "runs/digits/version_0/checkpoints/last.ckpt", "--data.eval_batch_size=50"]) == 0
    new = {str(path.relative_to("runs/digits/version_0")) for path in Path("runs").rglob("*") if path.is_file()}
    old = {str(path.relative_to("runs/digits/version_0")) for path in before}
    assert new - old == {"test.yaml", "test.csv", "validate.yaml", "validate.csv"}
    assert all(path.read_bytes() == content for path, content in before.items()), "the run stays as it was"


def test_a_checkpoint_brings_its_settings_also_where_a_recipe_is_named(
    digits_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(digits_run / "checkpoints" / "best.ckpt", "net.ckpt")
    assert main(["test", "digits", "--ckpt_path", "net.ckpt"]) == 0
    output = capsys.readouterr().out
    assert "the settings are those of net.ckpt, in the place of digits.yaml" in output
    assert "test/acc_hard" in output
    assert {path.name for path in folder.iterdir()} == {"net.ckpt", "test.yaml", "test.csv"}


def test_a_checkpoint_without_settings_needs_the_recipe(
    digits_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(digits_run / "checkpoints" / "best.ckpt", weights_only=True)
    for settings in (None, yaml.safe_dump({"model": yaml.safe_load(content["lgn_recipe"])["model"]})):
        torch.save({**content, "lgn_recipe": settings}, "bare.ckpt")
        assert main(["test", "bare.ckpt"]) == 1
        assert "give the recipe, as in `lgn test <recipe> --ckpt_path bare.ckpt`" in error_of(capsys)
    assert main(["test", "digits", "--model.net.width=300", "--model.net.depth=3", "--ckpt_path=bare.ckpt"]) == 0
    assert "test/acc_hard" in capsys.readouterr().out


def test_fit_goes_on_from_a_checkpoint_also_when_the_first_run_is_gone(
    digits_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No validation in the ten steps more: the best checkpoint stays the one of the first run.
    more = [*SMALL, "--model.net.depth=3", "--trainer.max_steps=70", "--trainer.val_check_interval=1000"]
    checkpoint = str(digits_run / "checkpoints" / "last.ckpt")
    with pytest.warns(UserWarning, match=r"best.ckpt is not there any more"):
        assert main(["fit", "digits", *more, f"--ckpt_path={checkpoint}"]) == 0
    assert "Result on the test split" in capsys.readouterr().out
    resumed = folder / "runs" / "digits" / "version_0" / "checkpoints" / "last.ckpt"
    assert torch.load(resumed, weights_only=True)["global_step"] == 70


def test_a_run_is_not_overwritten_by_another_of_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["fit", "digits", *SMALL, "--run_name=mine"]
    assert main(named) == 0
    run = folder / "runs" / "digits" / "mine"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main([*named, "--seed_everything=1"]) == 1
    assert "runs/digits/mine holds a finished run" in error_of(capsys)
    (run / "result.json").unlink()
    assert main(named) == 1
    assert "`lgn fit --resume runs/digits/mine`" in error_of(capsys)
    assert all(path.read_bytes() == content for path, content in before.items() if path.is_file())
    assert main([*named, "--trainer.fast_dev_run=true"]) == 0, "a rehearsal writes nothing"


def test_without_a_logger_a_run_has_its_folder_all_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unlogged = ["fit", "digits", *SMALL, "--trainer.logger=false"]
    assert main(unlogged) == 0
    assert [path.name for path in folder.iterdir()] == ["runs"]
    run = Path("runs/digits/version_0")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    left = {"config.yaml", "result.json", "checkpoints", "circuits", ".lock"}
    assert {path.name for path in run.iterdir()} == left, "and no metrics.csv"
    assert main(["test", str(run)]) == 0
    assert main([*unlogged, "--model.net.in_shape=[1, 9, 9]"]) == 1
    assert [path.name for path in run.parent.iterdir()] == ["version_0"], "nothing of a run that failed at once"
    assert main(unlogged) == 0
    assert {path.name for path in Path("runs/digits/version_1").iterdir()} == left
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_folder_of_ones_own_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["fit", "digits", *SMALL, "--trainer.logger=false", "--trainer.default_root_dir=mine"]
    assert main(own) == 0
    before = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    assert Path("mine/checkpoints/best.ckpt") in before
    assert main(own) == 1
    assert "mine holds a finished run" in error_of(capsys)
    assert {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()} == before
    assert [path.name for path in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", [None, "mine"])
@pytest.mark.parametrize("fault", ["--data.batch_size=5000", "--model.net.in_shape=[1, 9, 9]"])
def test_a_run_that_fails_before_its_first_step_leaves_no_folder(
    folder: Path, name: str | None, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [f"--run_name={name}"] if name else []
    assert main(["fit", "digits", *SMALL, *named, fault]) == 1
    assert "lgn: error: " in error_of(capsys)
    assert list((folder / "runs" / "digits").iterdir()) == []


@pytest.mark.parametrize("keys", [["--run_name", "mine"], ["--run_name=mine"]], ids=len)
def test_resume_finds_the_run_by_its_name(folder: Path, keys: list[str]) -> None:
    assert choose_run(["digits"], "", keys)[1] is None
    for name in ("mine", "version_0"):
        (folder / "runs" / "digits" / name).mkdir(parents=True)
        (folder / "runs" / "digits" / name / "config.yaml").touch()
    run = choose_run(["digits"], "", keys)[1]
    assert run is not None
    assert run.path == Path("runs/digits/mine")


@pytest.mark.parametrize("options", [[], ["--trainer.logger=false"]], ids=len)
def test_interrupt_leaves_a_resumable_checkpoint(folder: Path, options: list[str]) -> None:
    recipe = yaml.safe_load(find_recipe("digits").read_text())
    recipe["trainer"]["callbacks"] = [{"class_path": "tests.synthetic.InterruptAt", "init_args": {"step": 7}}]
    Path("interrupted.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", "interrupted.yaml", *SMALL, *options]) == 130
    run = Path("runs/interrupted/version_0")
    assert torch.load(run / "checkpoints" / "resume.ckpt", weights_only=True)["global_step"] == 7
    assert main(["fit", "interrupted.yaml", "--resume"]) == 0
    assert json.loads((run / "result.json").read_text())["steps"] == 30


def test_ls_and_doctor_print_tables_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--json"]) == 0
    assert "mnist20x20" in [recipe["name"] for recipe in json.loads(capsys.readouterr().out)]
    assert main(["ls"]) == 0
    assert "mnist20x20" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["torch"] == torch.__version__.split("+")[0]
    assert main(["doctor"]) == 0
    assert "backend" in capsys.readouterr().out


def test_cp_writes_a_recipe_that_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cp", "digits", "mine.yaml"]) == 0
    assert "lgn fit mine.yaml" in capsys.readouterr().out
    assert main(["fit", "mine.yaml", *SMALL, "--trainer.fast_dev_run=true"]) == 0


def test_misspelt_recipe_suggests_the_nearest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digts"]) == 1
    assert "did you mean digits?" in error_of(capsys)
    assert list(folder.iterdir()) == []


def test_missing_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit"]) == 1
    assert "needs a recipe" in error_of(capsys)
    assert main(["fit", "--trainer.max_steps=3"]) == 1
    assert main(["fit", "nowhere.yaml"]) == 1
    assert "no recipe file nowhere.yaml" in error_of(capsys)


def test_unknown_override_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--trainer.max_stepz=3"]) == 2
    assert "max_stepz=3; did you mean --trainer.max_steps?" in error_of(capsys)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--model.net.width=[300, 333]", "does not divide into 10 classes"),
        ("--model.net.width=[20, 100]", "make the layer at least"),
        ("--model.net.thresholds=[0.5, 0.2]", "increasing"),
        ("--model.net.in_shape=[1, 9, 9]", "set --model.net.in_shape=[1,8,8]"),
    ],
)
def test_a_net_that_does_not_fit_is_one_error(
    folder: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    depth = [] if "width" in override else ["--model.net.depth=2"]
    arguments = [a for a in SMALL if "net" not in a]
    fix = ["--model.net.depth=null"] if "width" in override else depth
    assert main(["fit", "digits", *arguments, *fix, override]) == 1
    assert message in error_of(capsys)


def test_truncated_checkpoint_is_one_error(digits_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (digits_run / "checkpoints" / "best.ckpt").read_bytes()
    Path("cut.ckpt").write_bytes(data[: len(data) // 2])
    for command in (["fit", "digits", *SMALL, "--ckpt_path=cut.ckpt"], ["export", "cut.ckpt", "--out", "out"]):
        assert main(command) == 1
        assert "cut.ckpt cannot be read: it is truncated" in error_of(capsys)
    assert [path.name for path in folder.iterdir()] == ["cut.ckpt"]


def test_checkpoint_with_code_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}, "callback": LogicClassifier}, "evil.ckpt")
    Path("text.ckpt").write_text("no checkpoint")
    for file, reason in (
        ("evil", "it holds the code object lgn_lightning.training.classifier.LogicClassifier"),
        ("text", "it holds no tensors"),
    ):
        assert main(["export", f"{file}.ckpt"]) == 1
        message = error_of(capsys)
        assert f"{file}.ckpt cannot be read" in message
        assert reason in message
        assert "weights_only" not in message  # torch advises to execute what it refused


def test_evaluation_without_a_checkpoint_is_an_error(
    digits_run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "digits"]) == 1
    assert "needs a trained net: lgn test <run folder or checkpoint>; `lgn fit digits` leaves one" in error_of(capsys)
    assert main(["test"]) == 1
    assert "needs a trained net first: lgn test <run folder or checkpoint>" in error_of(capsys)
    for target in ("nowhere.ckpt", "runs/digits/version_9"):
        assert main(["test", target]) == 1
        assert f"there is no run or checkpoint {target}; runs are in runs/<recipe>/" in error_of(capsys)
    assert list(folder.iterdir()) == []
    monkeypatch.chdir(digits_run.parents[2])
    assert main(["test", "digits"]) == 1
    assert "needs a trained net: lgn test runs/digits/version_0" in error_of(capsys)


def test_missing_data_set_names_path_and_fix(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data.root=nowhere", "--data.download=false"]
    assert main(["fit", "mnist20x20", *arguments]) == 1
    error = error_of(capsys)
    assert "nowhere" in error
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("terminal", [True, False])
def test_ls_never_cuts_a_name(
    width: int, terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    assert main(["ls"]) == 0
    words = capsys.readouterr().out.split()
    assert {path.stem for path in recipe_files()} <= set(words)
    assert ("│" in words) == (terminal and width == 80)


@pytest.mark.parametrize("command", ["ls", "ls --json", "--help", "fit --help", "ls --help", "fit digits --help"])
def test_closed_pipe_is_silent(command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        lgn = [sys.executable, "-m", "lgn_lightning", *command.split()]
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(lgn, stdout=write, stderr=subprocess.PIPE, check=False, env=buffered)
    finally:
        os.close(write)
    assert done.stderr == b""
    # argparse takes a long help that cannot be printed for printed, from Python 3.11 on.
    assert done.returncode in ((0, 141) if command == "fit digits --help" else (141,))


def test_broken_pipe_of_anything_else_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("lgn_lightning.cli.cp.copy_recipe", lambda *_: fail(None))
    assert main(["cp", "digits"]) == 1
    assert "Broken pipe" in error_of(capsys)


@pytest.mark.parametrize("name", ["noext", "my.v2"])
def test_cp_writes_a_name_that_the_next_command_takes(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cp", "digits", name]) == 0
    assert f"lgn fit {name}.yaml" in capsys.readouterr().out
    assert find_recipe(f"{name}.yaml").is_file()
    assert main(["cp", "digits", name]) == 1
    assert f"{name}.yaml exists already" in error_of(capsys)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
def test_the_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed and command.help in printed for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: lgn {name}" in capsys.readouterr().out


def test_the_help_of_reproduce_stands_after_a_recipe_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", "digits", "--help"])
    assert "--seeds" in capsys.readouterr().out


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exprot"]) == 2
    assert "did you mean export?" in error_of(capsys)
    assert main(["foo"]) == 2
    printed = error_of(capsys)
    assert all(name in printed for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lgn-lightning {lgn_lightning.__version__}\n"


def test_the_help_imports_no_package_that_is_slow() -> None:
    code = "import sys; from lgn_lightning.cli.main import main; main(['--help']); main(['ls'])"
    code += "; assert not sys.modules.keys() & {'torch', 'numpy', 'lightning'}, 'slow'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
