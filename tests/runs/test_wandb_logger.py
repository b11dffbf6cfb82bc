"""``--logger wandb`` without network: the run's folder is read back with wandb's own reader, ``wandb leet inspect``."""

import csv
import json
import multiprocessing
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from lgn_lightning.runs import wandb_logger
from lgn_lightning.runs.recipes import find_recipe
from lgn_lightning.runs.run_logger import RunLogger
from lgn_lightning.runs.wandb_logger import WANDB_ID, RunWandbLogger
from lgn_lightning.training.module import LogicModule
from tests.killed_runs import kill_at_step, run_lgn

STEPS = 40
KILLED_AT = 25


def kill_late() -> None:
    """Kills the process when wandb, which writes in a process of its own, has had time to write something."""
    kill_at_step(KILLED_AT)()
    compute = LogicModule.training_step

    def training_step(self, batch, batch_idx):
        if self.trainer.global_step == KILLED_AT:
            time.sleep(3)
        return compute(self, batch, batch_idx)

    LogicModule.training_step = training_step  # type: ignore[method-assign]


@cache
def records(folder: Path) -> list[dict[str, Any]]:
    """All records of an offline run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_type(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records(folder) if record.get("type") == kind]


def curves(folder: Path) -> dict[tuple[str, int], float]:
    """Logged values by name and step."""
    items = [history["item"] for history in of_type(folder, "history")]
    return {(name, item["trainer/global_step"]): value for item in items for name, value in item.items() if "/" in name}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run with wandb and TensorBoard, without a key, that was killed and resumed."""
    folder = tmp_path_factory.mktemp("wandb")
    content = yaml.safe_load(find_recipe("digits").read_text())
    content["model"]["net"]["init_args"] |= {"width": 300, "depth": 2}
    content["trainer"] |= {"max_steps": STEPS, "val_check_interval": 10, "enable_progress_bar": False}
    resume_point = {"class_path": "lgn_lightning.callbacks.ResumePoint"}
    resume_point["init_args"] = {"every_n_steps": 4, "max_overhead": 1e9}  # type: ignore[assignment]
    content["trainer"]["callbacks"].append(resume_point)
    (folder / "small.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_RUN_ID", "WANDB_PROJECT"):
            patch.delenv(name, raising=False)
        patch.setenv("NETRC", str(folder / "netrc"))  # no key of whoever runs the tests
        patch.setenv("WANDB_CONFIG_DIR", str(folder))
        patch.setenv("WANDB_DATA_DIR", str(folder))
        patch.setenv("WANDB_CACHE_DIR", str(folder))
        arguments = ["fit", "small.yaml", "--logger", "wandb,tensorboard"]
        assert run_lgn(arguments, kill_late) == -signal.SIGKILL
        assert run_lgn(["fit", "small.yaml", "--resume"]) == 0, Path("log.txt").read_text()
        yield folder / "runs" / "small" / "version_0"


@pytest.fixture(scope="module")
def parts(run: Path) -> list[Path]:
    """wandb's folders of the killed process and of the one that went on, in this order."""
    return sorted((run / "wandb").glob("offline-run-*"))


def test_no_key_is_one_clear_message_and_training_goes_on(run: Path) -> None:
    log = (run.parents[2] / "log.txt").read_text()
    assert "there is no wandb key (`wandb login` stores one): this run is logged offline" in log
    assert "upload it later with:  wandb sync runs/small/version_0/wandb/offline-run-*" in log
    assert "Traceback" not in log
    assert (run / "result.json").is_file()


def test_a_resumed_run_goes_on_with_the_same_wandb_run(run: Path, parts: list[Path]) -> None:
    assert len(parts) == 2
    for part in parts:
        [description] = of_type(part, "run")
        assert description["run_id"] == (run / WANDB_ID).read_text()
        assert description["project"] == "lgn-lightning"
        assert description["display_name"] == "small/version_0"
    [ended] = of_type(parts[1], "exit")
    assert ended.get("exit_code", 0) == 0


def test_the_config_is_the_run_s_own(run: Path, parts: list[Path]) -> None:
    [update] = [config["update"] for config in of_type(parts[1], "config")]
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert update["model"]["net"] == saved["model"]["net"]
    assert update["model"]["net"]["init_args"]["width"] == 300
    assert update["seed_everything"] == 0


def test_every_metric_of_the_csv_is_a_curve_with_the_same_values(run: Path, parts: list[Path]) -> None:
    before, after = curves(parts[0]), curves(parts[1])
    assert ("train/loss", 9) in before, "a kill leaves what was logged seconds before"
    # What the killed process logged after its last resume point is logged again, with the same values; wandb writes in
    # a process of its own and may lose what was logged right before the kill.
    assert all(before[key] == pytest.approx(after[key]) for key in before.keys() & after.keys())
    seen, names = before | after, set()
    with (run / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name in row.keys() - {"epoch", "step"}:
                key = (name, int(row["step"]))
                if row[name] and (key[1] >= KILLED_AT or key in seen):
                    names.add(name)
                    assert seen[key] == pytest.approx(float(row[name])), key
    layers = [f"{kind}/layer_{i}" for kind in ("gate_entropy", "gap") for i in (1, 2)]
    assert {"train/loss", "val/acc_hard", "val/gap_acc", "test/acc_hard", *layers} <= names


def test_gates_are_histograms(parts: list[Path]) -> None:
    items = [history["item"] for history in of_type(parts[1], "history")]
    [*_, last] = [item for item in items if "gates/chosen_layer_2._type" in item]
    assert last["gates/chosen_layer_2._type"] == "histogram"
    assert sum(last["gates/chosen_layer_2.values"]) == 300
    assert last["gates/chosen_layer_2.bins"] == [gate - 0.5 for gate in range(17)]


def test_the_circuit_is_a_versioned_artifact_with_its_manifest(run: Path, parts: list[Path]) -> None:
    artifacts = [artifact for part in parts for artifact in of_type(part, "artifact")]
    best = [artifact for artifact in artifacts if "best" in artifact["aliases"]]
    assert {artifact["type"] for artifact in artifacts} == {"circuit"}
    assert {artifact["name"] for artifact in artifacts} == {f"circuit-{(run / WANDB_ID).read_text()}"}
    assert len({artifact["digest"] for artifact in best}) > 1, "another net, another version"
    manifest = json.loads((run / "circuits" / "best" / "manifest.json").read_text())
    assert json.loads(best[-1]["metadata"]) == manifest
    files = {entry["path"] for entry in best[-1]["manifest"]["contents"]}
    assert files == {*manifest["files"], "manifest.json"}


def test_tensorboard_and_csv_lie_beside_it(run: Path) -> None:
    assert list(run.glob("events.out.tfevents.*"))
    assert (run / "metrics.csv").is_file()


@pytest.mark.parametrize(
    ("key", "message"), [("abc", "wandb takes no key"), ("0" * 40, r"127\.0\.0\.1:\d+ cannot be reached")]
)
def test_a_bad_key_and_no_network_are_told_at_once(
    key: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    process = multiprocessing.get_context("fork").Process(target=_write_reason, args=(tmp_path / "reason",))
    process.start()  # wandb keeps the session that it tried to open, so not in the process of the other tests
    process.join()
    assert re.search(message, (tmp_path / "reason").read_text())


def _write_reason(file: Path) -> None:
    file.write_text(str(wandb_logger._why_offline()))


def test_a_sweep_s_run_is_the_agent_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "fromagent")
    logger = RunWandbLogger(RunLogger(tmp_path, "small", "version_0"))
    assert wandb_logger._run_id(Path(logger.save_dir)) == "fromagent"
    monkeypatch.setenv("WANDB_RUN_ID", "another")
    assert wandb_logger._run_id(Path(logger.save_dir)) == "fromagent", "a resumed run keeps its own"
