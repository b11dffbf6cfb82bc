"""The callbacks that close the discretization gap: their mathematics, what they do to a training, and exact resumes."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import callback_toy as toy
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from lgn_lightning.callbacks import EntropyRegularization, FreezeLayers, ResampleGates, ResumePoint, WirePenalty
from lgn_lightning.callbacks.resample_gates import redraw, undecided
from lgn_lightning.models import MLP, LogicMLP
from lgn_lightning.nn import LogicLayer, logic_layers
from lgn_lightning.nn.samplers import Gumbel, StraightThrough
from lgn_lightning.training.classifier import LogicClassifier
from tests.synthetic import SyntheticImages

PARAMETRIZATIONS = ("softmax", "sigmoid", "walsh")


def net(parametrization: str = "sigmoid", sampler: Any = "soft", depth: int = 3) -> LogicMLP:
    torch.manual_seed(1)
    return LogicMLP(
        toy.SHAPE, toy.CLASSES, 12, depth, connections="random", parametrization=parametrization, sampler=sampler
    )


class Watch(Callback):
    """Calls a function at the end of every step."""

    def __init__(self, look: Any) -> None:
        self.look = look

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: object) -> None:
        self.look(trainer, pl_module)


def fit(folder: Path, module: Any, *callbacks: Callback, steps: int = 10, **options: Any) -> Any:
    trainer = toy.trainer(folder, *callbacks, max_epochs=-1, max_steps=steps, limit_val_batches=0, **options)
    trainer.fit(module, toy.loader(80))
    return trainer


# --- entropy regularization ---


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_entropy_and_its_gradient_are_those_of_the_formula(parametrization: str) -> None:
    layer = LogicLayer(4, 6, parametrization=parametrization).double()
    weights = layer.weights
    if parametrization == "softmax":
        p = torch.softmax(weights, -1)
        expected = -(p * p.log2()).sum(-1)
    else:
        p = torch.sigmoid(layer.parametrization.logits(weights))
        expected = -(p * p.log2() + (1 - p) * (1 - p).log2()).sum(-1)
    assert EntropyRegularization.measure([layer]).item() == pytest.approx(expected.mean().item(), rel=1e-12)
    (wanted,) = torch.autograd.grad(expected.mean(), weights)
    (given,) = torch.autograd.grad(EntropyRegularization.measure([layer]), weights)
    torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)
    # A gate drawn entry by entry has the entropy of its distribution over the 16 gates.
    q = layer.gate_probabilities().double()
    torch.testing.assert_close(layer.entropy(), torch.special.entr(q).sum(-1) / math.log(2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_decided_gates_have_no_entropy_and_finite_gradients(parametrization: str) -> None:
    layer = LogicLayer(4, 6, parametrization=parametrization)
    with torch.no_grad():
        layer.weights[:] = 4000.0 if parametrization == "sigmoid" else 0.0
        layer.weights[:, 0] = 4000.0
    value = EntropyRegularization.measure([layer])
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert layer.weights.grad is not None
    assert layer.weights.grad.isfinite().all()


def test_the_penalty_rises_linearly() -> None:
    callback = EntropyRegularization(weight=0.5, start=0.2, until=0.6)
    values = [callback.factor(progress) for progress in (0, 0.2, 0.4, 0.6, 1.0)]
    assert values == pytest.approx([0, 0, 0.25, 0.5, 0.5])


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_the_penalty_is_in_the_loss_and_lowers_the_entropy(tmp_path: Path, parametrization: str, sampler: str) -> None:
    entropies = []
    for callbacks in ([], [EntropyRegularization(weight=5.0, until=0.1)]):
        module = toy.module(net(parametrization, sampler))
        trainer = fit(tmp_path, module, *callbacks)
        entropies.append(EntropyRegularization.measure(list(logic_layers(module.net).values())).item())
        assert not module.penalties  # the next fit has no term of this one
    assert entropies[1] < 0.8 * entropies[0]
    metrics = trainer.logged_metrics
    assert metrics["entropy_penalty/weight"] == 5.0
    assert metrics["train/loss"] >= 5.0 * metrics["entropy_penalty/bits"] > 0


# --- layer-by-layer freezing ---


def test_layers_freeze_from_the_input_on_at_equal_distances() -> None:
    callback = FreezeLayers(start=0.5, until=0.9)
    shares = (0.0, 0.49, 0.5, 0.69, 0.7, 0.89, 0.9, 1.0)
    assert [callback.frozen_at(share, 4) for share in shares] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [callback.frozen_at(share, 2) for share in (0.4, 0.5, 1.0)] == [0, 1, 1]


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("sampler", ["soft", Gumbel(), StraightThrough(noise=1.0)], ids=["soft", "gumbel", "st"])
def test_frozen_layers_are_their_hard_gates_and_stay(tmp_path: Path, parametrization: str, sampler: Any) -> None:
    seen: list[tuple[int, bool]] = []
    frozen: list[torch.Tensor] = []

    def look(trainer: Any, module: Any) -> None:
        first = next(iter(logic_layers(module.net).values()))
        hard = torch.equal(first.table().bool().float(), first.table())
        same = torch.equal(first.parametrization.hard_table(first.weights).float(), first.table())
        seen.append((trainer.global_step, hard and same))
        if trainer.global_step > 5:
            frozen.append(first.weights.detach().clone())

    module = toy.module(net(parametrization, sampler))
    fit(tmp_path, module, FreezeLayers(start=0.5, until=0.8), Watch(look), steps=11)
    assert [hard for step, hard in seen if step > 5] == [True] * 6
    if sampler == "soft":
        assert not any(hard for step, hard in seen if step <= 5)
    assert all(torch.equal(weights, frozen[0]) for weights in frozen)
    for layer in logic_layers(module.net).values():  # a later training finds the net as it was
        assert layer.weights.requires_grad
        assert layer.sampler is module.net[1].sampler
    first, second, last = logic_layers(module.net).values()
    assert first.entropy().max() < 1e-4  # decided for everyone who reads the checkpoint
    assert second.entropy().max() < 1e-4
    assert last.entropy().max() > 0.1 or sampler != "soft"


def test_freezing_keeps_the_hard_net() -> None:
    from lgn_lightning.callbacks.freeze_layers import _freeze

    for parametrization in PARAMETRIZATIONS:
        layer = LogicLayer(10, 200, parametrization=parametrization)
        gates = layer.gates().clone()
        _freeze(layer)
        assert torch.equal(layer.gates(), gates)
        _freeze(layer)  # as after a resume
        assert torch.equal(layer.gates(), gates)


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_gates_of_three_inputs_freeze_and_have_a_price(tmp_path: Path, sampler: str) -> None:
    torch.manual_seed(1)
    of = LogicMLP(toy.SHAPE, toy.CLASSES, 12, 2, arity=3, parametrization="sigmoid", sampler=sampler)
    trainer = fit(tmp_path, toy.module(of), FreezeLayers(), EntropyRegularization())
    first, last = logic_layers(of).values()
    assert first.entropy().max() < 1e-4
    assert last.entropy().max() > 0.1
    assert trainer.logged_metrics["entropy_penalty/bits"] == pytest.approx(
        torch.cat([first.entropy(), last.entropy()]).mean().item(), rel=0.5
    )


def test_freezing_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none is left to freeze"):
        fit(tmp_path, toy.module(net(depth=1)), FreezeLayers())
    grey = LogicMLP(toy.SHAPE, toy.CLASSES, 12, 2, grey_in_training=True)
    with pytest.raises(ValueError, match="grey_in_training"):
        fit(tmp_path, toy.module(grey), FreezeLayers())
    with pytest.raises(ValueError, match="0 <= start <= until <= 1"):
        FreezeLayers(start=0.9, until=0.5)
    with pytest.raises(ValueError, match="at least one layer"):
        FreezeLayers(free=0)


# --- resampling ---


def test_undecided_gates_are_those_of_high_entropy_that_does_not_fall() -> None:
    before = torch.tensor([3.0, 3.0, 3.0, 1.0])
    now = torch.tensor([2.99, 2.5, 1.5, 1.0])
    assert undecided(before, now, entropy=2.0, fall=0.1).tolist() == [True, False, False, False]


def test_drawn_gates_are_new_and_the_others_are_not() -> None:
    layer = LogicLayer(50, 100, connections="random", init="residual")
    with torch.no_grad():
        layer.weights.normal_()
    before = [part.clone() for part in (layer.indices_a, layer.indices_b, layer.weights.detach())]
    rows = torch.arange(100) % 4 == 0
    state = torch.get_rng_state()
    redraw(layer, rows, torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), state)  # the run's own draws stay
    for old, new in zip(before, (layer.indices_a, layer.indices_b, layer.weights), strict=True):
        assert torch.equal(old[~rows], new[~rows])
    assert (layer.indices_a[rows] != layer.indices_b[rows]).all()
    assert (before[0][rows] != layer.indices_a[rows]).any()
    assert layer.indices_a.max() < 50
    assert layer.weights[rows].eq(layer.parametrization.residual_logit).sum() == rows.sum()  # as at the start


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_resampling_in_a_training_forgets_moments(tmp_path: Path, sampler: str) -> None:
    zero: list[bool] = []

    class Before(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: object) -> None:
            if trainer.global_step == 4:
                moments = trainer.optimizers[0].state[pl_module.net[1].weights]["exp_avg"]
                zero.append(bool((moments == 0).all()))

    module = toy.module(net("sigmoid", sampler))
    wires = [layer.indices_a.clone() for layer in logic_layers(module.net).values()]
    callback = ResampleGates(every_n_steps=2, entropy=0.0, fall=100.0, until=0.5)  # every gate counts as undecided
    trainer = fit(tmp_path, module, callback, Before())
    assert zero == [True]
    assert trainer.logged_metrics["resampled/gates"] == 36  # looks at steps 2 and 4; the first one only notes
    assert all(
        not torch.equal(old, layer.indices_a)
        for old, layer in zip(wires, logic_layers(module.net).values(), strict=True)
    )


def test_resampling_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no layers of gates"):
        fit(tmp_path, toy.module(MLP(toy.SHAPE, toy.CLASSES, 4, 2)), ResampleGates())
    luts = LogicMLP(toy.SHAPE, toy.CLASSES, 12, 2, arity=3, parametrization="sigmoid")
    with pytest.raises(ValueError, match="this net has LutLayer"):
        fit(tmp_path, toy.module(luts), ResampleGates())
    learned = LogicMLP(toy.SHAPE, toy.CLASSES, 12, 2, connections="learned", num_candidates=2)
    with pytest.raises(ValueError, match="learns its own"):
        fit(tmp_path, toy.module(learned), ResampleGates())
    with pytest.raises(ValueError, match="at least one step"):
        ResampleGates(every_n_steps=0)


# --- exact resumes ---


@pytest.mark.parametrize("sampler", ["soft", "noise"])
def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path, sampler: str) -> None:
    def callbacks() -> list[Callback]:
        return [
            EntropyRegularization(weight=0.5),
            WirePenalty(weight=0.5),
            FreezeLayers(start=0.3, until=0.7),
            ResampleGates(every_n_steps=4, entropy=0.5, fall=100.0, until=0.8),
        ]

    def start(folder: Path, *more: Callback, **options: Any) -> Any:
        torch.manual_seed(1)
        chosen = StraightThrough(noise=1.0) if sampler == "noise" else "soft"
        of = LogicMLP(toy.SHAPE, 10, 20, 4, connections="random", sampler=chosen)
        module = LogicClassifier(of, optimizer=partial(torch.optim.Adam, lr=0.1))
        trainer = toy.trainer(folder, *callbacks(), ResumePoint(), *more, max_epochs=-1, max_steps=20, **options)
        return trainer, module

    saves = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=9, save_top_k=-1)
    trainer, straight = start(tmp_path, saves, enable_checkpointing=True)
    trainer.fit(straight, datamodule=SyntheticImages([*toy.SHAPE], count=107))
    trainer, resumed = start(tmp_path / "resumed")
    again = SyntheticImages([*toy.SHAPE], count=107)
    trainer.fit(resumed, datamodule=again, ckpt_path=tmp_path / "step=9.ckpt", weights_only=True)
    assert trainer.global_step == 20
    assert trainer.logged_metrics["resampled/gates"] > 0
    assert trainer.logged_metrics["frozen/layers"] == 3
    for (name, a), b in zip(straight.net.state_dict().items(), resumed.net.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
