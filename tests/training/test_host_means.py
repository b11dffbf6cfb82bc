"""Means over the processes of one host: in memory that they share, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from lgn_lightning.nn import LogicLayer
from lgn_lightning.training import host_means
from lgn_lightning.training.host_means import HostMeans, memory_of_ranks
from lgn_lightning.training.rank_check import RankError

RANKS = 3


def start(work: object, folder: Path, *arguments: object) -> list[object]:
    """What ``work`` gives on each rank, in processes of their own."""
    mp.start_processes(_rank, (work, folder, *arguments), nprocs=RANKS, start_method="fork")
    return [torch.load(folder / str(rank), weights_only=True) for rank in range(RANKS)]


def _rank(rank: int, work: object, folder: Path, *arguments: object) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=RANKS)
    assert callable(work)
    torch.save(work(rank, *arguments), folder / str(rank))
    torch.distributed.destroy_process_group()


def make_layers() -> dict[str, LogicLayer]:
    torch.manual_seed(0)
    return {name: LogicLayer(8, gates, connections="random") for name, gates in (("a", 7), ("b", 5), ("c", 4))}


def loss_of(tables: dict[str, Tensor], rank: int, step: int) -> Tensor:
    """Another gradient on each rank and in each step; the second step leaves a table out."""
    used = [name for name in tables if step != 1 or name != "b"]
    generator = torch.Generator().manual_seed(10 * step + rank)
    return sum((tables[name] * torch.randn(tables[name].shape, generator=generator)).sum() for name in used)


def _gradients(rank: int) -> list[Tensor]:
    layers = make_layers()
    means = HostMeans.of(layers)
    assert means is not None
    for name, layer in layers.items():
        layer.table_hook = means.hook(name)
    result = []
    for step in range(4):
        for layer in layers.values():
            layer.weights.grad = None
        loss = loss_of({name: layer.table() for name, layer in layers.items()}, rank, step)
        if step == 2:  # a layer that is called twice in one forward pass
            loss = loss + (layers["a"].table() * (rank + 1)).sum()
        loss.backward(retain_graph=step == 3)
        if step == 3:
            loss.backward()
        result.append(torch.cat([torch.zeros_like(w) if w.grad is None else w.grad for w in weights(layers)]))
    return result


def weights(layers: dict[str, LogicLayer]) -> list[Tensor]:
    return [layer.weights for layer in layers.values()]


def test_gradients_are_the_means_and_equal_to_the_bit_on_all_ranks(tmp_path: Path) -> None:
    before = set(Path("/dev/shm").glob("lgn-*"))
    ranks = start(_gradients, tmp_path)
    assert set(Path("/dev/shm").glob("lgn-*")) <= before
    for step in range(4):
        layers = make_layers()
        for rank in range(RANKS):
            tables = {name: layer.table() for name, layer in layers.items()}
            loss = loss_of(tables, rank, step)
            if step == 2:
                loss = loss + (tables["a"] * (rank + 1)).sum()
            (loss * (2 if step == 3 else 1) / RANKS).backward()
        expected = torch.cat([torch.zeros_like(w) if w.grad is None else w.grad for w in weights(layers)])
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(ranks[0][step], expected, rtol=1e-5, atol=1e-6)
        assert all(torch.equal(ranks[0][step], other[step]) for other in ranks[1:])


def _uneven(rank: int) -> str:
    layers = make_layers()
    means = HostMeans.of(layers)
    assert means is not None
    for name, layer in layers.items():
        layer.table_hook = means.hook(name)
    with pytest.raises(RankError) as error:
        sum(layer.table().sum() for name, layer in layers.items() if name != "b" or rank == 1).backward()
    return str(error.value)


def test_a_layer_that_some_ranks_leave_out_is_an_error_on_all(tmp_path: Path) -> None:
    told = set(start(_uneven, tmp_path))
    assert told == {"b took part in the loss on 1 of 3 ranks; use it on all or on none"}


def _memory(rank: int, fault: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        if fault == "another host" and rank == 2:
            patch.setattr(host_means, "Path", lambda name: Path(f"{name}-of-another-host"))
        if fault == "no folder":
            patch.setattr(host_means, "_MEMORY", Path("/no/such/folder"))
        if fault == "full":

            def refuse(*_: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(os, "posix_fallocate", refuse)
        with pytest.warns(match="no 4 MB left") if fault == "full" and rank == 0 else patch.context():
            memory = memory_of_ranks(1 << 20, torch.float32)
    if memory is None:
        return "none"
    memory[rank] = rank + 1
    torch.distributed.barrier()
    return str(memory[:RANKS].tolist())


@pytest.mark.parametrize("fault", ["", "another host", "no folder", "full"])
def test_ranks_without_memory_in_common_have_none(tmp_path: Path, fault: str) -> None:
    before = set(Path("/dev/shm").glob("lgn-*"))
    expected = "none" if fault else "[1.0, 2.0, 3.0]"
    assert start(_memory, tmp_path, fault) == [expected] * RANKS
    assert set(Path("/dev/shm").glob("lgn-*")) <= before


def test_one_process_needs_no_memory() -> None:
    assert HostMeans.of(make_layers()) is None
