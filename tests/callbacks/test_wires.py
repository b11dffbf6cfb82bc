"""Callbacks on wires: inputs that are constant, and candidates of learned connections that are replaced."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import callback_toy as toy
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from lgn_lightning.callbacks import (
    AvoidConstantInputs,
    FreezeLayers,
    RefreshCandidates,
    ResumePoint,
    SamplerSchedule,
    WireSchedule,
)
from lgn_lightning.callbacks.avoid_constant_inputs import avoid, bit_frequencies
from lgn_lightning.callbacks.refresh_candidates import refresh
from lgn_lightning.models import MLP, LogicMLP
from lgn_lightning.nn import LearnedConnections, Threshold, logic_layers
from lgn_lightning.nn.samplers import Soft, StraightThrough
from lgn_lightning.training.classifier import LogicClassifier
from tests.synthetic import SyntheticImages

SHAPE = [1, 5, 4]


class Framed(SyntheticImages):
    """Noise whose first row is black, like the border of MNIST's."""

    def _load_train(self) -> Any:
        data = super()._load_train()
        data.images[:, :, 0] = 0
        return data


def net(data: SyntheticImages, connections: str = "learned", **options: Any) -> LogicMLP:
    torch.manual_seed(1)
    return LogicMLP(
        data.image_shape, data.num_classes, 40 * data.num_classes, 2, connections=connections, num_candidates=4,
        init="residual", parametrization="sigmoid", sampler=StraightThrough(choice_noise=1.0), **options,
    )  # fmt: skip


def fit(folder: Path, model: torch.nn.Module, data: SyntheticImages, *callbacks: Callback, **options: Any) -> Any:
    options = {"max_epochs": -1, "max_steps": 10, "limit_val_batches": 0, **options}
    ckpt = options.pop("ckpt_path", None)
    module = LogicClassifier(model, data.num_classes, optimizer=partial(torch.optim.Adam, lr=0.1))
    trainer = toy.trainer(folder, *callbacks, **options)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt)
    return trainer


# --- constant inputs ---


def test_bits_are_counted_as_the_encoder_gives_them() -> None:
    images = torch.randint(0, 256, (4500, 1, 2, 3), dtype=torch.uint8)
    encoder = Threshold([0.25, 0.75], (1, 2, 3))
    expected = torch.cat([(images.flatten(1) > level).double().mean(0) for level in encoder.levels])
    torch.testing.assert_close(bit_frequencies(encoder, images), expected)


def test_wires_move_to_allowed_inputs_evenly_and_the_others_stay() -> None:
    wires = torch.arange(60, dtype=torch.int32).remainder(6).view(10, 2, 3)
    before, allowed = wires.clone(), torch.tensor([1, 4, 5])
    assert avoid((wires,), allowed, torch.Generator()) == 30
    kept = torch.isin(before, allowed)
    assert torch.equal(wires[kept], before[kept])
    assert torch.equal(torch.bincount(wires[~kept].long()), torch.tensor([0, 10, 0, 0, 10, 10]))
    assert avoid((wires,), allowed, torch.Generator()) == 0


@pytest.mark.parametrize("connections", ["random", "learned"])
def test_no_wire_of_the_first_layer_reads_a_constant_pixel(tmp_path: Path, connections: str) -> None:
    data = Framed(SHAPE)
    model = net(data, connections)
    fit(tmp_path, model, data, AvoidConstantInputs(), max_steps=1)
    first, second = logic_layers(model).values()
    wires = torch.stack(first.indices) if connections == "random" else first.learned.candidates  # type: ignore[union-attr,arg-type]
    rows = wires // 4
    assert int(rows.min()) == 1
    read = torch.stack(second.indices) if connections == "random" else second.learned.candidates  # type: ignore[union-attr,arg-type]
    assert len(read.unique()) == second.in_dim


def test_avoiding_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    data = Framed(SHAPE)
    with pytest.raises(ValueError, match=r"it is a share in \[0, 0.5\)"):
        AvoidConstantInputs(rare=0.5)
    with pytest.raises(ValueError, match="starts with Intensity, Linear; leave the callback out"):
        fit(tmp_path, MLP(data.image_shape, data.num_classes, 4, 2), data, AvoidConstantInputs())
    with pytest.raises(ValueError, match="input bits of the net are constant"):
        fit(tmp_path, net(data, thresholds=[0.9999]), data, AvoidConstantInputs())
    trainer = toy.trainer(tmp_path, AvoidConstantInputs())
    with pytest.raises(ValueError, match="needs an ImageDataModule"):
        trainer.fit(toy.module(), toy.loader())


# --- candidates ---


def test_the_weakest_candidates_are_replaced_and_start_below_the_best() -> None:
    torch.manual_seed(0)
    connections = LearnedConnections(12, 30, 5)
    with torch.no_grad():
        connections.logits.normal_()
        connections.candidates[connections.candidates == 7] = 3  # what no gate has as a candidate stays away
    logits, candidates = connections.logits.detach().clone(), connections.candidates.clone()
    rows = refresh(connections, 2, 1.5, torch.Generator().manual_seed(3))
    weakest = logits.argsort(2)[:, :, :2]
    assert torch.equal(rows, torch.zeros_like(rows).scatter(2, weakest, True))
    assert torch.equal(connections.logits[~rows], logits[~rows])
    assert torch.equal(connections.candidates[~rows], candidates[~rows])
    torch.testing.assert_close(
        connections.logits.detach()[rows], (logits.amax(2, keepdim=True) - 1.5).expand_as(logits)[rows]
    )
    drawn = connections.candidates[rows]
    assert set(drawn.tolist()) == set(range(12)) - {7}


def test_refreshes_come_when_they_should_and_forget_the_optimizer(tmp_path: Path) -> None:
    data = SyntheticImages(SHAPE)
    model = net(data)
    seen: list[torch.Tensor] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: object) -> None:
            layer = next(iter(logic_layers(model).values())).learned
            seen.append(layer.candidates.clone())  # type: ignore[union-attr,operator]
            if trainer.global_step == 4:
                changed = seen[4] != seen[3]
                moments = trainer.optimizers[0].state[layer.logits]["exp_avg"]  # type: ignore[union-attr]
                assert not moments[changed].any()
                assert moments[~changed].any()

    trainer = fit(tmp_path, model, data, RefreshCandidates(every_n_steps=2, count=2, until=0.6), Watch())
    changes = [step for step in range(1, 10) if not torch.equal(seen[step], seen[step - 1])]
    assert changes == [2, 4, 6]
    gates = sum(layer.out_dim for layer in logic_layers(model).values())
    assert trainer.logged_metrics["refreshed/candidates"] == 3 * 2 * 2 * gates


def test_a_resumed_run_ends_with_the_same_net(tmp_path: Path) -> None:
    def callbacks(name: str, steps: int) -> list[Callback]:
        return [
            AvoidConstantInputs(),
            RefreshCandidates(every_n_steps=3, count=2, until=0.9),
            WireSchedule(every_n_steps=2, until=0.9),
            SamplerSchedule(start=1.0, end=0.0, parameter="choice_noise", until=0.7),
            ResumePoint(),
            ModelCheckpoint(tmp_path / name, every_n_train_steps=steps, save_top_k=-1, filename="{step}"),
        ]

    ends = []
    for name, ckpt in (("whole", None), ("resumed", tmp_path / "whole" / "step=4.ckpt")):
        data = Framed(SHAPE)
        model = net(data) if ckpt is None else net(data).requires_grad_()
        if ckpt is not None:
            for layer in logic_layers(model).values():
                layer.learned.reset_parameters()  # type: ignore[union-attr,operator]
        torch.manual_seed(5 if ckpt is None else 6)
        fit(tmp_path, model, data, *callbacks(name, 4), enable_checkpointing=True, ckpt_path=ckpt)
        ends.append(model.state_dict())
    for key, value in ends[0].items():
        assert torch.equal(ends[1][key], value), key


def test_refreshing_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    data = SyntheticImages(SHAPE)
    with pytest.raises(ValueError, match="at least one step and one candidate"):
        RefreshCandidates(count=0)
    with pytest.raises(ValueError, match="this net has none"):
        fit(tmp_path, net(data, "random"), data, RefreshCandidates())
    with pytest.raises(ValueError, match="would replace all 4 candidates of an input; take at most 3"):
        fit(tmp_path, net(data), data, RefreshCandidates(count=4))


# --- wires that choose at some steps only ---


class Recorder(Callback):
    """The parameters before each step and after the last one, by whether they are logits of candidates."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.logits: list[torch.Tensor] = []
        self.others: list[torch.Tensor] = []

    def on_train_batch_start(self, *_: object) -> None:
        self._record()

    def on_train_end(self, *_: object) -> None:
        self._record()

    def _record(self) -> None:
        parts: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            parts[name.endswith("learned.logits")].append(parameter.detach().flatten().clone())
        self.logits.append(torch.cat(parts[True]))
        self.others.append(torch.cat(parts[False]))

    @staticmethod
    def changes(values: list[torch.Tensor]) -> list[int]:
        return [step for step in range(len(values) - 1) if not torch.equal(values[step], values[step + 1])]


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_wires_learn_at_the_steps_of_the_schedule_and_gates_at_all(tmp_path: Path, sampler: str) -> None:
    data = SyntheticImages(SHAPE)
    model = net(data)
    for layer in logic_layers(model).values():
        layer.sampler = StraightThrough() if sampler == "straight_through" else Soft()
    recorder = Recorder(model)
    trainer = fit(tmp_path, model, data, WireSchedule(every_n_steps=3, until=0.7), recorder, log_every_n_steps=1)
    assert recorder.changes(recorder.logits) == [0, 3, 6]
    assert recorder.changes(recorder.others) == list(range(10))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert trainer.logged_metrics["wires/moved"] == 0  # none since the step before the last one


def test_the_share_of_moved_wires_is_counted(tmp_path: Path) -> None:
    data = SyntheticImages(SHAPE)
    model = net(data)
    learned = [layer.learned for layer in logic_layers(model).values()]

    class Move(Callback):
        def on_train_batch_start(self, trainer: Any, *_: object) -> None:
            if trainer.global_step == 9:  # a quarter of the inputs of the first layer take another candidate
                with torch.no_grad():
                    logits = learned[0].logits  # type: ignore[union-attr]
                    row = logits[: len(logits) // 4]
                    best = row.argmax(2, keepdim=True)
                    row.scatter_(2, (best + 1) % 4, float(row.amax()) + 9)

    before = [torch.stack(part.settled()) for part in learned]  # type: ignore[union-attr,operator]
    trainer = fit(tmp_path, model, data, Move(), WireSchedule(until=0.01), log_every_n_steps=10)
    after = [torch.stack(part.settled()) for part in learned]  # type: ignore[union-attr,operator]
    moved = sum(int((old != new).sum()) for old, new in zip(before, after, strict=True))
    inputs = sum(part.numel() for part in before)
    assert moved > inputs / 9
    assert trainer.logged_metrics["wires/moved"] == pytest.approx(moved / inputs)


def test_layers_that_are_frozen_stay_so(tmp_path: Path) -> None:
    data = SyntheticImages(SHAPE)
    model = net(data)
    recorder = Recorder(model)
    fit(tmp_path, model, data, FreezeLayers(start=0.4, until=0.4), WireSchedule(every_n_steps=2), recorder)
    first = next(iter(logic_layers(model).values())).learned.logits.numel()  # type: ignore[union-attr,operator]
    assert recorder.changes([logits[:first] for logits in recorder.logits]) == [0, 2]
    assert recorder.changes([logits[first:] for logits in recorder.logits]) == [0, 2, 4, 6, 8]


def test_a_schedule_of_wires_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    data = SyntheticImages(SHAPE)
    with pytest.raises(ValueError, match="at least one step, and a share"):
        WireSchedule(every_n_steps=0)
    with pytest.raises(ValueError, match="this net has none"):
        fit(tmp_path, net(data, "random"), data, WireSchedule())
    module = LogicClassifier(net(data), data.num_classes, cuda_graph=True)
    with pytest.raises(ValueError, match="take every_n_steps=1 or leave cuda_graph out"):
        toy.trainer(tmp_path, WireSchedule(), max_epochs=1).fit(module, datamodule=data)
    trainer: Any = SimpleNamespace(strategy=DDPStrategy())  # one that is not set up leaves no process group behind
    with pytest.raises(ValueError, match="WireSchedule leaves parameters without gradients"):
        WireSchedule().on_train_start(trainer, LogicClassifier(net(data), data.num_classes))
