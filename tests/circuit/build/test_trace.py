from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lgn_lightning import GroupSum, LogicLayer, Threshold
from lgn_lightning.circuit import Circuit, CircuitBuilder, CircuitError
from lgn_lightning.models import LogicMLP


def dense(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), LogicLayer(20, 60), LogicLayer(60, 60), GroupSum(5, tau=4.0), *layers).eval()


def test_circuit_agrees_with_the_hard_net() -> None:
    net = dense()
    circuit = Circuit.from_module(net, class_names=list("abcde"))
    x = torch.rand(300, 20) < 0.5
    with torch.no_grad():
        expected = (net(x.float()) * 4).round().int().numpy()
    assert np.array_equal(circuit.scores(x.numpy()), expected)
    assert np.array_equal(circuit.scores(x), expected)
    assert (circuit.num_gates, circuit.tau, circuit.class_names) == (120, 4.0, tuple("abcde"))


def test_encoder_becomes_the_input_code() -> None:
    torch.manual_seed(0)
    threshold = Threshold([0.25, 0.75], in_shape=(2, 4, 4))
    net = nn.Sequential(threshold, nn.Dropout(), nn.Sequential(LogicLayer(64, 80), nn.Identity()), GroupSum(4)).eval()
    circuit = Circuit.from_module(net)
    pixels = torch.randint(0, 256, (100, 2, 4, 4), dtype=torch.uint8)
    with torch.no_grad():
        assert np.array_equal(circuit.scores(pixels), net(pixels).round().int().numpy())
    assert circuit.image_shape == (2, 4, 4)
    assert circuit.levels is not None
    assert circuit.levels.tolist() == [63, 191]


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Linear(3, 3)), r"module Sequential\.0 \(Linear\) cannot become gates"),
        (nn.Sequential(LogicLayer(8, 6), nn.Sequential(LogicLayer(7, 6))), r"Sequential\.1\.0 \(LogicLayer\).* 7 .*6"),
        (nn.Sequential(LogicLayer(8, 10), GroupSum(3)), r"Sequential\.1 \(GroupSum\).*10 outputs.*3"),
        (nn.Sequential(LogicLayer(8, 8), GroupSum(2), LogicLayer(2, 2)), "behind the GroupSum"),
        (nn.Sequential(nn.Flatten()), "declares no inputs"),
    ],
)
def test_errors_name_the_module(net: nn.Module, message: str) -> None:
    with pytest.raises(CircuitError, match=message):
        Circuit.from_module(net)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_settle_on_no_gates(value: float) -> None:
    net = dense()
    with torch.no_grad():
        net[2].weights[7, 3] = value
    with pytest.raises(CircuitError, match=rf"Sequential\.2\.weights holds {value}"):
        Circuit.from_module(net)


def test_a_module_of_ones_own_takes_part() -> None:
    class Both(nn.Module):
        in_dim = 2

        def add_to_circuit(self, builder: CircuitBuilder, wires: np.ndarray) -> np.ndarray:
            one = builder.constant(True)
            assert builder.constant(True) == one
            return builder.gates([1, 6], [wires[0], one], [wires[1], wires[1]])

    circuit = Circuit.from_module(Both())
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], bool)
    assert circuit.scores(bits).tolist() == [[0, 1], [0, 0], [0, 1], [1, 0]]


def test_model_of_the_recipes() -> None:
    torch.manual_seed(0)
    net = LogicMLP(in_shape=(1, 8, 8), num_classes=10, width=100, depth=3, tau=5.0).eval()
    circuit = Circuit.from_module(net)
    assert circuit.num_gates == 300


class Broken(nn.Module):
    """A net whose forward pass does one thing with the activations of its layer."""

    def __init__(self, then: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.layer, self.other, self.linear, self.sum = LogicLayer(8, 8), LogicLayer(4, 4), nn.Linear(8, 8), GroupSum(2)
        self.then = then

    def forward(self, x: Tensor) -> Any:
        return self.then(self, self.layer(x))


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (
            lambda net, h: net.linear(h),
            r"Broken\.linear \(Linear\) cannot become gates: linear .*use LogicLayer.*test_trace",
        ),
        (lambda net, h: h if h.sum() > 3 else net.layer(h), r"Broken \(Broken\) cannot become gates: it sums over"),
        (
            lambda net, h: h if h[0, 0] else net.layer(h),
            r"bool\(\) has no gates: .*may ask for shapes, but not for values",
        ),
        (
            lambda net, h: torch.softmax(net.sum(h), 1),
            r"softmax has no gates: return the scores.*line \d+: lambda net",
        ),
        (lambda net, h: net.layer(2 * h - 1), r"Broken\.layer \(LogicLayer\).*numbers among -1, 1"),
        (lambda net, h: net.other(h), r"Broken\.other \(LogicLayer\): it takes 4 inputs, but .* gives 8.*line \d+"),
        (lambda net, h: net.layer(net.sum(h)), "Broken.layer .* stands behind the GroupSum, which must be last"),
        (lambda net, h: net.sum(h) * net.sum(h), "mul of sums has no gates"),
        (lambda net, h: net.sum(h.flip(0)) + net.sum(h), "mixes the samples of a batch"),
        (lambda net, h: net.sum(h[:1]), "treats them differently|not the batch|mixes the samples"),
        (lambda net, h: h.reshape(-1, 4), "mixes the samples of a batch|not the batch"),
        (lambda net, h: h.no_such_method(), r"Broken \(Broken\): AttributeError: .*test_trace\.py, line \d+"),
        (lambda net, h: nn.functional.dropout(h), "dropout with training=True: pass training=self.training"),
        (lambda net, h: (net.sum(h), h), "some of its outputs are sums and others bits"),
        (lambda net, h: net.sum(h) + 1.5, "1.5 is added to the sums of bits, which can only be a whole"),
        (lambda net, h: torch.zeros(2, 2), "gives no tensor that depends on its input"),
        (lambda net, h: net.sum(h) / 3 + net.sum(h) * 0.123456, "have no common one"),
        (lambda net, h: h * torch.full((8,), 0.5) * torch.rand(8), "other numbers than 0 and 1"),
        (lambda net, h: h.max(1).values, "write amax"),
        (lambda net, h: net.layer(torch.sigmoid(h)), "sigmoid has no gates: .*no activation function: leave it out"),
        (lambda net, h: nn.functional.interpolate(h[:, None, :, None], scale_factor=2, mode="bilinear"), "'nearest'"),
        (lambda net, h: nn.functional.max_pool1d(h[:, None], 2, ceil_mode=True), "max_pool1d with ceil_mode"),
        (
            lambda net, h: net.layer((net.sum(h)[:, :1] > net.sum(h)[:, 1:]).float()),
            "gt of sums has no gates: .*number",
        ),
    ],
)
def test_what_has_no_gates_is_named_with_its_line(then: Callable[[Any, Any], Any], message: str) -> None:
    net = Broken(then)
    with pytest.raises(CircuitError, match=f"(?s){message}"):
        Circuit.from_module(net)
    assert net.training
    assert "forward" not in net.layer.__dict__


@pytest.mark.parametrize(
    "then",
    [
        lambda net, h: net.sum(h) * 2 + net.sum(net.layer(h)),
        lambda net, h: 0.75 * net.sum(h) + 0.25 * net.sum(net.layer(h)),
        lambda net, h: (net.sum(h), net.sum(net.layer(h))),
        lambda net, h: {"one": net.sum(h), "two": [net.sum(1 - h)]},
        lambda net, h: net.sum(h)[:, [1, 0]],
        lambda net, h: net.sum(h) + 2,
        lambda net, h: torch.stack([row.flip(0) for row in h]),
        lambda net, h: h.add_(net.layer(h)).mul_(0.5).ge_(0.5),
        lambda net, h: net.sum(h.double().to(torch.float32).detach()),
        lambda net, h: h * (net.layer(h).sum(1, keepdim=True) == 4),
        lambda net, h: (h.view(-1, 2, 4).mean(-1) < 0.6).float(),
        lambda net, h: h.sum(1, keepdim=True) % 2,
        lambda net, h: nn.functional.avg_pool1d(h[:, None], 3, 1, padding=1).flatten(1) * 3,
        lambda net, h: nn.functional.adaptive_avg_pool1d(h[:, None], 4).flatten(1) * 2,
        lambda net, h: nn.functional.adaptive_max_pool1d(h[:, None], 3).flatten(1),
        lambda net, h: nn.functional.max_pool1d(h[:, None], 3, 2, 1).flatten(1),
    ],
)
def test_sums_heads_and_writing_in_place(then: Callable[[Any, Any], Any]) -> None:
    torch.manual_seed(3)
    net = Broken(then).eval()
    circuit = Circuit.from_module(net)
    x = torch.rand(100, 8) < 0.5
    with torch.no_grad():
        out = torch.cat(tree_leaves(net(x.float())), 1) * circuit.tau
    assert np.array_equal(circuit.scores(x), out.round().int().numpy())


def put(h: Tensor, index: Any, value: Tensor) -> Tensor:
    h[index] = value
    return h


def rows_in_place(h: Tensor) -> Tensor:
    h[:, :5] *= h[:, 3:8]
    h[..., 2] = 1 - h[..., 2]
    return h


def copy_in_place(h: Tensor) -> Tensor:
    low = h[:, :4].clone().mul_(h[:, 4:])
    bits = h > 0.5
    number = bits.float()
    number.mul_(h)
    return torch.cat([low, h, number, bits.float()], 1)


@pytest.mark.parametrize("then", [rows_in_place, copy_in_place, lambda h: h.view(-1, 2, 4).mul_(0).add_(1).flatten(1)])
def test_what_is_written_in_place_and_read_under_its_name(then: Callable[[Any], Any]) -> None:
    net = Broken(lambda net, h: then(h)).eval()
    x = torch.rand(100, 8) < 0.5
    with torch.no_grad():
        assert np.array_equal(Circuit.from_module(net).scores(x.numpy()), net(x.float()).round().int().numpy())


@pytest.mark.parametrize(
    "then",
    [
        lambda h: h[:, :5].mul_(0) * 0 + h[:, :5],
        lambda h: (h.view(-1).sub_(1).neg_(), h)[1],
        lambda h: (h.unbind(1)[2].mul_(0), h)[1],
        lambda h: (view := h[:, 2:], h.mul_(h[:, :1]), view)[2],
        lambda h: put(h, (slice(None), slice(5, 8)), h[:, :3].mul_(0)),
        lambda h: (h.detach().logical_not_(), h)[1],
    ],
)
def test_what_is_written_under_another_name_is_refused(then: Callable[[Any], Any]) -> None:
    """Its view, or its base, would keep the values from before."""
    with pytest.raises(CircuitError, match=r"written in place under another name.*x \* y"):
        Circuit.from_module(Broken(lambda net, h: then(h)).eval())


def test_what_is_done_to_pixels_before_the_encoder_is_named() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.layer = Threshold([0.5], (1, 2, 4)), LogicLayer(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.encoder((x.float() / 255 - 0.1) / 0.3))

    with pytest.raises(CircuitError, match=r"sub computes with the input x before its encoder.*test_trace\.py, line"):
        Circuit.from_module(Normalised())


def test_an_image_and_bits_are_refused() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.layer = Threshold([0.5], (1, 2, 4)), LogicLayer(12, 8)

        def forward(self, x: Tensor, bits: Tensor) -> Tensor:
            return self.layer(torch.cat([self.encoder(x), bits], 1))

    with pytest.raises(CircuitError, match=r"an image and bits.*make the bits a channel of the image"):
        Circuit.from_module(Both(), input_shape=[(1, 2, 4), (4,)])


def test_the_size_of_the_input_is_found_or_asked_for() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = LogicLayer(4, 6), LogicLayer(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.a(x[:, :4]), self.b(x[:, 4:])], 1)

    net = Halves()
    with pytest.raises(CircuitError, match="size of the input x is not known: pass input_shape"):
        Circuit.from_module(net)
    circuit = Circuit.from_module(net, input_shape=(8,))
    net.in_dim = 8
    assert Circuit.from_module(net) == circuit
    assert circuit.num_inputs == 8


def test_bools_and_layers_that_do_not_say_their_size() -> None:
    class Twice(nn.Module):
        def add_to_circuit(self, builder: CircuitBuilder, wires: np.ndarray) -> np.ndarray:
            if wires.shape != (2, 3):
                raise ValueError(f"it takes [2, 3], got {wires.shape}")
            return np.concatenate([wires, wires])

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x], 1)

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = Twice()

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.ones(4, 3, dtype=torch.bool)
            mask[2:, 1] = False
            return self.twice(x) & mask

    x = torch.rand(64, 2, 3) < 0.5
    circuit = Circuit.from_module(Masked(), input_shape=(2, 3))
    assert np.array_equal(circuit.scores(x.flatten(1)), Masked()(x).flatten(1).int().numpy())


def test_pixels_over_255() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.layer = Threshold([0.5], (1, 2, 4)), LogicLayer(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.encoder(x.float() / 255))

    net = Scaled().eval()
    circuit = Circuit.from_module(net)
    pixels = torch.randint(0, 256, (64, 1, 2, 4), dtype=torch.uint8)
    assert np.array_equal(circuit.scores(pixels.numpy()), net(pixels).int().numpy())
