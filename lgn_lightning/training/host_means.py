"""Means of gradients over the processes of one host, in shared memory instead of through sockets."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lgn_lightning.nn import GateLayer
from lgn_lightning.nn.gate_layer import table_dtype
from lgn_lightning.training.rank_check import RankError

#: A folder in memory. On a network file system a process may see the file, but not what another host writes to it.
_MEMORY = Path("/dev/shm")


class HostMeans:
    """Averages the gradients of tables over the ranks, which all train on the CPU of one host.

    Each rank writes its gradients to a row of shared memory. At the end of the backward pass it averages its share of
    the entries, and then reads the means of all shares. Each mean is computed once, so all ranks have the same bits.
    The process group only synchronizes, twice a pass, and so reports a rank that has died, as always.

    Args:
        sizes: Entries of each table by name, the same on all ranks.
        memory: ``[ranks + 1, entries of all tables]``, the same memory on all ranks; the last row holds the means.
    """

    def __init__(self, sizes: Mapping[str, int], memory: Tensor) -> None:
        rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        entries = sum(sizes.values())
        self._share = slice(entries * rank // ranks, entries * (rank + 1) // ranks)
        self._all, self._means = memory[:-1], memory[-1].split_with_sizes(list(sizes.values()))
        self._mine = self._all[rank].split_with_sizes(list(sizes.values()))
        self._places = {name: place for place, name in enumerate(sizes)}
        self._means_of_share = memory[-1, self._share]
        self._reached: dict[str, Tensor] = {}

    @staticmethod
    def of(layers: Mapping[str, GateLayer]) -> HostMeans | None:
        """The means of the tables of some layers by name; called on all ranks.

        None on all ranks if there is only one rank, if the layers are not on the CPU or have several dtypes, if the
        ranks run on several hosts, or, with a warning, if the host has too little shared memory.
        """
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return None
        ranks = torch.distributed.get_world_size()
        dtypes = {table_dtype(layer.weights.dtype) for layer in layers.values()}
        if ranks == 1 or len(dtypes) != 1 or any(layer.weights.device.type != "cpu" for layer in layers.values()):
            return None
        sizes = {name: len(layer.weights) << layer.arity for name, layer in layers.items()}
        memory = memory_of_ranks((ranks + 1) * sum(sizes.values()), dtypes.pop())
        return None if memory is None else HostMeans(sizes, memory.view(ranks + 1, -1))

    def hook(self, name: str) -> Callable[[Tensor], Tensor]:
        """The ``table_hook`` of a layer: gives its table, whose gradient is averaged over all ranks."""

        def mean_over_host(table: Tensor) -> Tensor:
            used = table.detach().requires_grad_()
            used.register_post_accumulate_grad_hook(partial(self._leave, name, table))  # type: ignore[no-untyped-call]
            return used

        return mean_over_host

    def _leave(self, name: str, table: Tensor, used: Tensor) -> None:
        gradient, used.grad = used.grad, None
        assert gradient is not None
        row = self._mine[self._places[name]].view(gradient.shape)
        if name in self._reached:  # a layer may be called twice
            row += gradient
        else:
            row.copy_(gradient)
        self._reached[name] = table
        torch.autograd.Variable._execution_engine.queue_callback(self._finish)

    def _finish(self) -> None:
        reached, self._reached = self._reached, {}
        if not reached:
            return  # an earlier callback of this backward pass did the work
        counts = torch.zeros(len(self._places), dtype=torch.int32)
        counts[[self._places[name] for name in reached]] = 1
        torch.distributed.all_reduce(counts)  # waits until all gradients are there
        for name, count in zip(self._places, counts.tolist(), strict=True):
            if count not in (0, len(self._all)):
                raise RankError(
                    f"{name} took part in the loss on {count} of {len(self._all)} ranks; use it on all or on none"
                )
        torch.mean(self._all[:, self._share], 0, out=self._means_of_share)
        torch.distributed.barrier()
        for name, table in reached.items():
            mean = self._means[self._places[name]].view(table.shape)
            # The caller may run another backward pass on its graph, and nothing else keeps this part of it.
            torch.autograd.backward(table, mean, retain_graph=True)


def memory_of_ranks(size: int, dtype: torch.dtype) -> Tensor | None:
    """The same ``[size]``, uninitialized, on all ranks, freed when the last of them ends; None if they cannot share."""
    size_in_bytes = size * dtype.itemsize
    first = torch.distributed.get_rank() == 0
    name = [_new_file(size_in_bytes) if first else None]
    torch.distributed.broadcast_object_list(name)
    if name[0] is None:
        return None
    path = Path(name[0])
    memory = None
    try:
        if path.is_file() and path.stat().st_size == size_in_bytes:  # else from_file would create it
            memory = torch.from_file(str(path), shared=True, size=size, dtype=dtype)
    except (OSError, RuntimeError):
        pass  # a file of another user, for example
    everywhere = torch.tensor(memory is not None, dtype=torch.int32)
    torch.distributed.all_reduce(everywhere, torch.distributed.ReduceOp.MIN)
    if first:
        path.unlink()  # the memory stays as long as it is mapped
    return memory if everywhere.item() else None


def _new_file(size: int) -> str | None:
    """Makes a file with all its bytes allocated: a write to bytes that cannot be allocated would kill the process."""
    try:
        file, path = tempfile.mkstemp(prefix="lgn-", dir=_MEMORY)
    except OSError:
        return None
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        Path(path).unlink()
        if error.errno == errno.ENOSPC:
            rank_zero_warn(
                f"{_MEMORY} has no {size / 2**20:.0f} MB left, so gradients are sent from process to process, which "
                "is slower; in a container, raise --shm-size"
            )
        return None
    finally:
        os.close(file)
    return path
