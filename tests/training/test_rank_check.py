"""Ranks that do not train the same net are an error that names the rank, on all ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from lgn_lightning.models import LogicMLP
from lgn_lightning.training.rank_check import RankError, check_same_start, check_same_weights


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
    assert told[0] == "same" if differing == 9 else "rank 2" in told[0]


def test_one_process_has_nothing_to_compare() -> None:
    check_same_start(torch.nn.Linear(2, 2))


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
    assert len(told) == 1
    (message,) = told
    assert "second" in message and "rank 1" in message if differing else message == "same"
