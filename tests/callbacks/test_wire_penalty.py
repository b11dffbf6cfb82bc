"""The price on gates that ignore an input: its mathematics and what it does to a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import callback_toy as toy
import pytest
import torch

from lgn_lightning.callbacks import GateEntropy, WirePenalty
from lgn_lightning.circuit import Circuit
from lgn_lightning.gates import CONSTANT_GATES, PASS_THROUGH_GATES
from lgn_lightning.models import MLP, LogicMLP
from lgn_lightning.nn import LogicLayer, LutLayer
from lgn_lightning.nn.parametrizations import make_parametrization

PARAMETRIZATIONS = ("softmax", "sigmoid", "walsh")
IDLE = torch.tensor([*PASS_THROUGH_GATES, *CONSTANT_GATES])


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_penalty_and_its_gradient_are_those_of_the_formula(parametrization: str) -> None:
    torch.manual_seed(0)
    layer = LogicLayer(40, 200, parametrization=parametrization).double()
    weights = layer.weights
    logits = layer.parametrization.logits(weights)
    idle = torch.isin(layer.gates(), IDLE)
    assert 0 < idle.sum() < len(idle)
    if parametrization == "softmax":
        others = [gate for gate in range(16) if gate not in IDLE]
        distance = logits[:, IDLE].amax(1) - logits[:, others].amax(1)
    else:
        distance = logits.abs().amin(1)
    expected = distance[idle].sum() / len(idle)
    given = WirePenalty.measure([layer])
    torch.testing.assert_close(given, expected)
    (wanted_grad,) = torch.autograd.grad(expected, weights)
    (given_grad,) = torch.autograd.grad(given, weights)
    torch.testing.assert_close(given_grad, wanted_grad)
    assert (given_grad[~idle] == 0).all()


@pytest.mark.parametrize("inputs", [2, 3, 4])
@pytest.mark.parametrize("parametrization", ["sigmoid", "walsh"])
def test_a_step_of_the_distance_makes_a_gate_of_all_inputs(parametrization: str, inputs: int) -> None:
    kind = make_parametrization(parametrization)
    torch.manual_seed(0)
    # Tables that ignore one input at least: each is made of one of an input less.
    smaller = torch.randn(300, 2 ** (inputs - 1), dtype=torch.float64).sign()
    ignored = torch.arange(300) % inputs
    signs = torch.stack(
        [
            row.view([2] * (inputs - 1)).unsqueeze(i).expand([2] * inputs).flatten()
            for row, i in zip(smaller, ignored.tolist(), strict=True)
        ]
    )
    logits = signs * (0.1 + torch.rand(300, 2**inputs, dtype=torch.float64))
    distance = kind.distance_to_full(kind.from_table(torch.sigmoid(logits)))
    torch.testing.assert_close(distance, logits.abs().amin(1))
    entry = logits.abs().argmin(1, keepdim=True)
    for share, full in ((0.99, False), (1.01, True)):
        moved = logits - share * torch.zeros_like(logits).scatter(1, entry, logits.gather(1, entry))
        tables = (moved > 0).view(-1, *[2] * inputs)
        uses = torch.stack(
            [(tables.select(i, 0) != tables.select(i, 1)).flatten(1).any(1) for i in range(1, inputs + 1)]
        )
        assert (uses.all(0) == full).all()


def test_gates_of_all_inputs_are_free_and_one_entry_of_a_fresh_residual_gate_moves() -> None:
    layer = LutLayer(9, 5, 3, parametrization="sigmoid", init="residual")
    WirePenalty.measure([layer]).backward()
    assert layer.weights.grad is not None
    assert (layer.weights.grad != 0).sum(1).tolist() == [1] * 5
    with torch.no_grad():
        layer.weights[:, 0] *= -1  # an odd number of ones
    assert WirePenalty.measure([layer]).item() == 0


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_fewer_wires_are_left_and_the_circuit_is_the_net(tmp_path: Path, parametrization: str) -> None:
    shares = []
    for callbacks in ([], [WirePenalty(weight=3.0, until=0.5)]):
        torch.manual_seed(1)
        options: Any = {"parametrization": parametrization, "sampler": "straight_through", "init": "residual"}
        module = toy.module(LogicMLP(toy.SHAPE, toy.CLASSES, 12, 4, connections="random", tau=3.0, **options))
        trainer = toy.trainer(tmp_path, *callbacks, max_epochs=-1, max_steps=60, limit_val_batches=0)
        trainer.fit(module, toy.loader(80))
        statistics = GateEntropy.summary(module.net)
        shares.append(statistics["gates/pass_through"] + statistics["gates/constant"])
        assert not module.penalties  # the next fit has no term of this one
    assert shares[1] < 0.2 < 0.5 * shares[0]
    metrics = trainer.logged_metrics
    assert metrics["wire_penalty/weight"] == 3.0
    assert metrics["train/loss"] >= 3.0 * metrics["wire_penalty/distance"] >= 0
    net = module.net.eval()
    pixels = torch.stack([image for image, _ in toy.images(50)])
    with torch.no_grad():
        scores = net(pixels) * 3.0
    circuit = Circuit.from_module(net)
    assert torch.equal(torch.from_numpy(circuit.scores(pixels.numpy())).long(), scores.round().long())


def test_the_penalty_rises_linearly() -> None:
    callback = WirePenalty(weight=0.5, start=0.2, until=0.6)
    values = [callback.factor(progress) for progress in (0, 0.2, 0.4, 0.6, 1.0)]
    assert values == pytest.approx([0, 0, 0.25, 0.5, 0.5])


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    toy.assert_a_resumed_run_is_exact(tmp_path, lambda: WirePenalty(weight=0.5))


def test_gates_of_three_inputs_have_a_price(tmp_path: Path) -> None:
    torch.manual_seed(1)
    of = LogicMLP(toy.SHAPE, toy.CLASSES, 12, 2, arity=3, parametrization="sigmoid", init="residual")
    trainer = toy.trainer(tmp_path, WirePenalty(), max_epochs=-1, max_steps=5, limit_val_batches=0)
    trainer.fit(toy.module(of), toy.loader(80))
    assert trainer.logged_metrics["wire_penalty/distance"] > 0


def test_modules_without_gates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no layer of gates"):
        toy.trainer(tmp_path, WirePenalty()).fit(toy.module(MLP(toy.SHAPE, toy.CLASSES, 4, 2)), toy.loader())


@pytest.mark.parametrize(
    "arguments", [{"weight": 0.0}, {"weight": 1e308}, {"start": 0.5, "until": 0.5}, {"until": 1.5}]
)
def test_bad_arguments(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="WirePenalty"):
        WirePenalty(**arguments)
