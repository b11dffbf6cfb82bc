"""Gradients of tables instead of weights: the same training as DDP's, and what is left to DDP."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning import LogicClassifier
from lgn_lightning.models import LogicMLP, LogicTreeNet
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential
from lgn_lightning.training import host_means
from lgn_lightning.training.ddp import LogicDDPStrategy, mean_over_ranks, table_layers
from lgn_lightning.training.rank_check import RankError, check_same_weights

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


def _compare(rank: int, folder: Path, differing: bool) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    weights = torch.zeros(3, 16)
    if differing and rank == 1:
        weights[2, 7] = 1e-7
    try:
        check_same_weights({"first": torch.ones(2, 16), "second": weights})
        (folder / str(rank)).write_text("same")
    except RankError as error:
        (folder / str(rank)).write_text(str(error))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("differing", [False, True])
def test_weights_that_drift_apart_are_an_error_on_all_ranks(tmp_path: Path, differing: bool) -> None:
    mp.start_processes(_compare, (tmp_path, differing), nprocs=2, start_method="fork")
    told = {(tmp_path / str(rank)).read_text() for rank in range(2)}
    expected = "second of rank 1 has come to other weights" if differing else "same"
    assert len(told) == 1
    assert expected in told.pop()


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
