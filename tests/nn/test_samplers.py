import copy

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer, soft_gates
from lgn_lightning.gates import TRUTH_TABLES
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import LutLayer
from lgn_lightning.nn.parametrizations import PARAMETRIZATIONS, Sigmoid, Softmax
from lgn_lightning.nn.samplers import SAMPLERS, Gumbel, Sampler, Soft, StraightThrough, make_sampler

TABLES = torch.tensor(TRUTH_TABLES)
NAMES = list(PARAMETRIZATIONS)


@pytest.mark.parametrize("name", NAMES)
def test_temperature_divides_the_logits(name: str) -> None:
    parametrization = PARAMETRIZATIONS[name]()
    weights = torch.randn(9, parametrization.num_weights())
    for sampler in (Soft(0.5), StraightThrough(0.5)):
        sample = sampler(parametrization, weights)
        table = sample.table.sigmoid() if sample.warped else sample.table
        torch.testing.assert_close(table, parametrization.table_of_logits(2 * parametrization.logits(weights)))


def test_gumbel_is_the_table_of_noisy_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, noise = torch.randn(9, 16, requires_grad=True), torch.randn(9, 16)
    monkeypatch.setattr(Softmax, "noise_like", lambda self, logits: noise)
    expected = torch.softmax((weights + noise) / 0.7, 1) @ TABLES.float()
    sample = Gumbel(0.7)(Softmax(), weights)
    assert sample.gates is None
    torch.testing.assert_close(sample.table, expected)
    upper = torch.rand(9, 4)
    expected_grad = torch.autograd.grad(expected, weights, upper)
    torch.testing.assert_close(torch.autograd.grad(sample.table, weights, upper), expected_grad)

    hard = Gumbel(0.7, straight_through=True)(Softmax(), weights)
    assert hard.gates is not None
    assert torch.equal(hard.gates.long(), (weights + noise).argmax(1))
    torch.testing.assert_close(hard.table.detach(), TABLES[hard.gates.long()].float())
    torch.testing.assert_close(torch.autograd.grad(hard.table, weights, upper), expected_grad)


def test_noise_is_drawn_anew_and_follows_the_seed() -> None:
    weights = torch.randn(50, 4)
    sampler = Gumbel()
    torch.manual_seed(1)
    first, second = sampler(Sigmoid(), weights).table, sampler(Sigmoid(), weights).table
    torch.manual_seed(1)
    assert not torch.equal(first, second)
    assert torch.equal(first, sampler(Sigmoid(), weights).table)


def test_noise_of_straight_through_moves_the_forward_pass_only() -> None:
    weights = torch.randn(500, 4)
    sample = StraightThrough(noise=1.0)(Sigmoid(), weights)
    assert sample.gates is not None
    assert torch.equal(sample.table, torch.sigmoid(weights))
    share = (sample.gates != Sigmoid().hard_gates(weights)).float().mean()
    expected = Sigmoid().gate_probabilities(weights).amax(1).mean()
    assert share.item() == pytest.approx(1 - expected.item(), abs=0.1)
    less = StraightThrough(noise=0.01)(Sigmoid(), weights)
    assert less.gates is not None
    assert (less.gates != Sigmoid().hard_gates(weights)).float().mean() < 0.05


def reference_step(layer: LogicLayer, x: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hard forward by table look-up; soft gradient by autograd of the multilinear formula at the bits."""
    bits = (x > 0.5).to(x.dtype).requires_grad_()
    warped = layer.parametrization.interpolates_logits
    parametrization = layer.parametrization
    table = parametrization.logits(layer.weights) if warped else parametrization.table(layer.weights)
    u, v = bits[:, layer.indices_a.long()], bits[:, layer.indices_b.long()]
    t00, t01, t10, t11 = table.t()
    soft = t00 * (1 - u) * (1 - v) + t01 * (1 - u) * v + t10 * u * (1 - v) + t11 * u * v
    soft = soft.sigmoid() if warped else soft
    grads = torch.autograd.grad(soft, (bits, layer.weights), upper)
    hard = TABLES[layer.gates().long(), (2 * u + v).long()].to(x.dtype)
    return hard, *grads


@pytest.mark.parametrize("implementation", [None, "python"])
@pytest.mark.parametrize("name", NAMES)
def test_straight_through_is_hard_forward_and_soft_backward(name: str, implementation: str | None) -> None:
    layer = LogicLayer(10, 60, parametrization=name, sampler="straight_through", implementation=implementation)
    x = torch.rand(33, 10, requires_grad=True)  # grey: the layer rounds
    upper = torch.rand(33, 60)
    y = layer(x)
    expected, *expected_grads = reference_step(layer, x.detach(), upper)
    assert torch.equal(y, expected)
    torch.testing.assert_close(torch.autograd.grad(y, (x, layer.weights), upper), tuple(expected_grads))
    assert torch.equal(layer(x > 0.5), expected)
    assert torch.equal(layer.eval()((x > 0.5).float()), expected)


def test_straight_through_scales_gradients_and_takes_a_group_sum() -> None:
    layer = LogicLayer(10, 60, parametrization="sigmoid", sampler="straight_through", grad_factor=2.0)
    plain = copy.deepcopy(layer)
    plain.grad_factor = 1.0
    x = torch.rand(33, 10).round().requires_grad_()
    for group_sum in (None, GroupSum(3, 2.0)):
        y, other = layer(x, group_sum), plain(x, group_sum)
        assert torch.equal(y, other)
        (grad,), (expected,) = torch.autograd.grad(y.square().sum(), x), torch.autograd.grad(other.square().sum(), x)
        torch.testing.assert_close(grad, 2 * expected)


def test_straight_through_in_double_and_under_autocast() -> None:
    layer = LogicLayer(10, 60, parametrization="sigmoid", sampler="straight_through")
    x = torch.rand(33, 10).round()
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y.float(), expected)
    y.sum().backward()
    assert layer.weights.grad is not None
    assert layer.weights.grad.dtype == torch.float32
    assert torch.equal(layer.double()(x.double()), expected.double())


@pytest.mark.parametrize("sampler", ["straight_through", StraightThrough(noise=0.5), Gumbel(straight_through=True)])
@pytest.mark.parametrize("name", NAMES)
def test_gap_is_exactly_zero(name: str, sampler: str | Sampler) -> None:
    net = LogicMLP((1, 5, 5), 2, width=40, depth=3, tau=3.0, parametrization=name, sampler=sampler)
    x = torch.randint(256, (77, 1, 5, 5), dtype=torch.uint8)
    net.eval()
    hard = net(x)
    with soft_gates(net):
        assert torch.equal(net(x), hard)
    if sampler == "straight_through":
        assert torch.equal(net.train()(x), hard)


def test_grey_pixels_are_thresholded_by_the_encoder() -> None:
    arguments = {"in_shape": (1, 4, 4), "num_classes": 2, "width": 20, "depth": 1, "thresholds": (0.3,)}
    net = LogicMLP(**arguments, grey_in_training=True, sampler="straight_through")  # type: ignore[arg-type]
    x = torch.randint(256, (9, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(net(x), net.eval()(x))
    assert LogicMLP(**arguments, grey_in_training=True)[0].grey_in_training  # type: ignore[arg-type]


def test_soft_gates_brings_the_samplers_back() -> None:
    net = nn.Sequential(LogicLayer(4, 8, sampler=Gumbel()), LogicLayer(8, 4)).eval()
    with soft_gates(net):
        assert isinstance(net[0].sampler, Soft)
        x = torch.rand(5, 4)
        assert torch.equal(net(x), net(x))
    assert isinstance(net[0].sampler, Gumbel)


def test_without_noise() -> None:
    assert isinstance(Gumbel(2.0).without_noise(), Soft)
    assert isinstance(Gumbel(2.0, straight_through=True).without_noise(), StraightThrough)
    quiet = StraightThrough(2.0, noise=1.0).without_noise()
    assert isinstance(quiet, StraightThrough)
    assert (quiet.temperature, quiet.noise) == (2.0, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_hard_slopes_are_a_straight_through_estimate_of_the_table(name: str) -> None:
    """As torchlogix: the hard table forward, its slopes for the inputs, the soft table's gradient for the weights."""
    net = LogicMLP((1, 4, 4), 2, width=20, depth=2, parametrization=name, sampler=StraightThrough(slopes="hard"))
    x = torch.rand(33, 1, 4, 4)
    bits = (x.flatten(1) > 0.5).float()
    values = bits
    for layer in (net[1], net[2]):
        soft = layer.parametrization.table(layer.weights)
        t00, t01, t10, t11 = (layer.hard_table().float() + (soft - soft.detach())).t()
        u, v = (values[:, wires.long()] for wires in layer.indices)
        values = t00 * (1 - u) * (1 - v) + t01 * (1 - u) * v + t10 * u * (1 - v) + t11 * u * v
    expected = values.view(33, 2, 10).sum(2)
    weights = list(net.parameters())
    upper = torch.rand(33, 2)
    wanted = torch.autograd.grad(expected, weights, upper)
    for implementation in (net, nn.Sequential(*net)):  # on packed bits, and layer by layer
        y = implementation(x)
        torch.testing.assert_close(y, expected.detach())
        torch.testing.assert_close(torch.autograd.grad(y, weights, upper), wanted)


@pytest.mark.parametrize("implementation", [None, "python"])
@pytest.mark.parametrize("inputs", [2, 3, 6])
def test_finite_differences_are_the_formula(inputs: int, implementation: str | None) -> None:
    """Arxiv 2410.11112: hard forward, straight-through to the table, and sums over all entries to the inputs."""
    options = {"parametrization": "sigmoid", "init": "gaussian", "implementation": implementation}
    options["sampler"] = "finite_difference"
    layer = LogicLayer(9, 30, **options) if inputs == 2 else LutLayer(9, 30, inputs, **options)
    x = torch.rand(11, 9, requires_grad=True)
    bits = (x > 0.5).long()
    indices = torch.stack(layer.indices) if inputs == 2 else layer.indices
    shifts = torch.arange(inputs - 1, -1, -1)
    address = (bits[:, indices.long()] << shifts[:, None]).sum(1)  # [batch, n]
    hard = layer.hard_table().float()
    y = layer(x)
    gates = torch.arange(30)
    assert torch.equal(y, hard[gates, address])
    upper = torch.rand(11, 30)
    grad_x, grad_weights = torch.autograd.grad(y, (x, layer.weights), upper)
    table = torch.sigmoid(layer.weights)
    (wanted,) = torch.autograd.grad(table[gates, address], layer.weights, upper)
    torch.testing.assert_close(grad_weights, wanted)
    sums = torch.zeros(11, 9)
    for sample in range(11):
        for gate in range(30):
            a = int(address[sample, gate])
            for j in range(inputs):
                place = inputs - 1 - j
                slope = sum(
                    (1 if e >> place & 1 else -1) * table[gate, e].item() / (((e ^ a) & ~(1 << place)).bit_count() + 1)
                    for e in range(2**inputs)
                )
                sums[sample, int(indices[j, gate])] += upper[sample, gate] * slope
    torch.testing.assert_close(grad_x, sums, atol=1e-4, rtol=1e-4)


def test_gumbel_draws_of_warp_are_of_every_gate_and_sample() -> None:
    layer = LogicLayer(6, 300, parametrization="warp", init="residual", sampler=Gumbel(straight_through=True))
    x = torch.ones(200, 6)
    y = layer(x)
    assert ((y == 0) | (y == 1)).all()
    assert y.mean().item() == pytest.approx(0.951, abs=0.01)
    assert 0.9 < y[:, 0].mean().item() < 1  # the samples draw for themselves
    layer.sampler = Gumbel(0.5)
    assert layer(x).std() > 0.02


def test_sampler_is_shared_by_the_layers_of_a_model() -> None:
    net = LogicMLP((1, 4, 4), 2, width=20, depth=2, sampler="gumbel")
    assert net[1].sampler is net[2].sampler
    other = copy.deepcopy(net)
    assert other[1].sampler is other[2].sampler is not net[1].sampler


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"'hard'.* 'soft', 'gumbel', 'straight_through', 'finite_difference'"):
        make_sampler("hard")
    for kind in SAMPLERS.values():
        with pytest.raises(ValueError, match="temperature=0"):
            kind(0)
    with pytest.raises(ValueError, match=r"noise=-1\): the noise must not be negative"):
        StraightThrough(noise=-1)
    with pytest.raises(ValueError, match=r"slopes='steep' is not one of 'soft', 'hard'"):
        StraightThrough(slopes="steep")
    with pytest.raises(ValueError, match=r"Soft\(choice_noise=-1"):
        Soft(choice_noise=-1)
    assert repr(StraightThrough()) == "StraightThrough(temperature=1.0, choice_noise=0.0, noise=0.0, slopes=soft)"
