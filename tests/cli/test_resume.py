"""Runs that are killed and resumed end bit for bit where an uninterrupted run ends."""

import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

from lgn_lightning.cli.main import main
from lgn_lightning.runs.folder import RunFolder
from lgn_lightning.runs.recipes import find_recipe
from lgn_lightning.training.checkpoint import read_checkpoint
from tests.killed_runs import differences, kill_at_step, kill_at_write, rows, run_lgn

STEPS = 40
SCHEDULES = {
    "cosine": {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": STEPS}},
    "plateau": {
        "class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "init_args": {"patience": 0, "threshold": 0.5},
    },
}


def recipe(schedule: str) -> dict:
    """The digits recipe with a small net, random numbers in each step, and whatever else has a state."""
    content = yaml.safe_load(find_recipe("digits").read_text())
    content["model"]["net"]["init_args"] |= {"width": 300, "depth": 2}
    content["model"]["lr_scheduler"] = SCHEDULES[schedule]
    content["trainer"] |= {"max_steps": STEPS, "val_check_interval": 10, "log_every_n_steps": 3}
    content["trainer"] |= {"enable_progress_bar": False, "enable_model_summary": False}
    if schedule == "plateau":
        content["trainer"] |= {"accumulate_grad_batches": 2}
    stop = {"monitor": "val/loss_hard", "patience": 50}
    content["trainer"]["callbacks"] += [
        {"class_path": "tests.synthetic.RandomPixels"},
        {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": stop},
        {"class_path": "ResumePoint", "init_args": {"every_n_steps": 4, "max_overhead": 1e9}},
    ]
    content["trainer"]["callbacks"][-1]["class_path"] = "lgn_lightning.callbacks.ResumePoint"
    return content


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the run of a schedule that nobody killed."""

    @cache
    def train(schedule: str) -> Path:
        folder = tmp_path_factory.mktemp(schedule)
        (folder / "small.yaml").write_text(yaml.safe_dump(recipe(schedule)))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert run_lgn(["fit", "small.yaml"]) == 0, (folder / "log.txt").read_text()
        return folder / "runs" / "small" / "version_0"

    return train


@pytest.fixture(scope="module")
def reference(references: Callable[[str], Path]) -> Path:
    """A run that nobody killed."""
    return references("cosine")


@pytest.fixture
def folder(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for the runs of a test, with the recipe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_bytes((reference.parents[2] / "small.yaml").read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [("cosine", (2,)), ("cosine", (9, 23)), ("cosine", (12, 13, 37)), ("plateau", (12, 13, 37))],
    ids=str,
)
def test_a_killed_run_ends_with_the_same_bits(
    references: Callable[[str], Path], folder: Path, schedule: str, steps: tuple[int, ...]
) -> None:
    reference = references(schedule)
    Path("small.yaml").write_text(yaml.safe_dump(recipe(schedule)))
    command = ["fit", "small.yaml"]
    for step in steps:
        assert run_lgn(command, kill_at_step(step)) == -signal.SIGKILL
        command = ["fit", "small.yaml", "--resume"]
    assert run_lgn(command) == 0, Path("log.txt").read_text()
    run = folder / "runs" / "small" / "version_0"
    assert differences(reference, run) == []
    assert (run / "circuits/best/lgn_net.c").read_bytes() == (reference / "circuits/best/lgn_net.c").read_bytes()
    assert (run / "circuits/best/lgn_net.so").is_file() == (reference / "circuits/best/lgn_net.so").is_file()
    result, expected = RunFolder(run).result, RunFolder(reference).result
    assert result is not None
    assert expected is not None
    assert all(result[name] == expected[name] for name in ("accuracy_hard", "accuracy_soft", "gates", "steps"))
    assert not list(folder.glob("runs/small/version_1"))


@pytest.mark.parametrize("write", [1, 2, 5])
def test_a_kill_in_the_middle_of_a_write_damages_no_checkpoint(reference: Path, folder: Path, write: int) -> None:
    run = folder / "runs" / "small" / "version_0"
    assert run_lgn(["fit", "small.yaml"], kill_at_write(write)) == -signal.SIGKILL
    assert list(run.glob("checkpoints/.*")), "the half written file lies beside its place"
    for checkpoint in run.glob("checkpoints/[!.]*.ckpt"):
        read_checkpoint(checkpoint)
    assert run_lgn(["fit", "small.yaml", "--resume"]) == 0, Path("log.txt").read_text()
    assert differences(reference, run) == []
    assert not list(run.glob("checkpoints/.*"))


def signalled(number: int, step: int = 5) -> Callable[[], None]:
    """Makes the process send itself a signal in its sixth step, or behind another one."""

    def prepare() -> None:
        from lgn_lightning.training.module import LogicModule

        pending = [True]
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup

        def on_train_batch_start(self, batch, batch_idx):
            if self.global_step == step and pending:
                pending.clear()  # a second Ctrl-C would stop at once
                os.kill(os.getpid(), number)

        LogicModule.on_train_batch_start = on_train_batch_start  # type: ignore[method-assign]

    return prepare


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_ends_with_its_code_and_the_run_goes_on_with_the_same_bits(
    stop: signal.Signals, reference: Path, folder: Path
) -> None:
    assert run_lgn(["fit", "small.yaml"], signalled(stop)) == 143
    log, run = Path("log.txt").read_text(), Path("runs/small/version_0")
    assert "Traceback" not in log
    assert "lgn fit --resume runs/small/version_0" in log
    assert not RunFolder(run).result_file.exists()
    assert run_lgn(["fit", "--resume", str(run)]) == 0, Path("log.txt").read_text()
    assert differences(reference, run) == []


@pytest.mark.parametrize("step", [5, 7])  # before a log, before a validation
def test_sigterm_loses_no_step_whatever_is_left_to_do(step: int, folder: Path) -> None:
    options = ["--trainer.log_every_n_steps=3", "--trainer.val_check_interval=4"]
    assert run_lgn(["fit", "small.yaml", *options], signalled(signal.SIGTERM, step)) == 143
    log, run = Path("log.txt").read_text(), Path("runs/small/version_0")
    stopped = read_checkpoint(run / "checkpoints" / "resume.ckpt")["global_step"]
    assert step < stopped <= step + 3
    assert f"Stopped at step {stopped}; resume: lgn fit --resume" in log


def test_ctrl_c_finishes_the_step_and_says_how_to_go_on(folder: Path) -> None:
    assert run_lgn(["fit", "small.yaml"], signalled(signal.SIGINT)) != 0
    run = Path("runs/small/version_0")
    assert read_checkpoint(run / "checkpoints" / "resume.ckpt")["global_step"] in (6, 7)  # 6 logs its metrics
    assert "lgn fit --resume runs/small/version_0" in Path("log.txt").read_text()


def test_resume_takes_the_run_s_own_settings(folder: Path) -> None:
    assert run_lgn(["fit", "small.yaml", "--model.net.width=400"], kill_at_step(20)) == -signal.SIGKILL
    Path("small.yaml").write_text(Path("small.yaml").read_text().replace("depth: 2", "depth: 3"))
    assert run_lgn(["fit", "--resume", "runs/small/version_0"]) == 0, Path("log.txt").read_text()
    result = RunFolder(Path("runs/small/version_0")).result
    assert result is not None
    assert result["gates"] == 2 * 400


def test_a_finished_run_and_a_running_one_are_not_resumed(
    reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reference.parents[2])
    assert main(["fit", "small.yaml", "--resume"]) == 1
    assert "version_0 is finished" in capsys.readouterr().err
    assert main(["fit", "small.yaml", "--resume", "nowhere"]) == 1
    assert "nowhere is not the folder of a run" in capsys.readouterr().err
    held = RunFolder(reference).lock()
    try:
        with pytest.raises(RuntimeError, match="is running in another process"):
            RunFolder(reference).lock()
    finally:
        held.release()


def test_resuming_a_run_that_is_running_changes_none_of_its_files(
    reference: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(reference, folder / "runs/small/version_0")
    (copy / "result.json").unlink()
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    held = RunFolder(copy).lock()
    try:
        assert main(["fit", "small.yaml", "--resume"]) == 1
    finally:
        held.release()
    assert "is running in another process" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_resume_takes_the_newest_run_that_has_something_to_go_on_with(folder: Path) -> None:
    assert run_lgn(["fit", "small.yaml"], kill_at_step(12)) == -signal.SIGKILL
    assert run_lgn(["fit", "small.yaml"], kill_at_step(0)) == -signal.SIGKILL
    assert RunFolder(Path("runs/small/version_1")).config.is_file()
    assert run_lgn(["fit", "small.yaml", "--resume"]) == 0, Path("log.txt").read_text()
    assert "resuming runs/small/version_0\n" in Path("log.txt").read_text()
    assert RunFolder(Path("runs/small/version_0")).result is not None
    assert run_lgn(["fit", "small.yaml", "--resume", "--trainer.max_steps=4"]) == 0, Path("log.txt").read_text()
    assert "resuming runs/small/version_1 from its first step" in Path("log.txt").read_text()


def test_a_requeued_job_goes_on_with_the_run_of_its_name_and_starts_it_at_first(reference: Path, folder: Path) -> None:
    job = ["fit", "small.yaml", "--run_name=slurm-7", "--resume"]
    shutil.copytree(reference, "runs/small/version_0")  # of another job
    assert run_lgn(job, kill_at_step(12)) == -signal.SIGKILL
    assert "small has no run slurm-7 yet: a new one starts" in Path("log.txt").read_text()
    assert run_lgn(job) == 0, Path("log.txt").read_text()
    assert "resuming runs/small/slurm-7\n" in Path("log.txt").read_text()
    assert differences(reference, Path("runs/small/slurm-7")) == []


def test_resume_without_any_run_starts_one(folder: Path) -> None:
    assert run_lgn(["fit", "small.yaml", "--resume", "--trainer.max_steps=4"]) == 0, Path("log.txt").read_text()
    assert "a new one starts" in Path("log.txt").read_text()
    assert len(rows(Path("runs/small/version_0"))) > 1


def test_a_full_disk_stops_the_run_with_a_checkpoint_to_go_on_from(reference: Path, folder: Path) -> None:
    def fill() -> None:
        from lgn_lightning.callbacks import ResumePoint

        write = ResumePoint._write

        def full(self, trainer, path):
            if trainer.global_step > 20:
                resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
            write(self, trainer, path)

        ResumePoint._write = full  # type: ignore[method-assign]

    assert run_lgn(["fit", "small.yaml"], fill) == 1
    log = Path("log.txt").read_text()
    assert "lgn: error: cannot write checkpoint" in log
    assert "File too large" in log
    assert "Traceback" not in log
    assert run_lgn(["fit", "small.yaml", "--resume"]) == 0, Path("log.txt").read_text()
    assert differences(reference, Path("runs/small/version_0")) == []


@pytest.mark.soak
def test_fifty_kills_of_the_digits_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half in a random step, half at a random moment after it; ``LGN_SOAK_STEPS=3000`` for the recipe's length."""
    monkeypatch.chdir(tmp_path)
    steps = int(os.environ.get("LGN_SOAK_STEPS", "600"))
    content = yaml.safe_load(find_recipe("digits").read_text())
    content["trainer"] |= {"max_steps": steps, "enable_progress_bar": False, "enable_model_summary": False}
    # As often as it goes, so that the runs go on at many different steps.
    often = {"every_n_steps": 25, "max_overhead": 1e9}
    point = {"class_path": "lgn_lightning.callbacks.ResumePoint", "init_args": often}
    content["trainer"]["callbacks"].append(point)
    Path("digits.yaml").write_text(yaml.safe_dump(content))
    assert run_lgn(["fit", "digits.yaml", "--run_name=whole"]) == 0, Path("log.txt").read_text()
    whole = Path("runs/digits/whole")
    chance = random.Random(0)
    for trial in range(50):
        run = Path(f"runs/digits/kill_{trial}")
        fit = ["fit", "digits.yaml", f"--run_name={run.name}"]
        delay = chance.uniform(0, 0.2) if trial % 2 else 0.0
        code = run_lgn(fit, kill_at_step(chance.randrange(steps), delay))
        assert code == -signal.SIGKILL, Path("log.txt").read_text()[-2000:]
        point_file = run / "checkpoints" / "resume.ckpt"
        step = read_checkpoint(point_file)["global_step"] if point_file.is_file() else 0
        assert run_lgn(["fit", "digits.yaml", "--resume", str(run)]) == 0, Path("log.txt").read_text()[-2000:]
        assert differences(whole, run) == [], f"trial {trial}"
        print(f"trial {trial}: killed, went on at step {step}, the same bits", flush=True)
        shutil.rmtree(run)
