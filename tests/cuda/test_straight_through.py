"""Straight-through stacks on packed bits on a GPU, against the same stack on the CPU's reference."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential
from lgn_lightning.ops import BitLayer, choices, library
from lgn_lightning.ops import straight_through as module
from tests.cuda.steps import check_graphed_training, check_training_waits_for_nothing

pytestmark = pytest.mark.cuda
FACTORS = [1.0, 2.0, 1.5]


def stack(widths: tuple[int, ...] = (11, 400, 240, 300), device: str = "cpu") -> list[list[Tensor]]:
    """Tables, gates, a and b of each layer."""
    g = torch.Generator().manual_seed(0)
    lists: list[list[Tensor]] = [[], [], [], []]
    for inputs, n in pairwise(widths):
        lists[0].append(torch.rand(n, 4, generator=g))
        lists[1].append(torch.randint(16, (n,), generator=g).byte())
        lists[2].append(torch.randint(inputs, (n,), generator=g).int())
        lists[3].append(torch.randint(inputs, (n,), generator=g).int())
    return [[t.to(device) for t in of_layers] for of_layers in lists]


def fixed(device: str = "cpu") -> tuple[list[Tensor], list[Tensor]]:
    """Shares and candidates of three layers that have none."""
    return [torch.empty(0, device=device)] * 3, [torch.empty(0, dtype=torch.int32, device=device)] * 3


def test_kernels_are_native() -> None:
    for name in ("gate_ids", "bit_logic", "bit_logic_backward", "choose", "choose_backward", "choices_backward"):
        assert library.has_native(name, "cuda")


def records(*lists: list[Tensor]) -> list[BitLayer]:
    return [BitLayer(*layer) for layer in zip(*lists, strict=True)]


@pytest.mark.parametrize("need_x", [True, False])
@pytest.mark.parametrize("batch", [0, 1, 64, 100, 127, 128, 129, 1100])
def test_stack(batch: int, need_x: bool) -> None:
    lists, on_gpu = stack(), stack(device="cuda")
    x, grad = torch.rand(batch, 11), torch.randn(batch, 3)
    scores, words = torch.ops.lgn.bit_logic(x.cuda(), *on_gpu[1:], fixed("cuda")[1], 3, 2.5)
    expected, expected_words = module.bit_logic_reference(x, *lists[1:], fixed()[1], 3, 2.5)
    torch.testing.assert_close(scores.cpu(), expected, atol=0, rtol=2e-7)  # whole numbers over tau
    tables, _, a, b = lists
    double = [t.double() for t in tables]
    settings = [True, False, True], 2.5, FACTORS, need_x
    exact = module.bit_logic_backward_reference(grad.double(), expected_words, double, a, b, *fixed(), *settings)
    rest = on_gpu[0], on_gpu[2], on_gpu[3], *fixed("cuda"), *settings
    got = torch.ops.lgn.bit_logic_backward(grad.cuda(), words, *rest)
    # Words of another layout, and a second run: the same bits.
    again = torch.ops.lgn.bit_logic_backward(grad.cuda(), [w.contiguous() for w in words], *rest)
    assert torch.equal(got[0], again[0])
    if need_x:
        torch.testing.assert_close(got[0].cpu().double(), exact[0].double(), atol=2e-3, rtol=1e-4)
    for mine, same, want in zip(got[1], again[1], exact[1], strict=True):
        assert torch.equal(mine, same)
        torch.testing.assert_close(mine.cpu().double(), want.double(), atol=5e-3, rtol=1e-4)


def test_input_may_be_bool_any_float_and_any_strides() -> None:
    lists, x = stack(device="cuda"), torch.rand(77, 11, device="cuda")
    expected = ops.bit_logic(x, records(*lists), 3)
    for other in (x > 0.5, x.double(), x.t().contiguous().t(), (x > 0.5).t().contiguous().t()):
        assert torch.equal(ops.bit_logic(other, records(*lists), 3), expected)
    half = x.bfloat16()
    assert torch.equal(ops.bit_logic(half, records(*lists), 3), ops.bit_logic(half.float(), records(*lists), 3))


@pytest.mark.parametrize("width", [4, 16])
def test_gate_ids(width: int) -> None:
    logits = torch.randn(1001, width)
    logits[::2] = logits[::2].round()  # ties: the first of the largest counts
    assert torch.equal(ops.gate_ids(logits.cuda()).cpu(), module.gate_ids_reference(logits))
    assert ops.gate_ids(logits[:0].cuda()).shape == (0,)


def test_opcheck() -> None:
    _, *lists = stack(device="cuda")
    arguments = (torch.rand(70, 11, device="cuda"), *lists, fixed("cuda")[1], 3, 2.0)
    torch.library.opcheck(torch.ops.lgn.bit_logic.default, arguments, test_utils=("test_schema", "test_faketensor"))


def test_learned_wires() -> None:
    torch.manual_seed(0)
    net = LogicMLP((1, 4, 4), 2, 40, 2, connections="learned", sampler="straight_through", parametrization="sigmoid")
    x = torch.randint(0, 256, (70, 1, 4, 4), dtype=torch.uint8)
    expected = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    net.cuda()
    for got, want in zip(
        torch.autograd.grad(net(x.cuda()).square().sum(), list(net.parameters())), expected, strict=True
    ):
        torch.testing.assert_close(got.cpu(), want, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("batch", [1, 100, 129, 1100])
def test_learned_wires_are_the_reference_and_deterministic(batch: int) -> None:
    tables, gates, _, _ = stack()
    candidates, a, b = [], [], []
    for inputs, table in zip((11, 400, 240), tables, strict=True):
        wires = torch.randint(inputs, (len(table), 2, 5)).int()
        chosen = wires.gather(2, torch.randint(5, (len(table), 2, 1))).squeeze(2)
        candidates.append(wires)
        a.append(chosen[:, 0].contiguous())
        b.append(chosen[:, 1].contiguous())
    x, grad = torch.rand(batch, 11).round(), torch.randn(batch, 3)
    shares = [torch.softmax(torch.rand(wires.shape), 2) for wires in candidates]
    scores, words = module.bit_logic_reference(x, gates, a, b, candidates, 3, 2.5)
    on_gpu = [[t.cuda() for t in part] for part in (tables, gates, a, b, shares, candidates)]
    got_scores, got_words = torch.ops.lgn.bit_logic(x.cuda(), *on_gpu[1:4], on_gpu[5], 3, 2.5)
    torch.testing.assert_close(got_scores.cpu(), scores, atol=0, rtol=2e-7)
    settings = [True, False, True], 2.5, FACTORS, True
    exact = module.bit_logic_backward_reference(
        grad.double(), words, [t.double() for t in tables], a, b, shares, candidates, *settings
    )
    rest = on_gpu[0], *on_gpu[2:], *settings
    got = torch.ops.lgn.bit_logic_backward(grad.cuda(), got_words, *rest)
    again = torch.ops.lgn.bit_logic_backward(grad.cuda(), got_words, *rest)
    assert torch.equal(got[0], again[0])
    torch.testing.assert_close(got[0].cpu().double(), exact[0].double(), atol=2e-3, rtol=1e-4)
    for part in (1, 2):
        for mine, same, want in zip(got[part], again[part], exact[part], strict=True):
            assert torch.equal(mine, same)
            torch.testing.assert_close(mine.cpu().double(), want.double(), atol=5e-3, rtol=1e-4)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_choice(noise: float) -> None:
    logits, level = torch.randn(300, 2, 8), torch.rand(300, 2)
    candidates = torch.randint(50, (300, 2, 8)).int()
    *wires, shares = torch.ops.lgn.choose(logits.cuda(), candidates.cuda(), level.cuda(), noise)
    *expected_wires, expected = choices.choose_reference(logits, candidates, level, noise)
    for got, want in zip(wires, expected_wires, strict=True):
        assert (got.cpu() != want).sum() < 3, "a draw at a boundary may fall to either side"
    torch.testing.assert_close(shares.cpu(), expected, atol=1e-6, rtol=1e-5)
    grad = torch.randn(300, 2, 8)
    torch.testing.assert_close(
        torch.ops.lgn.choose_backward(grad.cuda(), shares).cpu(), choices.choose_backward_reference(grad, expected)
    )


def test_bad_wires_and_devices() -> None:
    lists, x = stack(device="cuda"), torch.rand(5, 11, device="cuda")
    with pytest.raises(RuntimeError, match="move the module and its input to one device"):
        ops.bit_logic(x, records(lists[0], [g.cpu() for g in lists[1]], *lists[2:]), 3)
    lists[2][1][3] = 400
    with pytest.raises(IndexError, match="gate 3 has inputs 400 and"):
        ops.bit_logic(x, records(*lists), 3)


def make_net(connections: str = "random") -> LogicSequential:
    torch.manual_seed(1)
    options: dict[str, Any] = {"sampler": "straight_through", "device": "cuda", "connections": connections}
    layers = [LogicLayer(i, n, **options) for i, n in [(64, 2000), (2000, 2000), (2000, 1000)]]
    return LogicSequential(*layers, GroupSum(10, tau=10.0))


def make_batch() -> tuple[Tensor, Tensor]:
    return torch.rand(100, 64, device="cuda").round(), torch.randint(10, (100,), device="cuda")


def test_a_net_trains_on_bits_as_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = ops.bit_logic

    def counting(*args: Any) -> Tensor:
        calls.append(1)
        return original(*args)

    monkeypatch.setattr(ops, "bit_logic", counting)
    x, y = make_batch()
    results = []
    for net in (make_net(), nn.Sequential(*make_net())):
        nn.functional.cross_entropy(net(x), y).backward()
        results.append([p.grad for p in net.parameters()])
    assert len(calls) == 1
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("connections", ["random", "learned"])
def test_the_step_as_a_cuda_graph(connections: str) -> None:
    check_graphed_training(lambda: make_net(connections), *make_batch())


def test_no_call_waits_for_the_device() -> None:
    check_training_waits_for_nothing(make_net(), *make_batch())
