"""Several gloo processes train what one process trains at the same global batch."""

import csv
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch.utilities import rank_zero_only

from lgn_lightning.models import LogicMLP
from lgn_lightning.runs.folder import RunFolder
from lgn_lightning.training.rank_check import RankError, check_same_start
from tests.killed_runs import differences, kill_at_step, run_lgn

SMALL = [
    "--model.net.width=300",
    "--model.net.depth=2",
    "--model.net.init=residual",
    "--model.net.parametrization=softmax",  # which logic_ddp has something to gain from
    "--model.net.sampler=soft",  # 20 steps move soft gates, but no hard ones
    "--data.eval_batch_size=37",
    "--trainer.max_steps=20",
    "--trainer.val_check_interval=5",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
]


def values(run: Path) -> dict[tuple[str, str], float]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("train/loss", "val/acc_hard", "val/acc_soft", "val/loss_hard", "gap/layer_2", "test/acc_hard")
    return {(name, row["step"]): float(row[name]) for row in rows for name in names if row[name]}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process at the global batch of the others."""
    return train(tmp_path_factory.mktemp("alone"), 1)


def train(folder: Path, processes: int, *options: str, strategy: str = "ddp", kill_at: int | None = None) -> Path:
    """Trains as torchrun would start it, one process a rank; kills all of them in the middle of a step, if asked to."""
    arguments = ["fit", "digits", *SMALL, f"--data.batch_size={120 // processes}", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        if processes == 1:
            assert run_lgn(arguments) == 0, (folder / "log.txt").read_text()
        else:
            arguments += [f"--trainer.devices={processes}", f"--trainer.strategy={strategy}"]
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            mp.start_processes(_rank, (arguments, processes, port, kill_at), nprocs=processes, start_method="fork")
    return folder / "runs" / "digits" / "version_0"


def _rank(rank: int, arguments: list[str], processes: int, port: int, kill_at: int | None) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    rank_zero_only.rank = rank  # what importing Lightning in a process of torchrun's does
    code = run_lgn(arguments) if kill_at is None else run_lgn(arguments, kill_at_step(kill_at))
    # The first rank to be killed may take the others with it.
    assert code == 0 if kill_at is None else code != 0, f"exit code {code}: {Path('log.txt').read_text()}"


@pytest.mark.parametrize(("processes", "strategy"), [(2, "ddp"), (4, "ddp"), (2, "logic_ddp"), (4, "logic_ddp")])
def test_curves_are_those_of_one_process(alone: Path, tmp_path: Path, processes: int, strategy: str) -> None:
    named = ["--run_name=version_0"] if strategy == "logic_ddp" else []  # as jobs of a cluster are
    run = train(tmp_path, processes, *named, strategy=strategy)
    expected, actual = values(alone), values(run)
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        assert actual[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
    assert (run / "circuits" / "best" / "manifest.json").is_file()
    assert [path.name for path in (tmp_path / "runs" / "digits").iterdir()] == ["version_0"]
    assert (tmp_path / "log.txt").read_text().count("Result on the test split") == 1
    result, one = RunFolder(run).result, RunFolder(alone).result
    assert result is not None
    assert one is not None
    assert result["gates"] == one["gates"]
    # The compiled C runs on the images of all ranks, so it has the accuracy that they measured together.
    assert result["compared"] == one["compared"] == 360
    assert result["accuracy_c"] == pytest.approx(result["accuracy_hard"], abs=1e-6)


def test_killed_processes_end_with_the_same_bits_when_resumed(tmp_path: Path) -> None:
    every = ["--trainer.callbacks+=lgn_lightning.callbacks.ResumePoint", "--trainer.callbacks.every_n_steps=3"]
    every.append("--trainer.callbacks.max_overhead=1e9")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = train(whole, 2, *every, strategy="logic_ddp")
    train(parts, 2, *every, strategy="logic_ddp", kill_at=14)
    resumed = train(parts, 2, "--resume", strategy="logic_ddp")  # with the run's own settings
    assert "resuming runs/digits/version_0" in (parts / "log.txt").read_text()
    assert differences(expected, resumed) == []


def _start(rank: int, folder: Path, differing: int) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=3)
    torch.manual_seed(1 if rank == differing else 0)
    net = LogicMLP([1, 8, 8], 10, width=100, depth=1, connections="random")
    try:
        check_same_start(net)
        (folder / str(rank)).write_text("same")
    except RankError as error:
        (folder / str(rank)).write_text(str(error))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("differing", [2, 9])
def test_a_rank_with_other_wires_is_named_on_all_ranks(tmp_path: Path, differing: int) -> None:
    mp.start_processes(_start, (tmp_path, differing), nprocs=3, start_method="fork")
    told = [(tmp_path / str(rank)).read_text() for rank in range(3)]
    assert len(set(told)) == 1
    assert told[0] == "same" if differing == 9 else told[0].startswith("rank 2 starts from another net than rank 0: ")


def test_one_process_has_nothing_to_compare() -> None:
    check_same_start(torch.nn.Linear(2, 2))
