import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer, PackBitsTensor
from lgn_lightning.gates import TRUTH_TABLES
from lgn_lightning.nn import LogicSequential
from lgn_lightning.nn.parametrizations import RESIDUAL_LOGIT


def soft(layer: LogicLayer, x: Tensor) -> Tensor:
    """Expectation over the gates, from the truth table alone."""
    u, v = x[:, layer.indices_a.long()], x[:, layer.indices_b.long()]
    p = torch.softmax(layer.weights.detach(), 1)
    corners = (1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v
    y = torch.zeros_like(u)
    for gate, table in enumerate(TRUTH_TABLES):
        for entry, corner in zip(table, corners, strict=True):
            y += p[:, gate] * entry * corner
    return y


def test_train_is_soft() -> None:
    layer = LogicLayer(10, 20)
    x = torch.rand(6, 10)
    torch.testing.assert_close(layer(x), soft(layer, x))


def test_eval_is_the_most_likely_gate() -> None:
    layer = LogicLayer(10, 200).eval()
    x = torch.rand(30, 10) > 0.5
    (a, b), gates = layer.indices, layer.gates()
    tables = torch.tensor(TRUTH_TABLES)
    expected = tables[gates.long(), 2 * x[:, a.long()].long() + x[:, b.long()].long()]
    assert torch.equal(layer(x), expected.float())
    assert torch.equal(gates.long(), layer.weights.argmax(1))
    assert len(gates.unique()) == 16


def test_eval_takes_real_values_as_the_original_does() -> None:
    layer = LogicLayer(4, 8).eval()
    x = torch.rand(6, 4, requires_grad=True)
    sharp = copy.deepcopy(layer)
    sharp.weights.data = torch.nn.functional.one_hot(layer.weights.argmax(1), 16) * 1000.0
    torch.testing.assert_close(layer(x), soft(sharp, x.detach()))
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weights.grad is None


def test_gates_are_in_the_users_order() -> None:
    layer = LogicLayer(4, 3)
    layer.indices_a.copy_(torch.tensor([3, 0, 2]))
    layer.indices_b.copy_(torch.tensor([1, 2, 0]))
    layer.weights.data.zero_()
    for neuron, gate in enumerate((6, 1, 13)):
        layer.weights.data[neuron, gate] = 1
    (a, b), gates = layer.indices, layer.gates()
    assert (a.tolist(), b.tolist(), gates.tolist()) == ([3, 0, 2], [1, 2, 0], [6, 1, 13])
    assert gates.dtype == torch.uint8
    y = layer.eval()(torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
    assert y.tolist() == [[1.0, 1.0, 1.0]]  # 1 xor 0; 1 and 1; not 1 or 1


def test_gaussian_init() -> None:
    weights = LogicLayer(1000, 4000).weights
    assert abs(weights.mean().item()) < 0.02
    assert abs(weights.std().item() - 1) < 0.02


def test_residual_init_passes_the_first_input_on() -> None:
    layer = LogicLayer(6, 12, init="residual")
    assert (layer.gates() == 3).all()
    probabilities = layer.gate_probabilities()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(12))
    e = torch.exp(torch.tensor(RESIDUAL_LOGIT))
    torch.testing.assert_close(probabilities[:, 3], (e / (e + 15)).expand(12))
    assert probabilities[0, 3] > 0.9
    x = torch.randint(2, (5, 6)).float()
    assert torch.equal(layer.eval()(x), x[:, layer.indices_a.long()])


@pytest.mark.parametrize("connections", ["random", "unique"])
def test_connections(connections: str) -> None:
    layer = LogicLayer(12, 30, connections=connections)
    pairs = torch.stack(layer.indices, 1)
    if connections == "unique":
        assert len(pairs.unique(dim=0)) == 30
        assert (pairs[:, 0] < pairs[:, 1]).all()
    assert set(pairs.flatten().tolist()) == set(range(12))
    before = [i.clone() for i in layer.indices]
    layer.reset_parameters()
    assert all(map(torch.equal, before, layer.indices))


def gradients(layer: LogicLayer, x: Tensor, group_sum: GroupSum | None = None) -> tuple[Tensor, Tensor, Tensor]:
    x = x.detach().clone().requires_grad_(x.is_floating_point())
    layer.zero_grad()
    y = layer(x, group_sum)
    y.square().sum().backward()
    assert layer.weights.grad is not None
    assert x.grad is not None
    return y.detach(), x.grad, layer.weights.grad


@pytest.mark.parametrize("group_sum", [None, GroupSum(4, 2.5)])
@pytest.mark.parametrize("grad_factor", [1.0, 2.0])
def test_python_implementation_is_the_default_one(group_sum: GroupSum | None, grad_factor: float) -> None:
    layer = LogicLayer(10, 20, grad_factor=grad_factor)
    other = LogicLayer(10, 20, implementation="python", grad_factor=grad_factor)
    other.load_state_dict(layer.state_dict())
    x = torch.rand(7, 10)
    for got, expected in zip(gradients(layer, x, group_sum), gradients(other, x, group_sum), strict=True):
        torch.testing.assert_close(got, expected)
    layer.eval(), other.eval()
    bits = x.round()
    torch.testing.assert_close(layer(bits, group_sum), other(bits, group_sum))


def test_gradients_match_autograd_of_the_formula() -> None:
    layer = LogicLayer(6, 10).double()
    x = torch.rand(4, 6, dtype=torch.float64)
    y, grad_x, grad_weights = gradients(layer, x)

    def formula(x: Tensor, weights: Tensor) -> Tensor:
        table = torch.softmax(weights, 1) @ torch.tensor(TRUTH_TABLES, dtype=torch.float64)
        u, v = x[:, layer.indices_a.long()], x[:, layer.indices_b.long()]
        t00, t01, t10, t11 = table.t()
        return t00 * (1 - u) * (1 - v) + t01 * (1 - u) * v + t10 * u * (1 - v) + t11 * u * v

    x.requires_grad_()
    expected = formula(x, layer.weights)
    expected_grads = torch.autograd.grad(expected.square().sum(), (x, layer.weights))
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close((grad_x, grad_weights), expected_grads)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("train", [True, False])
def test_small_batches(batch: int, train: bool) -> None:
    layer = LogicLayer(10, 20).train(train)
    assert layer(torch.rand(batch, 10).round()).shape == (batch, 20)
    assert layer(torch.rand(batch, 10).round(), GroupSum(5)).shape == (batch, 5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.int64])
def test_integer_inputs_count_as_bits(dtype: torch.dtype) -> None:
    layer = LogicLayer(10, 20)
    x = torch.randint(2, (7, 10))
    torch.testing.assert_close(layer(x.to(dtype)), layer(x.float()))
    assert layer.double()(x.to(dtype)).dtype == torch.float64


def test_autocast_keeps_tables_and_gradients_in_float32() -> None:
    layer = LogicLayer(10, 20)
    other = LogicLayer(10, 20, implementation="python")
    other.load_state_dict(layer.state_dict())
    x = torch.rand(7, 10)
    exact = layer(x)
    for either in (layer, other):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert either.table().dtype == torch.float32
            y = either(x)
            scores = either(x, GroupSum(2))
        assert y.dtype == torch.bfloat16
        assert scores.dtype == torch.float32
        torch.testing.assert_close(y.float(), exact, atol=0.02, rtol=0)
        y.sum().backward()
        assert either.weights.grad is not None
        assert either.weights.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weights.grad, other.weights.grad)


def test_state_dict_keeps_the_wires() -> None:
    layer, other = LogicLayer(10, 40), LogicLayer(10, 40)
    x = torch.rand(7, 10)
    assert not torch.equal(layer.indices_a, other.indices_a)
    assert set(layer.state_dict()) == {"weights", "indices_a", "indices_b"}
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_equal_and_independent(clone: Any) -> None:
    layer = LogicLayer(10, 20, connections="unique", grad_factor=1.5, implementation="python")
    other = clone(layer)
    x = torch.rand(7, 10)
    for got, expected in zip(gradients(other, x), gradients(layer, x), strict=True):
        assert torch.equal(got, expected)
    assert repr(other) == repr(layer)
    other.weights.data.zero_()
    assert layer.weights.abs().sum() > 0
    with pytest.raises(RuntimeError, match="but the layer has 10 inputs"):
        other.load_state_dict(LogicLayer(40, 20).state_dict())


def test_to_moves_parameters_and_wires_and_keeps_index_dtype() -> None:
    layer = LogicLayer(10, 20)
    assert layer.double().indices_a.dtype == torch.int32
    assert layer(torch.rand(3, 10, dtype=torch.float64)).dtype == torch.float64
    meta = layer.to("meta")
    assert {t.device.type for t in meta.state_dict().values()} == {"meta"}
    assert LogicLayer(10, 20, device="meta").indices_a.is_meta


@pytest.mark.cuda
def test_to_cuda_gives_the_same_values() -> None:
    layer = LogicLayer(10, 20)
    x = torch.rand(7, 10)
    expected = gradients(layer, x)
    for got, want in zip(gradients(layer.to("cuda"), x.cuda()), expected, strict=True):
        torch.testing.assert_close(got.cpu(), want)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_packed_bits_are_the_hard_values(bits: int) -> None:
    layer = LogicLayer(10, 200).eval()
    x = torch.rand(77, 10) > 0.5
    packed = layer(PackBitsTensor(x, bits))
    assert isinstance(packed, PackBitsTensor)
    assert packed.bit_count == bits
    assert torch.equal(packed.unpack().float(), layer(x.float()))
    counts = layer(PackBitsTensor(x, bits), GroupSum(20, 3.0))
    assert torch.equal(counts.float() / 3.0, layer(x.float(), GroupSum(20, 3.0)))


def test_repr_and_sizes() -> None:
    layer = LogicLayer(6, 8, connections="unique", init="residual", grad_factor=2.0, implementation="python")
    chosen = (
        "init='residual', grad_factor=2.0, connections='unique', parametrization='softmax', implementation='python'"
    )
    assert repr(layer) == f"LogicLayer(in_dim=6, out_dim=8, {chosen})"
    plain = "LogicLayer(in_dim=4, out_dim=8, connections='random', parametrization='softmax')"
    assert repr(LogicLayer(4, 8)) == plain
    assert (layer.num_neurons, layer.num_weights) == (8, 8)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"in_dim": 17, "out_dim": 8}, "at least 9 wide"),
        ({"implementation": "gpu"}, r"implementation='gpu'.* None, 'auto', 'python', 'cpu', 'cuda'"),
        ({"init": "zeros"}, r"init='zeros'.* 'gaussian', 'residual'"),
        ({"implementation": "cuda", "device": "cpu"}, r"device='cuda'.* cpu"),
        ({"in_dim": 4, "out_dim": 7, "connections": "unique"}, "have only 6"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        LogicLayer(**{"in_dim": 10, "out_dim": 10, **arguments})


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_complex_input_is_refused(sampler: str) -> None:
    net = LogicSequential(LogicLayer(10, 20, sampler=sampler), GroupSum(2))
    x = torch.rand(3, 10, dtype=torch.complex64)
    for module in (net, net.eval(), net[0]):
        with pytest.raises(TypeError, match=r"real numbers or bools, not torch\.complex64"):
            module(x)


def _train_deep_net(depth: int, init: str) -> float:
    """Training accuracy on digits of a net of ``depth`` layers after 150 steps."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels > 7).float()
    y = torch.from_numpy(labels).long()
    layers = [LogicLayer(a, 600, init=init) for a in (64, *[600] * (depth - 1))]
    net = nn.Sequential(*layers, GroupSum(10, tau=6.0))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for step in range(150):
        batch = torch.arange(step * 100, step * 100 + 100) % len(x)
        loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (net.eval()(x).argmax(1) == y).double().mean().item()


def test_a_net_of_twelve_layers_trains_with_residual_initialization() -> None:
    assert _train_deep_net(12, "residual") > 0.85
    assert _train_deep_net(12, "gaussian") < 0.5  # what the initialization is for
