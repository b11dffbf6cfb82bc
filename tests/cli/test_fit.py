"""``lgn fit``: what it leaves, and that bad input gets one clear error, a non-zero exit and no files."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from lgn_lightning.cli.fit import choose_run
from lgn_lightning.cli.main import main
from lgn_lightning.nn import logic_layers
from lgn_lightning.runs.recipes import find_recipe
from lgn_lightning.training.checkpoint import load_net
from lgn_lightning.training.classifier import LogicClassifier
from tests.cli.conftest import SMALL, error_of


def test_fit_leaves_checkpoints_metrics_and_a_circuit(digits_run: Path) -> None:
    assert {path.name for path in (digits_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    header = (digits_run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/acc_hard", "val/acc_soft", "val/gap_acc", "test/acc_hard", "gate_entropy/mean"} <= set(header)
    config = yaml.safe_load((digits_run / "config.yaml").read_text())
    assert config["model"]["lr_scheduler"]["init_args"]["T_max"] == config["trainer"]["max_steps"] == 60
    names = {path.suffix for path in (digits_run / "circuits" / "best").iterdir()}
    assert {".c", ".h", ".json"} <= names


def test_fit_prints_one_result_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", *SMALL]) == 0
    table = capsys.readouterr().out.split("Result on the test split")[1]
    rows = ("soft accuracy", "hard accuracy", "discretization gap", "gates", "gate entropy", "exported C", "images/s")
    assert all(row in table for row in (*rows, "gates that compute nothing"))
    assert "equal scores on all 360 test images" in table


@pytest.mark.parametrize(
    "option", ["enable_progress_bar=false", "callbacks+=lightning.pytorch.callbacks.TQDMProgressBar"]
)
def test_progress_bar_is_the_users_choice(option: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", *SMALL, f"--trainer.{option}"]) == 0
    assert "Result on the test split" in capsys.readouterr().out


def test_checkpoint_rebuilds_its_net_and_exports_identical_c(digits_run: Path, here: Path) -> None:
    checkpoint = digits_run / "checkpoints" / "best.ckpt"
    net = load_net(checkpoint)
    content = torch.load(checkpoint, weights_only=True)
    saved = content["state_dict"]
    for name, layer in logic_layers(net).items():
        assert torch.equal(layer.indices_a, saved[f"net.{name}.indices_a"])
    assert yaml.safe_load(content["lgn_recipe"])["model"]["net"]["init_args"]["width"] == 300
    assert main(["export", str(checkpoint), "--out", str(here / "a")]) == 0
    assert main(["export", str(checkpoint), "--out", str(here / "b")]) == 0
    assert (here / "a" / "lgn_net.c").read_bytes() == (here / "b" / "lgn_net.c").read_bytes()
    assert (here / "a" / "lgn_net.c").read_bytes() == (digits_run / "circuits" / "best" / "lgn_net.c").read_bytes()


def test_fit_goes_on_from_a_checkpoint_also_when_the_first_run_is_gone(
    digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No validation in the ten steps more: the best checkpoint stays the one of the first run.
    more = [*SMALL, "--model.net.depth=3", "--trainer.max_steps=70", "--trainer.val_check_interval=1000"]
    checkpoint = str(digits_run / "checkpoints" / "last.ckpt")
    with pytest.warns(UserWarning, match=r"best.ckpt is not there any more"):
        assert main(["fit", "digits", *more, f"--ckpt_path={checkpoint}"]) == 0
    assert "Result on the test split" in capsys.readouterr().out
    resumed = here / "runs" / "digits" / "version_0" / "checkpoints" / "last.ckpt"
    assert torch.load(resumed, weights_only=True)["global_step"] == 70


def test_a_run_is_not_overwritten_by_another_of_its_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["fit", "digits", *SMALL, "--run_name=mine"]
    assert main(named) == 0
    run = here / "runs" / "digits" / "mine"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main([*named, "--seed_everything=1"]) == 1
    assert "runs/digits/mine holds a finished run" in error_of(capsys)
    (run / "result.json").unlink()
    assert main(named) == 1
    assert "`lgn fit --resume runs/digits/mine`" in error_of(capsys)
    assert all(path.read_bytes() == content for path, content in before.items() if path.is_file())
    assert main([*named, "--trainer.fast_dev_run=true"]) == 0, "a rehearsal writes nothing"
    assert not Path("checkpoints").exists()


def test_without_a_logger_a_run_has_its_folder_all_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unlogged = ["fit", "digits", *SMALL, "--trainer.logger=false"]
    assert main(unlogged) == 0
    assert [path.name for path in here.iterdir()] == ["runs"]
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


def test_a_folder_of_ones_own_is_not_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["fit", "digits", *SMALL, "--trainer.logger=false", "--trainer.default_root_dir=mine"]
    assert main(own) == 0
    before = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    assert Path("mine/checkpoints/best.ckpt") in before
    assert main(own) == 1
    assert "mine holds a finished run" in error_of(capsys)
    assert {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()} == before
    assert [path.name for path in here.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", [None, "mine"])
@pytest.mark.parametrize("fault", ["--data.batch_size=5000", "--model.net.in_shape=[1, 9, 9]"])
def test_a_run_that_fails_before_its_first_step_leaves_no_folder(
    here: Path, name: str | None, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [f"--run_name={name}"] if name else []
    assert main(["fit", "digits", *SMALL, *named, fault]) == 1
    assert "lgn: error: " in error_of(capsys)
    assert list(here.glob("runs/digits/*")) == []


@pytest.mark.parametrize("keys", [["--run_name", "mine"], ["--run_name=mine"]], ids=len)
def test_resume_finds_the_run_by_its_name(here: Path, keys: list[str]) -> None:
    assert choose_run(["digits"], "", keys)[1] is None
    for name in ("mine", "version_0"):
        (here / "runs" / "digits" / name).mkdir(parents=True)
        (here / "runs" / "digits" / name / "config.yaml").touch()
    run = choose_run(["digits"], "", keys)[1]
    assert run is not None
    assert run.path == Path("runs/digits/mine")


@pytest.mark.parametrize("options", [[], ["--trainer.logger=false"]], ids=len)
def test_interrupt_leaves_a_resumable_checkpoint(here: Path, options: list[str]) -> None:
    recipe = yaml.safe_load(find_recipe("digits").read_text())
    recipe["trainer"]["callbacks"] = [{"class_path": "tests.synthetic.InterruptAt", "init_args": {"step": 7}}]
    Path("interrupted.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", "interrupted.yaml", *SMALL, *options]) == 130
    run = Path("runs/interrupted/version_0")
    assert torch.load(run / "checkpoints" / "resume.ckpt", weights_only=True)["global_step"] == 7
    assert main(["fit", "interrupted.yaml", "--resume"]) == 0
    assert json.loads((run / "result.json").read_text())["steps"] == 30


def test_misspelt_recipe_suggests_the_nearest(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digts"]) == 1
    assert "did you mean digits?" in error_of(capsys)
    assert list(here.iterdir()) == []


def test_missing_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit"]) == 1
    assert "needs a recipe" in error_of(capsys)
    assert main(["fit", "--trainer.max_steps=3"]) == 1
    assert main(["fit", "nowhere.yaml"]) == 1
    assert "no recipe file nowhere.yaml" in error_of(capsys)


def test_unknown_override_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--trainer.max_stepz=3"]) == 2
    assert "trainer.max_stepz: there is no such key; did you mean max_steps?" in error_of(capsys)
    assert list(here.iterdir()) == []


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
    here: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    depth = [] if "width" in override else ["--model.net.depth=2"]
    arguments = [a for a in SMALL if "net" not in a]
    fix = ["--model.net.depth=null"] if "width" in override else depth
    assert main(["fit", "digits", *arguments, *fix, override]) == 1
    assert message in error_of(capsys)


def test_truncated_checkpoint_is_one_error(digits_run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (digits_run / "checkpoints" / "best.ckpt").read_bytes()
    Path("cut.ckpt").write_bytes(data[: len(data) // 2])
    for command in (["fit", "digits", *SMALL, "--ckpt_path=cut.ckpt"], ["export", "cut.ckpt", "--out", "out"]):
        assert main(command) == 1
        assert "cut.ckpt cannot be read: it is truncated" in error_of(capsys)
    assert [path.name for path in here.iterdir()] == ["cut.ckpt"]


def test_checkpoint_with_code_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_missing_data_set_names_path_and_fix(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data.root=nowhere", "--data.download=false"]
    assert main(["fit", "mnist20x20", *arguments]) == 1
    error = error_of(capsys)
    assert "nowhere" in error
    assert not (here / "nowhere").exists()
