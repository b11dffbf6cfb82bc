"""The op of a straight-through stack: against single layers, its reference, and torch's own checks of an op."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.nn.straight_through import straight_through
from lgn_lightning.ops import BitLayer, library
from lgn_lightning.ops import straight_through as module

WIDTHS = (11, 40, 24, 30)


pytestmark = pytest.mark.usefixtures("asked_backend")


def stack(
    widths: tuple[int, ...] = WIDTHS, seed: int = 0, learned: tuple[int, ...] = (), count: int = 5
) -> dict[str, list[Any]]:
    """Lists of the arguments of a stack; ``learned`` layers choose among ``count`` candidates."""
    g = torch.Generator().manual_seed(seed)
    lists: dict[str, list[Any]] = {name: [] for name in ("table", "gates", "a", "b", "logits", "shares", "candidates")}
    for layer, (inputs, n) in enumerate(pairwise(widths)):
        logits = torch.rand(n, 2, count, generator=g).requires_grad_()
        candidates = torch.randint(inputs, (n, 2, count), generator=g).int()
        lists["logits"].append(logits if layer in learned else None)
        lists["shares"].append(torch.softmax(logits.detach(), 2) if layer in learned else None)
        lists["candidates"].append(candidates if layer in learned else None)
        lists["table"].append(torch.rand(n, 4, generator=g).requires_grad_())
        lists["gates"].append(torch.randint(16, (n,), generator=g).to(torch.uint8))
        lists["a"].append(torch.randint(inputs, (n,), generator=g).int())
        lists["b"].append(torch.randint(inputs, (n,), generator=g).int())
    return lists


def records(lists: dict[str, list[Any]], **more: list[Any]) -> list[BitLayer]:
    """The layers of a stack; ``more`` are other fields of theirs, or replace some."""
    fields = {**lists, **more}
    return [BitLayer(**dict(zip(fields, values, strict=True))) for values in zip(*fields.values(), strict=True)]


def raw(lists: dict[str, list[Any]], *names: str) -> list[list[Tensor]]:
    """Some of the lists as an op takes them: empty tensors where a layer has fixed connections."""
    empty = {"shares": torch.empty(0), "candidates": torch.empty(0, dtype=torch.int32)}
    return [[empty[name] if part is None else part.detach() for part in lists[name]] for name in names]


def forward(x: Tensor, lists: dict[str, list[Any]], k: int, tau: float) -> tuple[Any, ...]:
    """The arguments of the op of the forward pass."""
    return x, *raw(lists, "gates", "a", "b", "candidates"), k, tau


def backward(
    grad: Tensor, words: list[Tensor], lists: dict[str, list[Any]], of_logits: list[bool], need_x: bool = True
) -> tuple[Any, ...]:
    """The arguments of the op of the backward pass."""
    return grad, words, *raw(lists, "table", "a", "b", "shares", "candidates"), of_logits, 2.0, [1.0, 2.0, 1.0], need_x


def layer_by_layer(x: Tensor, lists: dict[str, list[Any]], k: int, tau: float, factors: list[float]) -> Tensor:
    y = x.float()
    for table, gates, a, b, logits, _, candidates, factor in zip(*lists.values(), factors, strict=True):
        read = (y.detach() > 0.5).float()
        y = factor * y + ((1 - factor) * y).detach()  # the value of y, its gradient times the factor
        y = straight_through("logic", y, table, ops.hard_table(gates), (a, b), plain=True)
        if logits is not None:
            y = ops.learn_choices(y, torch.softmax(logits, 2), read, table.detach(), a, b, candidates)
    return y.view(len(x), k, -1).sum(2) / tau


@pytest.mark.parametrize("learned", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize("batch", [1, 7, 16, 64, 100, 127, 128, 129, 300, 1100])
def test_equals_the_layers_one_by_one(batch: int, learned: tuple[int, ...]) -> None:
    lists, factors = stack(learned=learned), [1.0, 2.0, 1.5]
    x = torch.rand(batch, 11, requires_grad=True)
    upper = torch.randn(batch, 3)
    wanted = x, *lists["table"], *(lists["logits"][layer] for layer in learned)
    expected = layer_by_layer(x, lists, 3, 2.5, factors)
    scores = ops.bit_logic(x, records(lists, factor=factors), 3, 2.5)
    assert torch.equal(scores, expected)  # whole numbers over tau
    for got, want in zip(
        torch.autograd.grad(scores, wanted, upper), torch.autograd.grad(expected, wanted, upper), strict=True
    ):
        torch.testing.assert_close(got, want, atol=2e-5 * batch**0.5, rtol=2e-5)


@pytest.mark.parametrize("batch", [70, 100])
def test_layers_whose_gradients_go_past_the_caches(batch: int) -> None:
    n = 8400  # from 2 MB of gradients a layer on, if few inputs are visited twice
    lists = stack((11, n, n, n))
    for side in "ab":
        lists[side][1:] = [torch.randperm(n, generator=torch.Generator().manual_seed(ord(side))).int()] * 2
    x, upper = torch.rand(batch, 11, requires_grad=True), torch.randn(batch, 3)
    wanted = x, *lists["table"]
    expected = torch.autograd.grad(layer_by_layer(x, lists, 3, 100.0, [1.0] * 3), wanted, upper)
    for got, want in zip(
        torch.autograd.grad(ops.bit_logic(x, records(lists), 3, 100.0), wanted, upper), expected, strict=True
    ):
        torch.testing.assert_close(got, want, atol=2e-5 * batch**0.5, rtol=2e-5)


@pytest.mark.parametrize("chosen", [True, False])  # whether the wires are among the candidates
@pytest.mark.parametrize("count", [8, 16, 24])
@pytest.mark.parametrize("batch", [5, 100, 128, 300])
def test_eights_of_candidates(batch: int, count: int, chosen: bool) -> None:
    lists = stack(learned=(0, 1, 2), count=count)
    if chosen:
        for side, name in enumerate("ab"):
            lists[name] = [wires[:, side, count - 2 * side - 1].contiguous() for wires in lists["candidates"]]
    x, upper = torch.rand(batch, 11, requires_grad=True), torch.randn(batch, 3)
    wanted = x, *lists["table"], *lists["logits"]
    expected = torch.autograd.grad(layer_by_layer(x, lists, 3, 1.0, [1.0] * 3), wanted, upper)
    for got, want in zip(
        torch.autograd.grad(ops.bit_logic(x, records(lists), 3), wanted, upper), expected, strict=True
    ):
        torch.testing.assert_close(got, want, atol=2e-5 * batch**0.5, rtol=2e-5)


@pytest.mark.parametrize("frozen", [(1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("batch", [100, 700])
def test_frozen_logits_change_no_other_gradient(batch: int, frozen: tuple[int, ...]) -> None:
    lists = stack(learned=(0, 1, 2), count=8)
    x, upper = torch.rand(batch, 11, requires_grad=True), torch.randn(batch, 3)
    free = [logits for layer, logits in enumerate(lists["logits"]) if layer not in frozen]
    wanted = x, *lists["table"], *free
    expected = torch.autograd.grad(ops.bit_logic(x, records(lists), 3), wanted, upper)
    for layer in frozen:
        lists["logits"][layer].requires_grad_(False)
    ops.bit_logic(x, records(lists), 3).backward(upper)
    for part, want in zip(wanted, expected, strict=True):
        assert part.grad is not None
        torch.testing.assert_close(part.grad, want, atol=2e-5 * batch**0.5, rtol=2e-5)
    assert all(lists["logits"][layer].grad is None for layer in frozen)


@pytest.mark.parametrize("batch", [100, 700])
def test_tables_may_be_given_as_logits(batch: int) -> None:
    # The last numbers of a layer fill no vector.
    lists, of_logits = stack((11, 39, 23, 30), learned=(1,)), [True, False, True]
    for layer in (0, 2):
        lists["table"][layer] = (4 * torch.randn(lists["table"][layer].shape)).requires_grad_()
    tables = [torch.sigmoid(t) if logits else t for t, logits in zip(lists["table"], of_logits, strict=True)]
    x, upper = torch.rand(batch, 11, requires_grad=True), torch.randn(batch, 3)
    wanted = x, *lists["table"]
    scores = ops.bit_logic(x, records(lists, of_logits=of_logits), 3)
    expected = ops.bit_logic(x, records(lists, table=tables), 3)
    assert torch.equal(scores, expected)
    for got, want in zip(
        torch.autograd.grad(scores, wanted, upper), torch.autograd.grad(expected, wanted, upper), strict=True
    ):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-5)


def test_logits_may_be_large_and_a_nan_is_not_hidden() -> None:
    lists = stack((9, 6))
    values = torch.tensor([-float("inf"), -1000.0, -88.0, -20.0, 0.0, 20.0, 88.0, 1000.0, float("inf")])
    logits = values.repeat(3)[:24].view(6, 4).requires_grad_()
    x = torch.rand(40, 9)
    for bad in (False, True):
        with torch.no_grad():
            logits[5, 3] = float("nan") if bad else 1.0
        one, other = (
            torch.autograd.grad(ops.bit_logic(x, records(lists, table=[given], of_logits=[how]), 2).sum(), logits)[0]
            for given, how in ((logits, True), (torch.sigmoid(logits), False))
        )
        torch.testing.assert_close(one, other, equal_nan=True)
        assert one.isnan().any() == bad


def test_input_may_be_bool_any_float_and_any_strides() -> None:
    lists = stack()
    x = torch.rand(77, 11)
    expected = ops.bit_logic(x, records(lists), 3)
    for other in (x > 0.5, x.double(), x.bfloat16(), x.t().contiguous().t(), (x > 0.5).t().contiguous().t()):
        want = ops.bit_logic(other.float(), records(lists), 3) if other.dtype == torch.bfloat16 else expected
        assert torch.equal(ops.bit_logic(other, records(lists), 3), want)
    x = x.double().requires_grad_()
    ops.bit_logic(x, records(lists), 3).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float64


def test_one_layer_and_unused_inputs() -> None:
    lists = stack((9, 6))
    lists["a"][0].fill_(4)
    lists["b"][0].fill_(4)
    x = torch.rand(20, 9).round().requires_grad_()
    scores = ops.bit_logic(x, records(lists), 2)
    assert torch.equal(scores, layer_by_layer(x, lists, 2, 1.0, [1.0]))
    (grad,) = torch.autograd.grad(scores.sum(), x)
    (expected,) = torch.autograd.grad(layer_by_layer(x, lists, 2, 1.0, [1.0]).sum(), x)
    torch.testing.assert_close(grad, expected)
    assert grad[:, [0, 8]].abs().sum() == 0


def test_empty_batch() -> None:
    lists = stack()
    x = torch.rand(0, 11, requires_grad=True)
    scores = ops.bit_logic(x, records(lists), 3)
    assert scores.shape == (0, 3)
    grads = torch.autograd.grad(scores.sum(), (x, *lists["table"]))
    assert grads[0].shape == (0, 11)
    assert all(bool((g == 0).all()) for g in grads[1:])


def test_activations_are_kept_as_bits() -> None:
    batch, lists = 1024, stack((16, 64, 64, 64))
    with torch.no_grad():
        _, words = torch.ops.lgn.bit_logic(*forward(torch.rand(batch, 16), lists, 2, 1.0))
    assert [w.dtype for w in words] == [torch.int64] * 3
    assert sum(w.untyped_storage().nbytes() for w in words) <= 1.05 * (16 + 64 + 64) * batch / 8 + 3 * 4096


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("batch", [100, 700])
def test_threads_change_no_bit(threads: int, batch: int) -> None:
    # Wide layers are cut into chunks, which threads share.
    lists = stack((50, 300, 6000, 9000), learned=(0, 2))
    x, upper = torch.rand(batch, 50, requires_grad=True), torch.randn(batch, 2)
    wanted = x, *lists["table"], lists["logits"][0], lists["logits"][2]
    results = []
    before = torch.get_num_threads()
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            scores = ops.bit_logic(x, records(lists), 2)
            results.append((scores, *torch.autograd.grad(scores, wanted, upper)))
    finally:
        torch.set_num_threads(before)
    plain = layer_by_layer(x, lists, 2, 1.0, [1.0] * 3)
    expected = plain, *torch.autograd.grad(plain, wanted, upper)
    for one, many, want in zip(*results, expected, strict=True):
        assert torch.equal(one, many)
        torch.testing.assert_close(one, want, atol=1e-3, rtol=1e-4)


def native_and_reference(name: str, *args: Any) -> tuple[Any, Any]:
    plain = {"bit_logic": module.bit_logic_reference, "gate_ids": module.gate_ids_reference}[name]
    with torch.no_grad():
        return getattr(torch.ops.lgn, name)(*args), plain(*args)


def test_reference_of_the_forward_pass() -> None:
    (scores, words), (expected, expected_words) = native_and_reference(
        "bit_logic", *forward(torch.rand(100, 11), stack(), 3, 2.0)
    )
    assert torch.equal(scores, expected)
    for got, want in zip(words, expected_words, strict=True):
        assert torch.equal(ops.unpack_bits(got, 100), ops.unpack_bits(want, 100))


@pytest.mark.parametrize("width", [4, 16])
@pytest.mark.parametrize("n", [1, 3, 4, 7, 500])
def test_gate_ids(n: int, width: int) -> None:
    logits = torch.randn(n, width)
    logits[::3, 1] = 0.0
    logits[::2] = logits[::2].round()  # ties: the first of the largest counts
    got, expected = native_and_reference("gate_ids", logits)
    assert got.dtype == torch.uint8
    assert torch.equal(got, expected)
    assert torch.equal(ops.gate_ids(logits.double()), expected)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("learned", [(), (0, 2)])
def test_opcheck(learned: tuple[int, ...], frozen: bool) -> None:
    lists, x = stack(learned=learned), torch.rand(70, 11)
    if frozen:
        lists["shares"] = [None] * 3
    utils = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.lgn.bit_logic.default, forward(x, lists, 3, 2.0), test_utils=utils)
    _, words = torch.ops.lgn.bit_logic(*forward(x, lists, 3, 2.0))
    for need_x in (True, False):
        torch.library.opcheck(
            torch.ops.lgn.bit_logic_backward.default,
            backward(torch.randn(70, 3), words, lists, [True, False, True], need_x),
            test_utils=("test_schema", "test_faketensor"),
        )
    torch.library.opcheck(torch.ops.lgn.gate_ids.default, (torch.randn(9, 4),))


def test_native_kernels_are_there() -> None:
    if os.environ.get("LGN_BACKEND") == "torch":
        pytest.skip("asked for plain torch")
    assert library.has_native("bit_logic", "cpu")
    assert library.has_native("bit_logic_backward", "cpu")


def test_words_of_a_caller_may_lie_otherwise() -> None:
    lists, upper, none = stack(), torch.randn(70, 3), [False] * 3
    _, words = torch.ops.lgn.bit_logic(*forward(torch.rand(70, 11), lists, 3, 2.0))
    first = torch.ops.lgn.bit_logic_backward(*backward(upper, words, lists, none))
    other = torch.ops.lgn.bit_logic_backward(*backward(upper, [w.contiguous() for w in words], lists, none))
    assert torch.equal(first[0], other[0])
    assert all(map(torch.equal, first[1], other[1]))


def test_bad_arguments() -> None:
    lists, x = stack(), torch.rand(5, 11)
    with pytest.raises(ValueError, match="at least one layer"):
        ops.bit_logic(x, [], 3)
    with pytest.raises(ValueError, match="one of logits, shares and candidates without the others"):
        ops.bit_logic(x, records(lists, candidates=stack(learned=(1,))["candidates"]), 3)
    with pytest.raises(ValueError, match="30 features do not divide into k = 4"):
        ops.bit_logic(x, records(lists), 4)
    with pytest.raises(ValueError, match=r"takes \[batch, features\]"):
        ops.bit_logic(x[0], records(lists), 3)
    with pytest.raises(TypeError, match=r"gates torch.int64"):
        ops.bit_logic(x, records(lists, gates=[g.long() for g in lists["gates"]]), 3)
    with pytest.raises(ValueError, match="of a layer do not fit"):
        ops.bit_logic(x, records(lists, table=[t[:, :3] for t in lists["table"]]), 3)
    with pytest.raises(ValueError, match=r"takes \[gates, 4\] or \[gates, 16\]"):
        ops.gate_ids(torch.rand(3, 5))
    if os.environ.get("LGN_BACKEND") != "torch":
        lists["a"][0][3] = 11
        with pytest.raises(IndexError, match="gate 3 has inputs 11"):
            ops.bit_logic(x, records(lists), 3)
