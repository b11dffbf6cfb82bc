"""The layer of gates with up to six inputs, from its wires to the exported circuit."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lgn_lightning import Circuit, CompiledLogicNet, LogicLayer, LutLayer, PackBitsTensor, ops, soft_gates
from lgn_lightning.callbacks import GateEntropy
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import GroupSum, LogicSequential
from lgn_lightning.nn.samplers import StraightThrough


@pytest.mark.parametrize("parametrization", ["sigmoid", "walsh", "softmax"])
def test_two_inputs_are_a_logic_layer(parametrization: str) -> None:
    for sampler in ("soft", "straight_through"):
        layer = LutLayer(9, 20, arity=2, parametrization=parametrization, init="gaussian", sampler=sampler)
        other = LogicLayer(9, 20, parametrization=parametrization, sampler=sampler)
        other.load_state_dict({"weights": layer.weights, "indices_a": layer.indices[0], "indices_b": layer.indices[1]})
        x = torch.rand(40, 9)
        upper = torch.randn(40, 20)
        gradients = []
        for each in (layer, other):
            each.weights.grad, leaf = None, x.clone().requires_grad_()
            y = each(leaf)
            y.backward(upper)
            gradients.append((y, leaf.grad, each.weights.grad))
        torch.testing.assert_close(*gradients)
        assert torch.equal(layer.eval()(x.round()), other.eval()(x.round()))
        assert torch.equal(layer.gates(), other.gates())


@pytest.mark.parametrize("arity", [3, 4, 6])
@pytest.mark.parametrize("parametrization", ["sigmoid", "walsh"])
def test_soft_and_straight_through_against_a_formula(arity: int, parametrization: str) -> None:
    layer = LutLayer(12, 10, arity, parametrization=parametrization, init="gaussian", grad_factor=1.5)
    x = torch.rand(30, 12, requires_grad=True)
    upper = torch.randn(30, 10)
    digits = torch.arange(1 << arity)[:, None] >> torch.arange(arity - 1, -1, -1) & 1
    for sampler in ("soft", "straight_through"):
        layer.sampler = StraightThrough(2.0) if sampler != "soft" else layer.sampler
        y = layer(x)
        got = torch.autograd.grad(y, (x, layer.weights), upper)
        hard = sampler != "soft"
        table = layer.parametrization.table(layer.weights / (2.0 if hard else 1.0))
        bits = (x > 0.5).float() + (x - x.detach()) if hard else x
        bits = 1.5 * bits - 0.5 * bits.detach()
        chosen = torch.where(
            digits.t()[:, None] == 1, bits[:, layer.indices.long(), None], 1 - bits[:, layer.indices.long(), None]
        )
        soft = (chosen.prod(1) * table).sum(-1)
        if hard:
            assert set(y.unique().tolist()) <= {0.0, 1.0}
            assert torch.equal(y, (soft > 0.5).float())
        else:
            torch.testing.assert_close(y, soft)
        torch.testing.assert_close(got, torch.autograd.grad(soft, (x, layer.weights), upper), atol=1e-5, rtol=1e-4)
        layer.implementation = "python"
        torch.testing.assert_close(torch.autograd.grad(layer(x), (x, layer.weights), upper), got, atol=1e-5, rtol=1e-4)
        layer.implementation = None


def test_no_discretization_gap_and_gumbel_draws() -> None:
    net = LogicMLP((1, 4, 4), 2, 20, 2, parametrization="sigmoid", sampler="straight_through", arity=3)
    x = torch.randint(256, (64, 1, 4, 4), dtype=torch.uint8)
    soft = net(x)
    assert torch.equal(soft, net.eval()(x))
    with soft_gates(net):
        assert torch.equal(soft, net(x))
    layer = LutLayer(8, 30, 4, init="gaussian", sampler="gumbel")
    assert not torch.equal(layer.table(), layer.table())
    assert layer.table().shape == (30, 16)


@pytest.mark.parametrize("arity", [3, 4, 6])
def test_hard_net_is_its_circuit_c_and_packed_evaluation(arity: int, tmp_path: Path) -> None:
    torch.manual_seed(arity)
    net = LogicSequential(
        LutLayer(20, 24, arity, init="gaussian"),
        LogicLayer(24, 24),
        LutLayer(24, 12, arity, init="gaussian"),
        GroupSum(3),
    ).eval()
    x = torch.rand(300, 20) < 0.5
    expected = net(x.float())
    assert torch.equal(net(PackBitsTensor(x)), expected.int())
    circuit = Circuit.from_module(net)
    assert np.array_equal(circuit.scores(x.numpy()), expected.int().numpy())
    assert np.array_equal(circuit.optimize().scores(x.numpy()), expected.int().numpy())
    if shutil.which("gcc"):
        compiled = CompiledLogicNet(net)
        compiled.compile(save_lib_path=str(tmp_path / "net.so"))
        assert np.array_equal(compiled(x.numpy()), expected.int().numpy())


@pytest.mark.parametrize("parametrization", ["sigmoid", "walsh"])
def test_residual_is_the_first_input_and_training_lowers_the_loss(parametrization: str) -> None:
    layer = LutLayer(9, 12, 3, parametrization=parametrization).eval()
    x = (torch.rand(30, 9) < 0.5).float()
    assert torch.equal(layer(x), x[:, layer.indices[0].long()])
    for sampler in ("soft", "straight_through"):
        torch.manual_seed(1)
        net = LogicMLP(
            (1, 4, 4), 2, 24, 2, init="residual", parametrization=parametrization, sampler=sampler, arity=3, tau=3.0
        )
        images = torch.randint(256, (128, 1, 4, 4), dtype=torch.uint8)
        labels = (images[:, 0, 0, 0] > 127).long()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
        losses = []
        for _ in range(60):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]


def test_state_dict_wires_and_copies() -> None:
    layer = LutLayer(10, 12, 4)
    other = LutLayer(10, 12, 4)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.indices, layer.indices)
    assert torch.equal(copy.deepcopy(layer).indices, layer.indices)
    assert repr(layer) == "LutLayer(in_dim=10, out_dim=12, arity=4, connections='random', parametrization='sigmoid')"


def test_statistics_of_wide_gates() -> None:
    layer = LutLayer(8, 4, 3)
    with torch.no_grad():
        layer.weights.fill_(-1000.0)
        layer.weights[1, 4:] = 1000.0  # its first input
        layer.weights[2, 1::2] = 1000.0  # its last one
        layer.weights[3, 7] = 0.0  # one undecided entry
        layer.weights[3, :3] = 1000.0
    values = GateEntropy.summary(torch.nn.Sequential(layer))
    assert values["gate_entropy/mean"] == pytest.approx(0.25)
    assert values["gates/constant"] == 0.25
    assert values["gates/pass_through"] == 0.5
    assert layer.gates().tolist() == [0, 0b00001111, 0b01010101, 0b11100000]
    layer = LutLayer(8, 4, 3, init="gaussian")
    entropy = torch.special.entr(layer.gate_probabilities()).sum(1) / torch.tensor(2.0).log()
    torch.testing.assert_close(layer.entropy().float(), entropy)


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"LutLayer\(4, 8, arity=7\).* 2 to 6"):
        LutLayer(4, 8, 7)
    with pytest.raises(ValueError, match="make the layer at least 3 wide"):
        LutLayer(9, 2, 3)
    with pytest.raises(ValueError, match=r"6 inputs .*5"):
        LutLayer(5, 8, 6)
    with pytest.raises(ValueError, match="for 2 inputs only; take 'sigmoid' or 'walsh'"):
        LutLayer(9, 8, 3, parametrization="softmax")
    assert ops.lut_table(torch.tensor([-1]), 6).sum() == 64
