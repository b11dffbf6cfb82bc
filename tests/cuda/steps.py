"""What a step on a GPU has to do, whatever its ops: run as a CUDA graph, and never wait for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning.training.graphed_step import GraphedStep


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever waits for the device raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def record(step: Callable[[], tuple[Tensor, ...]]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
    """Runs a step once, as a capture needs, then captures it: the graph, and the tensors that a replay fills."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    return graph, results


def check_graphed_training(make_net: Callable[[], nn.Module], x: Tensor, y: Tensor) -> None:
    """A net that trains by a CUDA graph comes to the loss of one that trains by eager steps."""
    losses = []
    for graphed in (False, True):
        net = make_net()  # which also seeds what the steps draw
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)

        def loss(x: Tensor, y: Tensor, net: nn.Module = net) -> Tensor:
            return nn.functional.cross_entropy(net(x), y)

        step = GraphedStep(net, loss, optimizer) if graphed else None
        for _ in range(12):
            if step is None:
                optimizer.zero_grad()
                loss(x, y).backward()
                optimizer.step()
            else:
                step(x, y)
        assert step is None or step.recorded
        losses.append(loss(x, y).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def check_training_waits_for_nothing(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """The second step of a net, and any later one, only queues its kernels."""
    nn.functional.cross_entropy(net(x), y).backward()
    with no_waiting():
        nn.functional.cross_entropy(net(x), y).backward()
