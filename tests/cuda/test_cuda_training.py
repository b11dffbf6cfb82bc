"""Training on a GPU: autocast, torch.compile, CUDA graphs, packed evaluation and DDP."""

from __future__ import annotations

import copy
import os
import socket

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, PackBitsTensor
from lgn_lightning.ops import loader

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True, scope="module")
def _native() -> None:
    if torch.cuda.is_available():
        loader.require("cuda")


def make_net(implementation: str | None = None) -> LogicSequential:
    torch.manual_seed(1)
    return LogicSequential(
        LogicLayer(64, 2000, device="cuda", implementation=implementation),
        LogicLayer(2000, 2000, device="cuda", implementation=implementation),
        LogicLayer(2000, 1000, device="cuda", implementation=implementation),
        GroupSum(10, tau=10.0),
    )


def make_batch() -> tuple[Tensor, Tensor]:
    return torch.rand(100, 64, device="cuda").round(), torch.randint(10, (100,), device="cuda")


def train(net: nn.Module, steps: int, x: Tensor, y: Tensor) -> list[float]:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_follows_plain_torch() -> None:
    x, y = make_batch()
    native, plain = train(make_net(), 20, x, y), train(make_net("python"), 20, x, y)
    assert native == pytest.approx(plain, rel=1e-3)
    assert native[-1] < native[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    x, y = make_batch()
    net = make_net()
    exact = nn.functional.cross_entropy(net(x), y)
    exact.backward()
    expected = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    with torch.autocast("cuda", dtype=dtype):
        hidden = net[0](x)
        scores = net(x)
        loss = nn.functional.cross_entropy(scores, y)
    loss.backward()
    assert hidden.dtype == dtype
    assert scores.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=2e-2)
    for parameter, wanted in zip(net.parameters(), expected, strict=True):
        assert parameter.grad is not None
        error = (parameter.grad - wanted).norm() / wanted.norm()
        assert error < 0.05


def test_compiles_to_one_graph() -> None:
    x, y = make_batch()
    net = make_net()
    compiled = torch.compile(net, fullgraph=True)
    expected = nn.functional.cross_entropy(net(x), y)
    grads = torch.autograd.grad(expected, list(net.parameters()))
    got = nn.functional.cross_entropy(compiled(x), y)
    torch.testing.assert_close(got, expected)
    for one, other in zip(torch.autograd.grad(got, list(net.parameters())), grads, strict=True):
        torch.testing.assert_close(one, other)


def test_cuda_graph_of_a_training_step() -> None:
    x, y = make_batch()
    eager, net = make_net(), make_net()
    expected = train(eager, 8, x, y)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True, capturable=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    got = []
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        got += [step().item() for _ in range(3)]
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    for _ in range(5):
        graph.replay()
        got.append(loss.item())
    assert got == pytest.approx(expected, rel=1e-3)


def test_capture_of_an_unknown_wiring_says_what_to_do() -> None:
    net, (x, _) = make_net(), make_batch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="run the step once before the capture"), torch.cuda.graph(graph):
        net(x)


def test_packed_evaluation_is_the_hard_net() -> None:
    net, (x, _) = make_net(), make_batch()
    net.eval()
    hard = net(x)
    for bits in (8, 16, 32, 64):
        counts = net(PackBitsTensor(x.bool(), bits))
        assert torch.equal(counts.float() / 10.0, hard)


def test_moving_and_loading_wires() -> None:
    net, (x, _) = make_net(), make_batch()
    other = copy.deepcopy(net)
    with torch.no_grad():
        expected = net(x)
        for p in other.buffers():
            p.zero_()
        assert not torch.equal(other(x), expected)
        other.load_state_dict(net.state_dict())
        torch.testing.assert_close(other(x), expected)
        torch.testing.assert_close(other.cpu()(x.cpu()), expected.cpu())


def test_ddp_with_nccl_on_one_device() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("nccl", rank=0, world_size=1)
    try:
        x, y = make_batch()
        net = nn.parallel.DistributedDataParallel(make_net(), device_ids=[0])
        assert train(net, 5, x, y) == pytest.approx(train(make_net(), 5, x, y), rel=1e-5)
    finally:
        torch.distributed.destroy_process_group()
