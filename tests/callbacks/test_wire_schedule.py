"""Learned connections that choose at some steps only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import callback_toy as toy
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy
from wire_toy import SHAPE, fit, net

from lgn_lightning.callbacks import WireSchedule
from lgn_lightning.nn import logic_layers
from lgn_lightning.nn.samplers import Soft, StraightThrough
from lgn_lightning.training.classifier import LogicClassifier
from tests.synthetic import SyntheticImages


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


def test_a_resumed_run_counts_from_the_last_row(tmp_path: Path) -> None:
    """The row of a run that goes on between two rows is that of one that does not stop."""

    class Rows(Callback):
        def __init__(self) -> None:
            self.moved: list[float] = []

        def on_train_batch_end(self, trainer: Any, *_: object) -> None:
            if trainer.global_step % 6 == 0:
                self.moved.append(float(trainer.logged_metrics["wires/moved"]))
            if trainer.global_step == 9:
                trainer.save_checkpoint(tmp_path / "x.ckpt")

    def moved(folder: str, **options: Any) -> list[float]:
        rows, model = Rows(), net(data)
        for layer in logic_layers(model).values():
            layer.sampler = StraightThrough()
        callbacks = rows, WireSchedule(every_n_steps=2)
        fit(tmp_path / folder, model, data, *callbacks, log_every_n_steps=6, max_steps=12, **options)
        return rows.moved

    data = SyntheticImages(SHAPE)
    whole = moved("whole")
    assert len(whole) == 2
    assert whole[1] > 0
    assert moved("second", ckpt_path=tmp_path / "x.ckpt") == whole[1:]


def test_layers_that_are_frozen_stay_so(tmp_path: Path) -> None:
    data = SyntheticImages(SHAPE)
    model = net(data)
    recorder = Recorder(model)
    first = next(iter(logic_layers(model).values()))

    class Freeze(Callback):
        def on_train_batch_start(self, trainer: Any, *_: object) -> None:
            if trainer.global_step == 4:
                first.requires_grad_(False)

    fit(tmp_path, model, data, Freeze(), WireSchedule(every_n_steps=2), recorder)
    count = first.learned.logits.numel()  # type: ignore[union-attr,operator]
    assert recorder.changes([logits[:count] for logits in recorder.logits]) == [0, 2]
    assert recorder.changes([logits[count:] for logits in recorder.logits]) == [0, 2, 4, 6, 8]


def test_wires_that_were_frozen_before_stay_so(tmp_path: Path) -> None:
    data = SyntheticImages(SHAPE)
    model = net(data)
    first, second = logic_layers(model).values()
    first.learned.logits.requires_grad_(False)  # type: ignore[union-attr]
    second.requires_grad_(False)
    before = [layer.learned.logits.clone() for layer in (first, second)]  # type: ignore[union-attr]

    class Thaw(Callback):
        def on_train_batch_start(self, trainer: Any, *_: object) -> None:
            if trainer.global_step == 6:
                second.requires_grad_(True)

    for thaw in ([], [Thaw()]):
        fit(tmp_path / str(len(thaw)), model, data, *thaw, WireSchedule(every_n_steps=2))
        assert torch.equal(first.learned.logits, before[0])  # type: ignore[union-attr]
        assert first.weights.requires_grad
        assert not first.learned.logits.requires_grad  # type: ignore[union-attr]
        assert torch.equal(second.learned.logits, before[1]) == (not thaw)  # type: ignore[union-attr]
        assert {part.requires_grad for part in second.parameters()} == {bool(thaw)}


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
