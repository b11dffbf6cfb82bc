"""A stack of layers as one op: the oracle, single layers, gradients, threads, and what it refuses."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import dense_stack
from lgn_lightning.ops.dense_stack import SoftLayer

lgn = torch.ops.lgn
FORMS = ["table", "sigmoid", "softmax", "warped"]


def layers(widths: list[int], forms: list[str], dtype: torch.dtype = torch.float32) -> list[SoftLayer]:
    made = []
    for (inputs, n), form in zip(pairwise(widths), forms, strict=True):
        a, b = torch.randint(inputs, (2, n), dtype=torch.int32)
        given = torch.rand(n, 4) if form == "table" else torch.randn(n, 16 if form == "softmax" else 4)
        factor, of_logits = 1.5 if form == "table" else 1.0, form in ("sigmoid", "softmax")
        made.append(SoftLayer(given.to(dtype).requires_grad_(), a, b, factor, of_logits, form == "warped"))
    return made


def results(run: Callable[..., Tensor], x: Tensor, stack: list[SoftLayer], *sums: Any) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = run(x, stack, *sums)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad((y * weight).sum(), [x, *(layer.table for layer in stack)])]


def one_by_one(x: Tensor, stack: list[SoftLayer], k: int = 0, tau: float = 1.0) -> Tensor:
    """The definition, in double precision and by torch's own derivatives."""
    tables = {16: lambda t: dense_stack.softmax_table_reference(t), 4: torch.sigmoid}
    for layer in stack:
        table = (tables[layer.table.shape[1]](layer.table.double()) if layer.of_logits else layer.table.double()).t()
        u, v = x[:, layer.a], x[:, layer.b]
        if layer.factor != 1:
            u, v = (part * layer.factor - (part * (layer.factor - 1)).detach() for part in (u, v))
        x = table[0] * (1 - u) * (1 - v) + table[1] * (1 - u) * v + table[2] * u * (1 - v) + table[3] * u * v
        x = torch.sigmoid(x) if layer.warped else x
    return x.unflatten(1, (k, -1)).sum(2) / tau if k else x


@pytest.mark.parametrize("batch", [1, 37, 100, 300])
@pytest.mark.parametrize("forms", [[form] for form in FORMS] + [FORMS, FORMS[::-1]])
@pytest.mark.parametrize("sums", [(), (3, 2.5)])
def test_is_the_layers_one_by_one(native_device: str, batch: int, forms: list[str], sums: tuple[Any, ...]) -> None:
    torch.manual_seed(batch)
    x, stack = (
        torch.rand(batch, 11),
        layers([11, 30, 21, 27, 33][: len(forms) + 1] if len(forms) > 1 else [11, 33], forms),
    )
    stack = [SoftLayer(*(p.to(native_device) if isinstance(p, Tensor) else p for p in layer)) for layer in stack]
    stack = [layer._replace(table=layer.table.detach().requires_grad_()) for layer in stack]
    got = results(ops.logic_stack, x.to(native_device), stack, *sums)
    expected = results(one_by_one, x.double().to(native_device), stack, *sums)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("form", FORMS)
def test_reference_and_kernel_agree(native_cpu: None, form: str) -> None:
    torch.manual_seed(0)
    x, stack = torch.rand(100, 11), layers([11, 30, 21], [form, form])
    tables, a, b, factors, of_logits, warped = map(list, zip(*stack, strict=True))
    tables = [table.detach() for table in tables]
    for k in (0, 3):
        y, kept = lgn.logic_stack(x, tables, a, b, of_logits, k, 2.0, True, warped)
        other, plain = dense_stack.logic_stack_reference(x, tables, a, b, of_logits, k, 2.0, True, warped)
        torch.testing.assert_close(y, other)
        for mine, theirs in zip(kept[:3], plain[:3], strict=True):  # the rest is for the kernel alone
            torch.testing.assert_close(mine, theirs)
        if warped[-1] and not k:  # the result itself
            kept, plain = [*kept, y], [*plain, other]
        grad, rest = torch.randn_like(y), (tables, a, b, of_logits, k, 2.0, factors, True, warped)
        got = lgn.logic_stack_backward(grad, x, kept, *rest)
        expected = dense_stack.logic_stack_backward_reference(grad, x, plain, *rest)
        torch.testing.assert_close(got, (expected[0], list(expected[1])), atol=1e-4, rtol=1e-4)
        assert lgn.logic_stack(x, tables, a, b, of_logits, k, 2.0, False, warped)[1] == []


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(native_cpu: None, form: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 5, dtype=torch.float64, requires_grad=True)
    stack = layers([5, 6, 9], [form, form], torch.float64)
    stack = [layer._replace(factor=1.0) for layer in stack]

    def run(x: Tensor, *tables: Tensor) -> Tensor:
        return ops.logic_stack(x, [layer._replace(table=t) for layer, t in zip(stack, tables, strict=True)], 3, 2.5)

    assert torch.autograd.gradcheck(run, (x, *(layer.table for layer in stack)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [0, 3])
def test_opcheck(native_cpu: None, form: str, k: int) -> None:
    x, stack = torch.rand(5, 11), layers([11, 30, 21], [form, form])
    tables, a, b, factors, of_logits, warped = map(list, zip(*stack, strict=True))
    tables = [table.detach() for table in tables]
    torch.library.opcheck(lgn.logic_stack.default, (x, tables, a, b, of_logits, k, 2.0, True, warped))
    y, kept = lgn.logic_stack(x, tables, a, b, of_logits, k, 2.0, True, warped)
    kept = [*kept, y] if warped[-1] and not k else kept
    args = (torch.randn_like(y), x, kept, tables, a, b, of_logits, k, 2.0, factors, True, warped)
    torch.library.opcheck(lgn.logic_stack_backward.default, args)


def test_same_bits_at_any_number_of_threads(native_cpu: None) -> None:
    torch.manual_seed(0)
    x, stack = torch.rand(100, 400), layers([400, 5000, 4000], ["softmax", "softmax"])
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(results(ops.logic_stack, x, stack, 10, 3.0))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True))


def test_bfloat16_activations_and_float32_tables(native_cpu: None) -> None:
    torch.manual_seed(0)
    x, stack = torch.rand(40, 11), layers([11, 30, 21], ["softmax", "sigmoid"])
    got = results(ops.logic_stack, x.bfloat16(), stack, 3, 2.0)
    assert [part.dtype for part in got] == [torch.float32, torch.bfloat16, torch.float32, torch.float32]
    for one, other in zip(got, results(ops.logic_stack, x, stack, 3, 2.0), strict=True):
        torch.testing.assert_close(one.float(), other, atol=0.1, rtol=0.1)


def test_twice_is_an_error(native_cpu: None) -> None:
    x, stack = torch.rand(5, 11, requires_grad=True), layers([11, 30], ["softmax"])
    (grad,) = torch.autograd.grad(ops.logic_stack(x, stack).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not differentiable twice"):
        grad.sum().backward()


def test_what_does_not_fit(native_cpu: None) -> None:
    x, stack = torch.rand(5, 11), layers([11, 30, 21], ["softmax", "table"])
    with pytest.raises(ValueError, match="at least one layer"):
        ops.logic_stack(x, [])
    with pytest.raises(ValueError, match="do not divide into k"):
        ops.logic_stack(x, stack, 4)
    with pytest.raises(ValueError, match="table has shape"):
        ops.logic_stack(x, [stack[0]._replace(of_logits=False)])
    with pytest.raises(TypeError, match=r"table is torch\.float64"):
        ops.logic_stack(x, [stack[0]._replace(table=stack[0].table.double())])
    with pytest.raises(IndexError, match="features"):
        ops.logic_stack(x, stack[1:])
    tables, a, b, factors, of_logits, _ = map(list, zip(*stack, strict=True))
    tables = [table.detach() for table in tables]
    good = [x, tables, a, b, of_logits, 3, 1.0]
    y, kept = lgn.logic_stack(*good, True)
    for place, bad in ((1, tables[:1]), (2, []), (3, [b[0][:3], b[1]]), (4, [True, True, False]), (4, [False, False])):
        with pytest.raises(ValueError, match=r"has shape|one entry a layer"):
            lgn.logic_stack(*good[:place], bad, *good[place + 1 :], True)
    for op in (lgn.logic_stack, dense_stack.logic_stack_reference):
        with pytest.raises(ValueError, match="k must be a number of sums, or 0 for none, and is -1"):
            op(*good[:5], -1, 1.0, True)
    upper = [torch.rand_like(y), x, kept, *good[1:], factors]
    for op in (lgn.logic_stack_backward, dense_stack.logic_stack_backward_reference):
        with pytest.raises(ValueError, match="k must be a number of sums, or 0 for none, and is -1"):
            op(*upper[:7], -1, *upper[8:], True)
    lgn.logic_stack_backward(*upper, True)
    for place, bad in (
        (0, upper[0][:3]),
        (2, kept[:2]),
        (2, [*kept[:3], torch.rand(3, 16), kept[4]]),
        (2, [kept[0][:, :3], *kept[1:]]),
        (9, [1.0]),
    ):
        with pytest.raises((ValueError, IndexError)):
            lgn.logic_stack_backward(*upper[:place], bad, *upper[place + 1 :], True)
