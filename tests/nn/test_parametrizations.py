import math

import pytest
import torch
from torch import Tensor

from lgn_lightning import LogicLayer
from lgn_lightning.circuit import Circuit
from lgn_lightning.gates import TRUTH_TABLES
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import LutLayer
from lgn_lightning.nn.parametrizations import (
    PARAMETRIZATIONS,
    RESIDUAL_ENTRY_LOGIT,
    Parametrization,
    Sigmoid,
    Softmax,
    Walsh,
    make_parametrization,
)
from lgn_lightning.nn.samplers import Soft

NAMES = list(PARAMETRIZATIONS)
TABLES = torch.tensor(TRUTH_TABLES)


def polynomial(table: Tensor) -> Tensor:
    """c_0, c_a, c_b and c_ab of a gate."""
    t00, t01, t10, t11 = table
    return torch.stack([t00, t10 - t00, t01 - t00, t11 - t10 - t01 + t00])


def formula(name: str, w: Tensor) -> Tensor:
    """The papers' equations, entry by entry."""
    if name == "covjac":  # ω_j = softmax(−‖c − G_j‖²), the soft polynomial at the corners
        points = torch.stack([polynomial(TABLES[gate]) for gate in range(16)]).to(w.dtype)
        soft = torch.softmax(-(w[:, None] - points).square().sum(2), 1) @ points
        corners = [(a, b) for a in (0, 1) for b in (0, 1)]
        return torch.stack([soft[:, 0] + soft[:, 1] * a + soft[:, 2] * b + soft[:, 3] * a * b for a, b in corners], 1)
    if name == "softmax":
        return torch.exp(w) @ TABLES.to(w.dtype) / torch.exp(w).sum(1, keepdim=True)
    entries = []
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        u, v = 2 * a - 1, 2 * b - 1
        z = w[:, 2 * a + b] if name == "sigmoid" else w[:, 0] + w[:, 1] * v + w[:, 2] * u + w[:, 3] * u * v
        entries.append(1 / (1 + torch.exp(-z)))
    return torch.stack(entries, 1)


def drawn(name: str, n: int = 50, dtype: torch.dtype = torch.float64) -> tuple[Parametrization, Tensor]:
    parametrization = make_parametrization(name)
    weights = torch.empty(n, parametrization.num_weights(), dtype=dtype)
    parametrization.initialize(weights)
    return parametrization, weights.requires_grad_()


@pytest.mark.parametrize("name", NAMES)
def test_table_is_the_formula(name: str) -> None:
    parametrization, weights = drawn(name)
    expected = formula(name, weights)
    upper = torch.rand(50, 4, dtype=torch.float64)
    (expected_grad,) = torch.autograd.grad(expected, weights, upper)
    for table in (parametrization.table(weights), parametrization.formula(parametrization.logits(weights))):
        torch.testing.assert_close(table, expected)
        (grad,) = torch.autograd.grad(table, weights, upper)
        torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name: str) -> None:
    parametrization, weights = drawn(name, 5)
    assert torch.autograd.gradcheck(parametrization.table, weights)


@pytest.mark.parametrize("name", NAMES)
def test_hard_gates(name: str) -> None:
    parametrization, weights = drawn(name, 400)
    gates = parametrization.hard_gates(weights)
    assert gates.dtype == torch.uint8
    assert len(gates.unique()) == 16
    if name == "softmax":
        assert torch.equal(gates.long(), weights.argmax(1))
    elif name == "covjac":
        points = torch.stack([polynomial(table) for table in TABLES]).double()
        assert torch.equal(gates.long(), torch.cdist(weights, points).argmin(1))
    else:
        assert torch.equal(TABLES[gates.long()].bool(), formula(name, weights) > 0.5)
    assert torch.equal(parametrization.hard_table(weights), TABLES[gates.long()].bool())


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_have_the_table_as_expectation(name: str) -> None:
    parametrization, weights = drawn(name)
    probabilities = parametrization.gate_probabilities(weights)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(50))
    torch.testing.assert_close(probabilities @ TABLES.float(), formula(name, weights).float())
    if name not in ("softmax", "covjac"):  # with independent entries the most likely gate is the rounded table
        assert torch.equal(probabilities.argmax(1), parametrization.hard_gates(weights).long())


@pytest.mark.parametrize("name", NAMES)
def test_residual_init_is_close_to_the_first_input(name: str) -> None:
    parametrization, weights = drawn(name)
    parametrization.initialize(weights, "residual")
    assert (parametrization.hard_gates(weights) == 3).all()
    t00, t01, t10, t11 = parametrization.table(weights)[0].tolist()
    assert t00 == pytest.approx(t01)
    assert t10 == pytest.approx(t11)
    assert t11 == pytest.approx(1 - t00)
    assert 0.85 < t11 < 0.96
    if name == "sigmoid":
        assert t11 == pytest.approx(1 / (1 + math.exp(-RESIDUAL_ENTRY_LOGIT)))
    if name == "warp":
        assert t11 == pytest.approx(0.951)
    if name == "walsh":
        torch.testing.assert_close(weights[0].tolist(), [0.0, 0.0, RESIDUAL_ENTRY_LOGIT, 0.0])


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_conversion_keeps_the_table(source: str, target: str) -> None:
    parametrization, weights = drawn(source)
    other = make_parametrization(target)
    converted = parametrization.convert(weights, other)
    assert converted.shape == (50, other.num_weights())
    torch.testing.assert_close(other.table(converted), parametrization.table(weights).detach())
    if not {source, target} & {"softmax", "covjac"}:
        assert torch.equal(other.hard_gates(converted), parametrization.hard_gates(weights))


@pytest.mark.parametrize("inputs", [3, 4, 6])
def test_conversion_of_more_inputs_is_exact_both_ways(inputs: int) -> None:
    weights = torch.randn(20, 2**inputs, dtype=torch.float64) / inputs
    for source, target in ((Sigmoid(), Walsh()), (Walsh(), Sigmoid())):
        converted = source.convert(weights, target)
        torch.testing.assert_close(target.table(converted), source.table(weights))
        torch.testing.assert_close(target.convert(converted, source), weights)
        assert torch.equal(target.hard_gates(converted), source.hard_gates(weights))
        with pytest.raises(ValueError, match=f"tables of {2**inputs} entries have no softmax"):
            source.convert(weights, Softmax())


def test_a_layer_converts_and_goes_on_training() -> None:
    layer, x = LogicLayer(10, 20), torch.rand(7, 10)
    before = layer(x).detach()
    for name in ("sigmoid", "walsh", "softmax", "walsh"):
        layer.convert(name)
        torch.testing.assert_close(layer(x).detach(), before, atol=1e-5, rtol=1e-4)
        layer(x).sum().backward()
        assert layer.weights.grad is not None
    assert LogicLayer(10, 20, parametrization="walsh").load_state_dict(layer.state_dict())


def test_conversion_of_a_saturated_table_is_finite() -> None:
    table = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    for kind in PARAMETRIZATIONS.values():
        weights = kind().from_table(table)
        assert weights.isfinite().all()
        torch.testing.assert_close(kind().table(weights), table, atol=1e-5, rtol=0)
        assert kind().hard_gates(weights).tolist() == [6]


@pytest.mark.parametrize("inputs", [3, 4, 6])
def test_more_inputs(inputs: int) -> None:
    entries = 2**inputs
    bits = torch.arange(entries)[:, None] >> torch.arange(inputs - 1, -1, -1) & 1  # first input first
    characters = torch.stack(
        [(2 * bits[:, (s >> torch.arange(inputs - 1, -1, -1) & 1).bool()] - 1).prod(1) for s in range(entries)], 1
    ).double()
    assert Sigmoid().num_weights(inputs) == Walsh().num_weights(inputs) == entries
    weights = torch.randn(7, entries, dtype=torch.float64) / inputs
    torch.testing.assert_close(Walsh().table(weights), torch.sigmoid(weights @ characters.t()))
    torch.testing.assert_close(Walsh().from_table(Walsh().table(weights)), weights)
    for parametrization in (Sigmoid(), Walsh()):
        parametrization.initialize(weights, "residual")
        assert torch.equal(parametrization.hard_table(weights)[0], bits[:, 0].bool())
    with pytest.raises(ValueError, match="for 2 inputs only; take 'sigmoid' or 'walsh'"):
        Softmax().num_weights(inputs)


@pytest.mark.parametrize("name", NAMES)
def test_noise_draws_gates_at_their_probability(name: str) -> None:
    parametrization, weights = drawn(name, 1)
    many = weights.detach().float().expand(40_000, -1)
    logits = parametrization.logits(many)
    gates = parametrization.gates_of_logits(logits + parametrization.noise_like(logits))
    frequency = torch.bincount(gates.long(), minlength=16) / 40_000
    torch.testing.assert_close(frequency, parametrization.gate_probabilities(weights)[0], atol=0.012, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_layer_trains_and_exports(name: str) -> None:
    net = LogicMLP((1, 4, 4), 2, width=20, depth=2, parametrization=name, init="residual")
    x = torch.randint(256, (64, 1, 4, 4), dtype=torch.uint8)
    y = (x[:, 0, 0, 0] > 127).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    layer = net[1]
    assert isinstance(layer, LogicLayer)
    assert layer.gate_probabilities().shape == (20, 16)
    assert f"parametrization={name!r}" in repr(layer)
    circuit = Circuit.from_module(net)
    assert circuit.gates[:20].tolist() == layer.gates().tolist()


def test_python_implementation_is_the_default_one() -> None:
    for name in NAMES:
        layer = LogicLayer(10, 20, parametrization=name)
        other = LogicLayer(10, 20, parametrization=name, implementation="python")
        other.load_state_dict(layer.state_dict())
        x = torch.rand(7, 10)
        torch.testing.assert_close(layer(x), other(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer.table().dtype == other.table().dtype == torch.float32


def test_covjac_gives_the_interaction_a_gradient_where_an_input_is_zero() -> None:
    """Arxiv 2605.08657: ∂L/∂c_ab = δ (J_03 + a J_13 + b J_23 + ab J_33) with J = (2 / τ) Cov_ω(G)."""
    layer = LogicLayer(2, 1, parametrization="covjac", sampler=Soft(0.7))
    layer.indices_a[:], layer.indices_b[:] = 0, 1
    points = torch.stack([polynomial(table) for table in TABLES]).float()
    shares = torch.softmax(-(layer.weights - points).square().sum(1) / 0.7, 0).detach()
    centred = points - shares @ points
    jacobian = 2 / 0.7 * (centred.t() * shares) @ centred
    for a, b in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        layer.zero_grad()
        layer(torch.tensor([[a, b]])).sum().backward()
        torch.testing.assert_close(layer.weights.grad[0], jacobian @ torch.tensor([1.0, a, b, a * b]))


@pytest.mark.parametrize("implementation", [None, "python"])
@pytest.mark.parametrize("inputs", [2, 3, 4, 6])
def test_warp_puts_real_inputs_into_the_characters(inputs: int, implementation: str | None) -> None:
    """Arxiv 2602.03527: y = σ(Σ_S w_S Π_{i ∈ S} (2·x_i − 1)) at real inputs."""
    options = {"parametrization": "warp", "implementation": implementation, "init": "gaussian"}
    layer = LogicLayer(9, 30, **options) if inputs == 2 else LutLayer(9, 30, inputs, **options)
    x = torch.rand(11, 9, requires_grad=True)
    indices = torch.stack(layer.indices) if inputs == 2 else layer.indices
    signed = [2 * x[:, wires.long()] - 1 for wires in indices]
    total = torch.zeros(11, 30)
    for subset in range(2**inputs):
        character = torch.ones(11, 30)
        for i in range(inputs):
            character = character * (signed[i] if subset >> (inputs - 1 - i) & 1 else 1)
        total = total + layer.weights[:, subset] * character
    expected, upper = total.sigmoid(), torch.rand(11, 30)
    y = layer(x)
    torch.testing.assert_close(y, expected)
    wanted = torch.autograd.grad(expected, (x, layer.weights), upper)
    torch.testing.assert_close(torch.autograd.grad(y, (x, layer.weights), upper), wanted, atol=1e-5, rtol=1e-4)


def test_bad_names() -> None:
    with pytest.raises(ValueError, match=r"'fourier'.* 'softmax', 'sigmoid', 'walsh'"):
        LogicLayer(4, 8, parametrization="fourier")
    with pytest.raises(ValueError, match=r"init='zeros'.* 'gaussian', 'residual'"):
        Sigmoid().initialize(torch.empty(2, 4), "zeros")
    instance = Sigmoid(residual_logit=3.0)
    assert LogicLayer(4, 8, parametrization=instance).parametrization is instance
    assert repr(instance) == "Sigmoid(residual_logit=3.0)"


@pytest.mark.parametrize("parametrization", ["softmax", "sigmoid", "walsh", "covjac"])
def test_entropy_and_its_gradient_are_those_of_the_formula(parametrization: str) -> None:
    layer = LogicLayer(4, 6, parametrization=parametrization).double()
    weights = layer.weights
    if parametrization in ("softmax", "covjac"):
        p = torch.softmax(layer.parametrization.logits(weights), -1)
        expected = -(p * p.log2()).sum(-1)
    else:
        p = torch.sigmoid(layer.parametrization.logits(weights))
        expected = -(p * p.log2() + (1 - p) * (1 - p).log2()).sum(-1)
    entropy = layer.parametrization.entropy(layer.weights).mean()
    assert entropy.item() == pytest.approx(expected.mean().item(), rel=1e-12)
    (wanted,) = torch.autograd.grad(expected.mean(), weights)
    (given,) = torch.autograd.grad(entropy, weights)
    torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)
    # A gate drawn entry by entry has the entropy of its distribution over the 16 gates.
    q = layer.gate_probabilities().double()
    torch.testing.assert_close(layer.entropy(), torch.special.entr(q).sum(-1) / math.log(2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parametrization", ["softmax", "sigmoid", "walsh"])
def test_decided_gates_have_no_entropy_and_finite_gradients(parametrization: str) -> None:
    layer = LogicLayer(4, 6, parametrization=parametrization)
    with torch.no_grad():
        layer.weights[:] = 4000.0 if parametrization == "sigmoid" else 0.0
        layer.weights[:, 0] = 4000.0
    value = layer.parametrization.entropy(layer.weights).mean()
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert layer.weights.grad is not None
    assert layer.weights.grad.isfinite().all()
