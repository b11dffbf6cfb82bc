"""Reading inputs of gates from candidates: values and gradients of the formulas."""

import pytest
import torch

from lgn_lightning.circuit import Circuit
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import LogicLayer, LutLayer, soft_gates
from lgn_lightning.nn.operands import read_operands


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("mixture", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("feature_major", [True, False])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_values_and_gradients(mixture: bool, plain: bool, dtype: torch.dtype, feature_major: bool, device: str) -> None:
    with torch.device(device):
        x = torch.rand(7, 9).round().to(dtype) if dtype == torch.bfloat16 else torch.rand(7, 9, dtype=dtype)
        x = (x.t().contiguous().t() if feature_major else x).requires_grad_()
        shares = torch.rand(5, 3, dtype=torch.float32 if dtype == torch.bfloat16 else dtype, requires_grad=True)
        candidates = torch.stack([torch.randperm(9)[:3] for _ in range(5)]).int()
        chosen = None if mixture else candidates[:, 1].contiguous()
        y = read_operands(x, shares, candidates, chosen, plain)
        assert y.dtype == dtype
        values = x[:, candidates.long()]  # [batch, m, K]
        mixed = (values * shares.to(dtype)).sum(2)
        torch.testing.assert_close(y, mixed if mixture else values[:, :, 1])
        upper = torch.rand(7, 5).to(dtype)
        grad_x, grad_shares = torch.autograd.grad(y, (x, shares), upper)
        assert grad_shares.dtype == shares.dtype
        wanted = torch.einsum("bm,bmk->mk", upper, values.detach())
        torch.testing.assert_close(grad_shares.to(dtype), wanted)
        read = mixed if mixture else values[:, :, 1]
        torch.testing.assert_close(grad_x, torch.autograd.grad(read, x, upper)[0])


@pytest.mark.parametrize("implementation", [None, "python"])
def test_a_layer_of_mixtures_is_the_formula_and_settles_in_evaluation(implementation: str | None) -> None:
    options = {"parametrization": "sigmoid", "connections": "mixture", "num_candidates": 3}
    layer = LogicLayer(9, 20, implementation=implementation, **options)  # type: ignore[arg-type]
    assert layer.learned is not None
    torch.nn.init.normal_(layer.learned.logits)
    x = torch.rand(7, 9, requires_grad=True)
    candidates, p = layer.learned.candidates.long(), torch.softmax(layer.learned.logits, 2)
    u, v = ((x[:, candidates[:, i]] * p[:, i]).sum(2) for i in range(2))
    t00, t01, t10, t11 = torch.sigmoid(layer.weights).t()
    expected = t00 * (1 - u) * (1 - v) + t01 * (1 - u) * v + t10 * u * (1 - v) + t11 * u * v
    y = layer(x)
    torch.testing.assert_close(y, expected)
    parameters, upper = [x, *layer.parameters()], torch.rand(7, 20)
    wanted = torch.autograd.grad(expected, parameters, upper)
    torch.testing.assert_close(torch.autograd.grad(y, parameters, upper), wanted)
    bits = (x > 0.5).float()
    a, b = layer.eval().indices
    assert torch.equal(a.long(), candidates[:, 0].gather(1, layer.learned.logits[:, 0].argmax(1, keepdim=True))[:, 0])
    fixed = LogicLayer(9, 20, parametrization="sigmoid").eval()
    fixed.load_state_dict({"weights": layer.weights, "indices_a": a, "indices_b": b})
    assert torch.equal(layer(bits), fixed(bits))


@pytest.mark.parametrize("arity", [3, 4, 6])
@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_lookup_tables_learn_their_wires(arity: int, sampler: str) -> None:
    torch.manual_seed(arity)
    options = {"connections": "learned", "num_candidates": 4, "sampler": sampler, "init": "gaussian"}
    layer = LutLayer(9, 21, arity, **options)  # type: ignore[arg-type]
    assert layer.learned is not None
    torch.nn.init.normal_(layer.learned.logits)
    x = torch.rand(8, 9).round().requires_grad_()
    indices = layer.settled_indices()
    assert indices.shape == (arity, 21)
    # As fixed wires, with the gradient of the candidates' shares by finite sums.
    fixed = LutLayer(9, 21, arity, sampler=sampler)
    fixed.load_state_dict({"weights": layer.weights, "indices": indices})
    y, expected = layer(x), fixed(x)
    assert torch.equal(y, expected)
    upper = torch.rand(8, 21)
    given = torch.autograd.grad(y, (x, layer.weights, layer.learned.logits), upper)
    torch.testing.assert_close(given[:2], torch.autograd.grad(expected, (x, fixed.weights), upper))
    operands = torch.stack([x.detach()[:, wires.long()] for wires in indices]).requires_grad_()  # [k, batch, n]
    table = torch.sigmoid(layer.weights.detach())
    soft = torch.zeros(8, 21)
    for entry in range(2**arity):
        digits = [entry >> (arity - 1 - i) & 1 for i in range(arity)]
        weight = torch.ones(8, 21)
        for u, digit in zip(operands, digits, strict=True):
            weight = weight * (u if digit else 1 - u)
        soft = soft + table[:, entry] * weight
    (slopes,) = torch.autograd.grad(soft, operands, upper)
    read = x.detach()[:, layer.learned.candidates.long()]  # [batch, n, k, K]
    grad_shares = torch.einsum("kbn,bnkc->nkc", slopes, read)
    p = torch.softmax(layer.learned.logits.detach(), 2)
    wanted = p * (grad_shares - (p * grad_shares).sum(2, keepdim=True))
    torch.testing.assert_close(given[2], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("arity", "connections"), [(6, "learned"), (4, "mixture"), (2, "mixture"), (3, "balanced")])
@pytest.mark.parametrize("sampler", ["soft", "straight_through", "finite_difference"])
def test_a_net_trains_exports_and_comes_back(arity: int, connections: str, sampler: str) -> None:
    arguments = {"arity": arity, "connections": connections, "sampler": sampler, "parametrization": "sigmoid"}
    arguments |= {"num_candidates": 3, "init": "residual"}
    net = LogicMLP((1, 4, 4), 2, 20, 2, **arguments)  # type: ignore[arg-type]
    x = torch.randint(256, (50, 1, 4, 4), dtype=torch.uint8)
    y = (x[:, 0, 0, 0] > 127).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())
    net.eval()
    hard = net(x)
    circuit = Circuit.from_module(net)
    assert torch.equal(torch.from_numpy(circuit.scores(x.numpy())).float(), hard * net[-1].tau)
    if sampler != "soft" and connections != "mixture":
        with soft_gates(net):
            assert torch.equal(net(x), hard)
    other = LogicMLP((1, 4, 4), 2, 20, 2, **arguments).eval()  # type: ignore[arg-type]
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), hard)


def test_bad_wires_of_a_checkpoint_are_refused() -> None:
    layer = LutLayer(9, 21, 3, connections="learned")
    state = layer.state_dict()
    state["learned.candidates"] = state["learned.candidates"] + 9
    with pytest.raises(RuntimeError, match="holds inputs"):
        layer.load_state_dict(state)
    with pytest.raises(ValueError, match="among at least 2"):
        LutLayer(9, 21, 3, connections="learned", num_candidates=1)
