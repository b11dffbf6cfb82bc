"""Gradients of tables instead of weights: the same training as DDP's, and several processes train what one does."""

from __future__ import annotations

import csv
import os
import socket
import warnings
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning import LogicClassifier
from lgn_lightning.models import LogicMLP, LogicTreeNet
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential
from lgn_lightning.runs.folder import RunFolder
from lgn_lightning.training import host_means
from lgn_lightning.training.ddp import LogicDDPStrategy, mean_over_ranks, table_layers
from tests.killed_runs import differences, kill_at_step, run_lgn

KINDS = ("soft", "straight_through", "trees", "mixed")


class Bits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) > 127).float()


def make_net(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "trees":
        return LogicTreeNet([1, 8, 8], 10, [8], [200], [3], [1], tau=5.0, thresholds=[0.5])
    if kind == "mixed":  # DDP takes the second layer, which has as many weights as entries, and the third, which draws
        layers = [LogicLayer(i, o, parametrization=p) for i, o, p in ((64, 200, "softmax"), (200, 200, "sigmoid"))]
        return LogicSequential(Bits(), *layers, LogicLayer(200, 100, sampler="gumbel"), GroupSum(10, 5.0))
    return LogicMLP([1, 8, 8], 10, width=200, depth=2, sampler=kind, thresholds=[0.5])


class Recorder(pl.Callback):
    """Leaves what rank zero ends with."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            wrapped = isinstance(trainer.strategy.model, DistributedDataParallel)
            sent = any(layer.table_hook is mean_over_ranks for layer in table_layers(pl_module).values())
            torch.save({"wrapped": wrapped, "sent": sent, "net": pl_module.net.state_dict()}, self.path)


def train(kind: str, strategy: pl.strategies.Strategy, path: Path, accumulate: int = 1) -> dict:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (96, 1, 8, 8), dtype=torch.uint8, generator=generator)
    data = TensorDataset(images, torch.randint(0, 10, (96,), generator=generator))
    # Plain gradient descent, which would show a wrong factor on a gradient.
    module = LogicClassifier(make_net(kind), optimizer=partial(torch.optim.SGD, lr=20.0))
    pl.seed_everything(0, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=2,
            strategy=strategy,
            max_steps=4,
            accumulate_grad_batches=accumulate,
            callbacks=[Recorder(path)],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=path.parent,
        )
        trainer.fit(module, DataLoader(data, batch_size=12), DataLoader(data, batch_size=48))
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("kind", "accumulate", "one_host"),
    [*((kind, 1, True) for kind in KINDS), ("mixed", 2, True), ("straight_through", 1, False), ("mixed", 2, False)],
)
def test_the_weights_are_those_of_ddp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, accumulate: int, one_host: bool
) -> None:
    if not one_host:
        monkeypatch.setattr(host_means, "_MEMORY", tmp_path / "none")
    ours = train(kind, LogicDDPStrategy(start_method="fork"), tmp_path / "ours.pt", accumulate)
    theirs = train(kind, DDPStrategy(start_method="fork"), tmp_path / "theirs.pt", accumulate)
    start = make_net(kind).state_dict()
    for name, weights in theirs["net"].items():
        torch.testing.assert_close(ours["net"][name], weights, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        if name.endswith("weights"):
            assert (weights - start[name]).abs().max() > 0.01, f"{name} was hardly trained"
    assert ours["wrapped"] == (kind == "mixed")
    assert ours["sent"] != one_host


def test_which_layers_have_fewer_entries_than_weights() -> None:
    assert len(table_layers(make_net("soft"))) == 2
    assert len(table_layers(make_net("trees"))) == 2
    assert list(table_layers(make_net("mixed"))) == ["1"]


def test_a_backward_pass_can_be_repeated_and_sums_all_uses_of_a_table(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        weights = torch.tensor([1.0, 2.0], requires_grad=True)
        table = mean_over_ranks(weights**2)
        loss = (3 * table).sum() + table[0]
        loss.backward(retain_graph=True)
        assert weights.grad is not None
        torch.testing.assert_close(weights.grad, torch.tensor([8.0, 12.0]))
        loss.backward()
        torch.testing.assert_close(weights.grad, torch.tensor([16.0, 24.0]))
    finally:
        torch.distributed.destroy_process_group()


# `lgn fit`, one process a rank.

SMALL = [
    "--model.net.width=300",
    "--model.net.depth=2",
    "--model.net.init=residual",
    "--model.net.parametrization=softmax",  # which logic_ddp has something to gain from
    "--model.net.sampler=soft",  # 10 steps move soft gates, but no hard ones
    "--data.eval_batch_size=37",
    "--trainer.max_steps=10",
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
    return run_fit(tmp_path_factory.mktemp("alone"), 1)


def run_fit(folder: Path, processes: int, *options: str, strategy: str = "ddp", kill_at: int | None = None) -> Path:
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


@pytest.mark.parametrize(
    ("processes", "strategy"),
    [
        (2, "ddp"),
        (2, "logic_ddp"),
        *(pytest.param(4, strategy, marks=pytest.mark.soak) for strategy in ("ddp", "logic_ddp")),
    ],
)
def test_curves_are_those_of_one_process(alone: Path, tmp_path: Path, processes: int, strategy: str) -> None:
    named = ["--run_name=version_0"] if strategy == "logic_ddp" else []  # as jobs of a cluster are
    run = run_fit(tmp_path, processes, *named, strategy=strategy)
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
    expected = run_fit(whole, 2, *every, strategy="logic_ddp")
    run_fit(parts, 2, *every, strategy="logic_ddp", kill_at=8)
    resumed = run_fit(parts, 2, "--resume", strategy="logic_ddp")  # with the run's own settings
    assert "resuming runs/digits/version_0" in (parts / "log.txt").read_text()
    assert differences(expected, resumed) == []
