"""Training on a GPU: autocast, torch.compile, CUDA graphs, packed evaluation and DDP."""

from __future__ import annotations

import copy
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import LogicClassifier
from lgn_lightning.data import Digits
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, PackBitsTensor
from lgn_lightning.training.graphed_step import GraphedStep
from tests.cuda.steps import no_waiting

pytestmark = pytest.mark.cuda


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


def graphed(net: nn.Module) -> GraphedStep:
    optimizer = torch.optim.Adam(net.parameters(), lr=2.0**-6, fused=True)
    return GraphedStep(net, lambda x, y: nn.functional.cross_entropy(net(x), y), optimizer)


@pytest.mark.parametrize("implementation", [None, "python"])
def test_cuda_graph_trains_as_the_eager_step(implementation: str | None) -> None:
    batches = [make_batch() for _ in range(12)]
    batches[8] = batches[8][0][:30], batches[8][1][:30]  # runs eagerly between replays
    eager, net = make_net(implementation), make_net(implementation)
    optimizer = torch.optim.Adam(eager.parameters(), lr=2.0**-6, fused=True)
    expected = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(eager(x), y)
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    step = graphed(net)
    got = [step(x, y).item() for x, y in batches]
    assert step.recorded
    assert not step.failed
    if implementation is None:
        assert got == expected
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), eager.parameters(), strict=True))
    else:  # plain torch scatters with atomics
        assert got == pytest.approx(expected, rel=1e-3)


def test_a_replay_neither_waits_nor_launches_from_python() -> None:
    net, (x, y) = make_net(), make_batch()
    step = graphed(net)
    for _ in range(5):
        step(x, y)
    with no_waiting():
        loss = step(x, y)
    assert loss.isfinite()


def test_cuda_graph_follows_the_rate_and_the_wires() -> None:
    net, plain, (x, y) = make_net(), make_net(), make_batch()
    step = graphed(net)
    optimizer = torch.optim.Adam(plain.parameters(), lr=2.0**-6, fused=True)
    for i in range(14):
        if i == 7:
            for changed in (net, plain):
                changed[1].indices_a.copy_(changed[1].indices_a.flip(0))
        rate = 2.0 ** -(6 + i)
        optimizer.param_groups[0]["lr"] = step._optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(plain(x), y)
        loss.backward()
        optimizer.step()
        assert step(x, y).item() == loss.item(), i
        assert step.recorded == (3 <= i < 7 or i >= 10)


def test_a_step_that_waits_for_the_device_is_not_recorded() -> None:
    net, (x, y) = make_net(), make_batch()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        value = nn.functional.cross_entropy(net(x), y)
        return value * (1.0 if value.item() > 0 else 2.0)

    step = GraphedStep(net, loss, optimizer)
    for _ in range(3):
        step(x, y)
    with pytest.warns(UserWarning, match="without a CUDA graph"):
        first = step(x, y).item()
    losses = [step(x, y).item() for _ in range(20)]
    assert losses[-1] < first


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fit_with_a_graph_and_resident_data_is_the_fit_without(tmp_path: Path, precision: Any) -> None:
    results = []
    for fast in (False, True):
        torch.manual_seed(2)
        model = LogicClassifier(
            LogicMLP((1, 8, 8), 10, width=500, depth=3, tau=5.0),
            optimizer=partial(torch.optim.Adam, lr=2.0**-6, fused=True),
            lr_scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=10, gamma=0.5),
            cuda_graph=fast,
        )
        data = Digits(batch_size=100, drop_last=False, shuffle_seed=3, resident=fast)
        run = pl.Trainer(
            max_epochs=3,
            accelerator="cuda",
            devices=1,
            precision=precision,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            default_root_dir=tmp_path,
        )
        run.fit(model, data)
        state = {name: value.cpu() for name, value in model.net.state_dict().items()}
        results.append((state, {name: value.item() for name, value in run.callback_metrics.items()}))
    (state, metrics), (fast_state, fast_metrics) = results
    assert metrics == fast_metrics
    assert all(torch.equal(value, fast_state[name]) for name, value in state.items())


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
