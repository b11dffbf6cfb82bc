"""The registered ops: gradients, torch.compile, autocast and the errors of bad arguments."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.ops import dense
from lgn_lightning.ops.bits import group_sum_packed_reference, logic_packed_reference, pack_bits_reference


def layer(batch: int = 5, in_dim: int = 7, n: int = 12, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    a, b = torch.randint(in_dim, (2, n), dtype=torch.int32)
    return torch.rand(batch, in_dim, dtype=dtype), torch.rand(n, 4, dtype=dtype), a, b


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_ops_are_the_reference(batch: int) -> None:
    x, table, a, b = layer(batch)
    torch.testing.assert_close(ops.logic(x, table, a, b), dense.logic_reference(x, table, a, b))
    torch.testing.assert_close(ops.group_sum(x[:, :6], 3, 2.0), dense.group_sum_reference(x[:, :6], 3, 2.0))
    torch.testing.assert_close(
        ops.logic_group_sum(x, table, a, b, 3, 2.0),
        dense.group_sum_reference(dense.logic_reference(x, table, a, b), 3, 2.0),
    )
    logits = torch.randn(4, 16)
    torch.testing.assert_close(ops.softmax_table(logits), dense.softmax_table_reference(logits))
    bits = x > 0.5
    for width in (8, 16, 32, 64):
        words = ops.pack_bits(bits, width)
        assert torch.equal(words, pack_bits_reference(bits, width))
        assert torch.equal(ops.unpack_bits(words, batch), bits)
        gates = torch.arange(12, dtype=torch.uint8)
        y = ops.logic_packed(words, gates, a, b)
        assert torch.equal(y, logic_packed_reference(words, gates, a, b))
        assert torch.equal(ops.group_sum_packed(y, 3, batch), group_sum_packed_reference(y, 3, batch))


@pytest.mark.parametrize("batch", [1, 4])
def test_gradcheck(batch: int) -> None:
    x, table, a, b = layer(batch, dtype=torch.float64)
    x.requires_grad_()
    table.requires_grad_()
    logits = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t: ops.logic(x, t, a, b), (x, table))
    assert torch.autograd.gradcheck(lambda x, t: ops.logic_group_sum(x, t, a, b, 3, 2.5), (x, table))
    assert torch.autograd.gradcheck(lambda x: ops.group_sum(x[:, :6], 3, 2.5), (x,))
    assert torch.autograd.gradcheck(ops.softmax_table, (logits,))


@pytest.mark.parametrize("wanted", ["x", "table"])
def test_gradient_of_one_operand_only(wanted: str) -> None:
    x, table, a, b = layer(dtype=torch.float64)
    operand = (x if wanted == "x" else table).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda t: ops.logic(*((t, table) if wanted == "x" else (x, t)), a, b),
        (operand,),
    )
    ops.logic_group_sum(x, table, a, b, 2).sum().backward()
    assert (x.grad is not None) == (wanted == "x")
    assert (table.grad is not None) == (wanted == "table")


def test_gradients_of_strided_operands_and_expanded_gradients() -> None:
    x, table, a, b = layer()
    expected_x, expected_table = x.clone().requires_grad_(), table.clone().requires_grad_()
    ops.logic(expected_x, expected_table, a, b).sum().backward()
    wide_x, wide_table = torch.stack([x, x], 2).requires_grad_(), table.t().contiguous().requires_grad_()
    y = ops.logic(wide_x[:, :, 1], wide_table.t(), a, b)
    y.backward(torch.ones(()).expand_as(y))
    assert wide_x.grad is not None
    assert wide_table.grad is not None
    torch.testing.assert_close(wide_x.grad[:, :, 1], expected_x.grad)
    torch.testing.assert_close(wide_table.grad.t(), expected_table.grad)


def op_cases() -> list[tuple[str, Callable[[], tuple[object, ...]]]]:
    def words() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, _, a, b = layer(20)
        return torch.ops.lgn.pack_bits(x > 0.5, 8), torch.arange(12, dtype=torch.uint8), a, b

    def trained(batch: int = 5) -> tuple[Tensor, ...]:
        x, table, a, b = layer(batch)
        return x.requires_grad_(), table.requires_grad_(), a, b

    return [
        ("softmax_table", lambda: (torch.randn(6, 16, requires_grad=True),)),
        ("softmax_table_backward", lambda: (torch.randn(6, 4), torch.randn(6, 16))),
        ("logic", trained),
        ("logic", lambda: (torch.rand(7, 5).t().bfloat16(), *layer()[1:])),
        ("logic_backward", lambda: (torch.randn(5, 12), *layer(), True)),
        ("logic_backward", lambda: (torch.randn(5, 12), *layer(), False)),
        ("group_sum", lambda: (torch.rand(5, 12, requires_grad=True), 3, 2.0)),
        ("group_sum_backward", lambda: (torch.rand(5, 3), 12, 2.0, torch.float32)),
        ("logic_group_sum", lambda: (*trained(), 3, 2.0)),
        ("logic_group_sum_backward", lambda: (torch.randn(5, 3), *layer(), 2.0, True)),
        ("pack_bits", lambda: (torch.rand(20, 7) > 0.5, 16)),
        ("unpack_bits", lambda: (words()[0], 20)),
        ("logic_packed", words),
        ("group_sum_packed", lambda: (torch.ones(3, 12, dtype=torch.int8), 3, 20)),
    ]


@pytest.mark.parametrize(
    ("name", "make"), [pytest.param(name, make, id=f"{name}-{i}") for i, (name, make) in enumerate(op_cases())]
)
def test_opcheck(name: str, make: Callable[[], tuple[object, ...]]) -> None:
    torch.library.opcheck(getattr(torch.ops.lgn, name).default, make())


def test_compiles_to_one_graph() -> None:
    x, table, a, b = layer()

    def step(x: Tensor, logits: Tensor) -> Tensor:
        y = ops.logic(x, ops.softmax_table(logits), a, b)
        return ops.logic_group_sum(y, table, a % 12, b, 3, 2.0)

    logits = torch.randn(12, 16, requires_grad=True)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    (expected,) = torch.autograd.grad(step(x, logits).square().sum(), logits)
    (got,) = torch.autograd.grad(compiled(x, logits).square().sum(), logits)
    torch.testing.assert_close(compiled(x, logits), step(x, logits))
    torch.testing.assert_close(got, expected)


def test_tables_stay_float32_under_autocast() -> None:
    logits = torch.randn(50, 16, requires_grad=True)
    exact = dense.softmax_table_reference(logits.detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        table = ops.softmax_table(logits)
        table.square().sum().backward()
    assert table.dtype == torch.float32
    torch.testing.assert_close(table, exact)
    torch.testing.assert_close(logits.grad, dense.softmax_table_backward_reference(2 * exact, logits.detach()))


_I = torch.zeros(12, dtype=torch.int32)
_T = torch.full((12, 4), 0.5)
_X = torch.rand(5, 7)
_W = torch.zeros(2, 6, dtype=torch.int8)
_G = torch.zeros(12, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: ops.softmax_table(torch.rand(3, 15)), ValueError, r"\[3, 15\].*\[gates, 16\]"),
        (lambda: ops.softmax_table(torch.rand(16)), ValueError, r"\[16\]"),
        (lambda: ops.logic(torch.rand(7), _T, _I, _I), ValueError, r"\[7\].*\[batch, features\]"),
        (lambda: ops.logic(_X, _T[:, :3], _I, _I), ValueError, r"\[12, 3\]"),
        (lambda: ops.logic(_X, _T, _I[:5], _I), ValueError, "do not fit"),
        (lambda: ops.logic(_X, _T, _I, _I[:5]), ValueError, "do not fit"),
        (lambda: ops.logic(_X.int(), _T, _I, _I), TypeError, "floating point"),
        (lambda: ops.logic(_X, _T.double(), _I, _I), TypeError, "float64"),
        (lambda: ops.logic(_X, _T, _I.long(), _I), TypeError, "int64.*int32"),
        (lambda: ops.logic_group_sum(_X, _T, _I, _I, 5), ValueError, "12 features do not divide into k = 5"),
        (lambda: ops.logic_group_sum(_X[0], _T, _I, _I, 3), ValueError, r"\[batch, features\]"),
        (lambda: ops.group_sum(_X, 2), ValueError, "7 features"),
        (lambda: ops.group_sum(_X, 0), ValueError, "k = 0"),
        (lambda: ops.group_sum(_X[0], 7), ValueError, r"\[batch, features\]"),
        (lambda: ops.group_sum(_X.int(), 7), TypeError, "floating point"),
        (lambda: ops.pack_bits(_X), TypeError, "float32"),
        (lambda: ops.pack_bits(_X[0] > 0.5), TypeError, r"\[7\]"),
        (lambda: ops.pack_bits(_X > 0.5, 24), ValueError, "24"),
        (lambda: ops.unpack_bits(_W, 17), ValueError, "2 rows of 8-bit words do not hold a batch of 17"),
        (lambda: ops.unpack_bits(_W, 8), ValueError, "batch of 8"),
        (lambda: ops.unpack_bits(_W.float(), 16), TypeError, "float32"),
        (lambda: ops.logic_packed(_W.bool(), _G, _I, _I), TypeError, "bool"),
        (lambda: ops.logic_packed(_W, _G.int(), _I, _I), TypeError, "uint8"),
        (lambda: ops.logic_packed(_W, _G, _I.long(), _I), TypeError, "int32"),
        (lambda: ops.logic_packed(_W, _G[:3], _I, _I), ValueError, "do not fit"),
        (lambda: ops.group_sum_packed(_W, 4, 16), ValueError, "6 features"),
        (lambda: ops.group_sum_packed(_W, 3, 30), ValueError, "batch of 30"),
    ],
)
def test_bad_arguments(call: Callable[[], Tensor], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
