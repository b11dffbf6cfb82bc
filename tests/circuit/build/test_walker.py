from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

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
