"""The price on lookup tables: its probabilities, and what a target does to a training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import callback_toy as toy
import pytest
import torch

from lgn_lightning.callbacks import HardwarePrice
from lgn_lightning.circuit import Circuit, estimate, optimize
from lgn_lightning.gates import CONSTANT_GATES, PASS_THROUGH_GATES
from lgn_lightning.models import MLP, LogicMLP
from lgn_lightning.nn import LogicLayer, LutLayer
from lgn_lightning.training.classifier import LogicClassifier
from tests.synthetic import SyntheticImages

PARAMETRIZATIONS = ("softmax", "sigmoid", "walsh", "warp")


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_probabilities_are_those_of_the_gates(parametrization: str) -> None:
    torch.manual_seed(0)
    layer = LogicLayer(40, 100, parametrization=parametrization).double()
    constant, wire = layer.parametrization.idle_probabilities(layer.weights)
    every = layer.gate_probabilities().double()
    torch.testing.assert_close(constant, every[:, list(CONSTANT_GATES)].sum(1), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(wire, every[:, list(PASS_THROUGH_GATES)].sum(1), atol=1e-6, rtol=1e-6)
    expected = HardwarePrice.expected_tables([layer])
    assert expected.item() == pytest.approx(((1 - constant - wire) / 3 + 1 - constant).sum().item())
    (gradient,) = torch.autograd.grad(expected, layer.weights)
    assert (gradient != 0).any(1).all()


def test_tables_of_three_inputs() -> None:
    torch.manual_seed(0)
    layer = LutLayer(9, 20, 3, parametrization="sigmoid", init="gaussian").double()
    constant, wire = layer.parametrization.idle_probabilities(layer.weights)
    every = layer.gate_probabilities().double()
    torch.testing.assert_close(constant, every[:, [0, 255]].sum(1), atol=1e-6, rtol=1e-6)
    wires = [0b00001111, 0b11110000, 0b00110011, 0b11001100, 0b01010101, 0b10101010]
    torch.testing.assert_close(wire, every[:, wires].sum(1), atol=1e-6, rtol=1e-6)


def test_settled_gates_cost_what_they_are() -> None:
    layer = LogicLayer(8, 16, parametrization="softmax")
    with torch.no_grad():
        layer.weights.copy_(100 * torch.eye(16))
    # Ten gates that are no wire and no constant, and sums of the fourteen that are no constant.
    assert HardwarePrice.expected_tables([layer]).item() == pytest.approx(10 / 3 + 14, abs=1e-4)


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_a_target_is_reached_and_the_price_follows_it(tmp_path: Path, sampler: str) -> None:
    costs: list[int] = []
    for priced in (False, True):
        target = costs[0] * 2 // 3 if priced else 0
        callbacks = [HardwarePrice(target=target, weight=1.0, every_n_steps=5)] if priced else []
        torch.manual_seed(1)
        options: Any = {"parametrization": "sigmoid", "sampler": sampler, "connections": "random", "tau": 3.0}
        of = LogicMLP((1, 6, 6), 10, 400, 2, **options)
        module = LogicClassifier(of, optimizer=partial(torch.optim.Adam, lr=0.1))
        trainer = toy.trainer(tmp_path, *callbacks, max_epochs=-1, max_steps=100, check_val_every_n_epoch=5)
        trainer.fit(module, datamodule=SyntheticImages([1, 6, 6], count=53))
        costs.append(estimate(optimize(Circuit.from_module(module.net))).total("lut6"))
        assert not module.penalties  # the next fit has no term of this one
    assert costs[1] <= target < costs[0]
    logged = trainer.callback_metrics
    assert logged["fpga/lut6"] <= target
    assert logged["val/score_within"] == logged["val/acc_hard"]
    assert logged["hardware_price/weight"] != 1.0


def test_nets_above_the_target_score_less(tmp_path: Path) -> None:
    price = HardwarePrice(target=1, weight=1e-6)
    trainer = toy.trainer(tmp_path, price, max_epochs=-1, max_steps=10, val_check_interval=5)
    with pytest.warns(UserWarning, match="more than the target of 1"):
        trainer.fit(toy.module(), toy.loader(80), toy.loader(40, seed=1))
    logged = trainer.callback_metrics
    assert logged["val/score_within"] == pytest.approx(logged["val/acc_hard"].item() - 1)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    toy.assert_a_resumed_run_is_exact(tmp_path, lambda: HardwarePrice(target=20, weight=0.5, every_n_steps=2))


def test_modules_without_gates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no layer of gates"):
        toy.trainer(tmp_path, HardwarePrice()).fit(toy.module(MLP(toy.SHAPE, toy.CLASSES, 4, 2)), toy.loader())


@pytest.mark.parametrize("arguments", [{"weight": 0.0}, {"weight": 1e308}, {"target": 0}, {"every_n_steps": 0}])
def test_bad_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="HardwarePrice"):
        HardwarePrice(**arguments)
