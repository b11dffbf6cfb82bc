"""The reference ops against the formulas of the paper, written out one gate at a time."""

import pytest
import torch
from torch import Tensor

from lgn_lightning.gates import TRUTH_TABLES
from lgn_lightning.ops import dense

# Petersen et al. (2022), Table 1, "real-valued" column.
TABLE_1 = (
    lambda a, b: torch.zeros_like(a),
    lambda a, b: a * b,
    lambda a, b: a - a * b,
    lambda a, b: a,
    lambda a, b: b - a * b,
    lambda a, b: b,
    lambda a, b: a + b - 2 * a * b,
    lambda a, b: a + b - a * b,
    lambda a, b: 1 - (a + b - a * b),
    lambda a, b: 1 - (a + b - 2 * a * b),
    lambda a, b: 1 - b,
    lambda a, b: 1 - b + a * b,
    lambda a, b: 1 - a,
    lambda a, b: 1 - a + a * b,
    lambda a, b: 1 - a * b,
    lambda a, b: torch.ones_like(a),
)


def mixture(x: Tensor, logits: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Equation 1 of the paper."""
    p = torch.softmax(logits, 1)
    return sum(p[:, i] * gate(x[:, a], x[:, b]) for i, gate in enumerate(TABLE_1))  # type: ignore[return-value]


def layer(batch: int, in_dim: int = 7, n: int = 12, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    x = torch.rand(batch, in_dim, dtype=dtype)
    logits = torch.randn(n, 16, dtype=dtype)
    a, b = torch.randint(in_dim, (2, n), dtype=torch.int32)
    b[0] = a[0]  # a gate may read one input twice
    return x, logits, a, b


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_layer_is_the_mixture_of_the_16_gates(batch: int) -> None:
    x, logits, a, b = layer(batch)
    torch.testing.assert_close(
        dense.logic_reference(x, dense.softmax_table_reference(logits), a, b),
        mixture(x, logits, a, b),
        rtol=1e-12,
        atol=1e-12,
    )


def test_hard_table_is_the_truth_table_and_its_layer_the_gate() -> None:
    gates = torch.arange(16, dtype=torch.uint8)
    assert dense.hard_table(gates).tolist() == [list(t) for t in TRUTH_TABLES]
    x = torch.rand(6, 2, dtype=torch.float64)
    a, b = torch.zeros(16, dtype=torch.int32), torch.ones(16, dtype=torch.int32)
    y = dense.logic_reference(x, dense.hard_table(gates, torch.float64), a, b)
    torch.testing.assert_close(y, torch.stack([gate(x[:, 0], x[:, 1]) for gate in TABLE_1], 1))


@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("need_grad_x", [True, False])
def test_layer_backward(batch: int, need_grad_x: bool) -> None:
    x, logits, a, b = layer(batch)
    table = dense.softmax_table_reference(logits)
    grad = torch.randn(batch, 12, dtype=torch.float64)
    x.requires_grad_()
    table.requires_grad_()
    t00, t01, t10, t11 = table.t()
    u, v = x[:, a], x[:, b]
    y = t00 * (1 - u) * (1 - v) + t01 * (1 - u) * v + t10 * u * (1 - v) + t11 * u * v
    expected = torch.autograd.grad(y, (x, table), grad)
    grad_x, grad_table = dense.logic_backward_reference(grad, x.detach(), table.detach(), a, b, need_grad_x)
    torch.testing.assert_close(grad_table, expected[1])
    if need_grad_x:
        torch.testing.assert_close(grad_x, expected[0])
    else:
        assert grad_x.numel() == 0


def test_softmax_table_backward() -> None:
    logits = torch.randn(9, 16, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(9, 4, dtype=torch.float64)
    table = torch.softmax(logits, 1) @ torch.tensor(TRUTH_TABLES, dtype=torch.float64)
    (expected,) = torch.autograd.grad(table, logits, grad)
    torch.testing.assert_close(dense.softmax_table_backward_reference(grad, logits.detach()), expected)


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_group_sum(batch: int) -> None:
    x = torch.rand(batch, 12, dtype=torch.float64)
    expected = torch.stack([x[:, 4 * i : 4 * i + 4].sum(1) / 2.5 for i in range(3)], 1)
    torch.testing.assert_close(dense.group_sum_reference(x, 3, 2.5), expected)


def test_group_sum_of_bf16_sums_in_float32() -> None:
    x = torch.ones(2, 2000, dtype=torch.bfloat16)  # bf16 cannot count beyond 256
    assert dense.group_sum_reference(x, 2, 1.0).tolist() == [[1000.0, 1000.0]] * 2
    assert dense.group_sum_reference(x, 2, 1.0).dtype == torch.float32


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_logic_group_sum_backward_expands_the_gradient(batch: int) -> None:
    x, logits, a, b = layer(batch)
    table = dense.softmax_table_reference(logits)
    grad = torch.randn(batch, 3, dtype=torch.float64)
    expanded = torch.stack([grad[:, i // 4] / 2.5 for i in range(12)], 1)
    for got, expected in zip(
        dense.logic_group_sum_backward_reference(grad, x, table, a, b, 2.5, True),
        dense.logic_backward_reference(expanded, x, table, a, b, True),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_values_do_not_depend_on_the_memory_format() -> None:
    x, logits, a, b = layer(6, dtype=torch.float32)
    table, grad = dense.softmax_table_reference(logits), torch.randn(6, 12)
    views = [x.t().contiguous().t(), torch.stack([x, x], 2)[:, :, 0]]
    assert not views[0].is_contiguous()
    assert not views[1].is_contiguous()
    for view in views:
        assert torch.equal(dense.logic_reference(view, table, a, b), dense.logic_reference(x, table, a, b))
        wide = torch.stack([grad, grad], 2)[:, :, 1]
        for got, expected in zip(
            dense.logic_backward_reference(wide, view, table, a, b, True),
            dense.logic_backward_reference(grad, x, table, a, b, True),
            strict=True,
        ):
            torch.testing.assert_close(got, expected)


def test_layer_output_is_feature_major() -> None:
    x, logits, a, b = layer(6)
    table = dense.softmax_table_reference(logits)
    y = dense.logic_reference(x, table, a, b)
    grad_x, _ = dense.logic_backward_reference(y, x, table, a, b, True)
    assert y.stride() == (1, 6)
    assert grad_x.stride() == (1, 6)


def test_bf16_activations_compute_in_float32() -> None:
    x, logits, a, b = layer(50, dtype=torch.float32)
    table = dense.softmax_table_reference(logits)
    x = x.bfloat16()
    y = dense.logic_reference(x, table, a, b)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, dense.logic_reference(x.float(), table, a, b).bfloat16())
    grad_x, grad_table = dense.logic_backward_reference(y, x, table, a, b, True)
    exact_x, exact_table = dense.logic_backward_reference(y.float(), x.float(), table, a, b, True)
    assert torch.equal(grad_x, exact_x.bfloat16())
    assert torch.equal(grad_table, exact_table)


def test_tables_made_in_inference_mode_do_not_leak_into_training() -> None:
    logits = torch.randn(3, 16, dtype=torch.float16)
    with torch.inference_mode():
        dense.softmax_table_reference(logits)
    dense.softmax_table_reference(logits.requires_grad_()).sum().backward()
    assert logits.grad is not None
