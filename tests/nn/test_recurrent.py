"""Recurrent layers: packed bits against unrolled steps, truncation, lengths, stacks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum
from lgn_lightning.circuit import Circuit, CircuitError, SequentialCircuit
from lgn_lightning.nn import LogicCell, LogicLayer, LogicRecurrent, LogicSequential, Steps, soft_gates

#: Outputs of the net of a cell by its memory.
_OUTPUTS = {"gates": 14, "multiplexer": 22, "delay": 12}


def recurrent(sampler: str = "straight_through", memory: str = "gates", **options: Any) -> LogicRecurrent:
    torch.manual_seed(0)
    layer: dict[str, Any] = {"sampler": sampler, "parametrization": "sigmoid", "init": "residual"}
    net = nn.Sequential(LogicLayer(5 + 8, 24, **layer), LogicLayer(24, _OUTPUTS[memory], **layer))
    return LogicRecurrent(
        LogicCell(net, 5, 8, _OUTPUTS["delay"] if memory == "delay" else 6, memory, "learned"), **options
    )


def bits(steps: int = 7) -> Tensor:
    return torch.randint(2, (70, steps, 5), generator=torch.Generator().manual_seed(1)).float()


def gradients(net: nn.Module, x: Any) -> list[Tensor]:
    y = net(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    loss = (y * weights).sum()
    return [y, *torch.autograd.grad(loss, list(net.parameters()), allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize("memory", list(_OUTPUTS))
@pytest.mark.parametrize("readout", ["last", "sum", "every"])
def test_packed_bits_are_the_unrolled_steps(readout: str, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = recurrent(memory=memory, readout=readout, truncate=3)
    net = LogicSequential(layer, GroupSum(3, 2.0))
    found = gradients(net, bits())
    monkeypatch.setattr(layer, "_bit_layers", lambda x: None)
    for a, b in zip(found, gradients(net, bits()), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_last_output_of_a_delay_line_is_that_of_its_steps(steps: int) -> None:
    last, every = recurrent("soft", "delay"), recurrent("soft", "delay", readout="every")
    x, y = bits(steps).requires_grad_(), bits(steps).requires_grad_()
    found, expected = last(x), every(y)[:, -1]
    assert torch.allclose(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), [x, *last.parameters()]),
        torch.autograd.grad(expected.square().sum(), [y, *every.parameters()]),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("sampler", ["soft", "gumbel", "straight_through"])
def test_evaluation_is_hard_and_the_same_on_packed_bits(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = recurrent(sampler).eval()
    found = layer(bits())
    assert layer._bit_layers(bits()) is not None
    monkeypatch.setattr(layer, "_bit_layers", lambda x: None)
    assert torch.equal(found, layer(bits()))
    assert set(found.unique().tolist()) <= {0.0, 1.0}


def test_soft_gates_are_soft_at_every_step() -> None:
    layer = recurrent("soft").eval()
    with soft_gates(layer):
        y = layer(bits() * 0.7)
    assert ((y > 0.01) & (y < 0.99)).any()


def test_fractions_are_refused_where_gates_are_hard() -> None:
    layer = recurrent("soft")
    layer(bits() * 0.7)
    with pytest.raises(ValueError, match=r"LogicRecurrent got 0\.7 in \.eval\(\) mode.*encoder"):
        layer.eval()(bits() * 0.7)


def test_checkpoints_compute_the_same() -> None:
    x, lengths = bits(), torch.randint(1, 8, (70,), generator=torch.Generator().manual_seed(3))
    kept, anew = recurrent("soft", readout="sum"), recurrent("soft", readout="sum", checkpoint_every=3)
    for given in (x, Steps(x, lengths)):
        for a, b in zip(gradients(kept, given), gradients(anew, given), strict=True):
            assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
@pytest.mark.parametrize("readout", ["last", "sum"])
def test_what_stands_behind_the_end_does_not_count(readout: str, sampler: str) -> None:
    layer = recurrent(sampler, readout=readout)
    x, lengths = bits(), torch.randint(1, 8, (70,), generator=torch.Generator().manual_seed(3))
    y = layer(Steps(x, lengths))
    for length in range(1, 8):
        own = lengths == length
        assert torch.allclose(y[own], layer(x[own, :length]), atol=1e-6)


def test_bad_sequences_are_refused() -> None:
    layer = recurrent()
    for x, message in (
        (bits()[0], r"takes \[batch, steps, 5\]"),
        (bits()[:, :, :4], r"takes \[batch, steps, 5\]"),
        (bits()[:, :0], "no step"),
        (Steps(bits(), torch.ones(3, dtype=torch.int64)), "lengths"),
        (Steps(bits(), torch.full((70,), 8)), "lengths from 8 to 8 do not fit"),
        (Steps(bits(), torch.zeros(70, dtype=torch.int64)), "lengths from 0"),
        (Steps(bits(), torch.full((70,), 2.0)), "whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(x)
    with pytest.raises(ValueError, match="numbers from"):
        recurrent()(3 * bits())
    for options in ({"readout": "first"}, {"truncate": -1}, {"steps": 0}):
        with pytest.raises(ValueError, match=r"must be|is not one of"):
            recurrent(**options)


def test_a_circuit_without_state_is_refused() -> None:
    net = LogicSequential(recurrent(), GroupSum(3))
    with pytest.raises(CircuitError, match=r"SequentialCircuit\.from_module"):
        Circuit.from_module(net)
    with pytest.raises(CircuitError, match="has no state"):
        SequentialCircuit.from_module(LogicLayer(4, 4))
    every = SequentialCircuit.from_module(LogicSequential(recurrent(readout="every"), GroupSum(3)).eval())
    assert every.num_state == 8
