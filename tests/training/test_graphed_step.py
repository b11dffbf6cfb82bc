"""The graph-replayed training step, with a stand-in that replays by calling the function again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from torch import Tensor, nn

import lgn_lightning.training.classifier
import lgn_lightning.training.graph_rules
from lgn_lightning import LogicClassifier
from lgn_lightning.models import LogicMLP, LogicTreeNet
from lgn_lightning.training.graph_rules import reason_against
from lgn_lightning.training.graphed_step import MAX_RECORDINGS, WARM_UP, GraphedStep, net_reason, optimizer_reason
from tests.training.test_classifier import loader, net, toy, trainer

RATE = 2.0**-6  # the same in float32 as in float64, so that a rate in memory changes no bit
Adam = partial(torch.optim.Adam, lr=RATE, fused=True)


class StandIn:
    """Records without running, as CUDA does, and keeps count."""

    def __init__(self, error: str | None = None) -> None:
        self.error = error
        self.warmed_up = self.recorded = self.replayed = 0

    def warm_up(self, step: Callable[[], Tensor]) -> Tensor:
        self.warmed_up += 1
        return step()

    def record(self, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        if self.error:
            raise RuntimeError(self.error)
        self.recorded += 1
        result = torch.full((), torch.nan)

        def replay() -> None:
            self.replayed += 1
            result.copy_(step())

        return replay, result


def batches(count: int, sizes: tuple[int, ...] = (50,)) -> list[tuple[Tensor, Tensor]]:
    return [toy(sizes[i % len(sizes)], seed=i) for i in range(count)]


def losses(step: Callable[[Tensor, Tensor], Tensor], data: list[tuple[Tensor, Tensor]]) -> list[float]:
    return [step(x, y).item() for x, y in data]


def make(optimizer: Callable[..., torch.optim.Optimizer] = Adam, error: str | None = None) -> Any:
    torch.manual_seed(3)
    model = net()
    stand_in = StandIn(error)
    step = GraphedStep(
        model, lambda x, y: nn.functional.cross_entropy(model(x), y), optimizer(model.parameters()), stand_in
    )
    return step, stand_in, model


def eager(data: list[tuple[Tensor, Tensor]]) -> tuple[list[float], nn.Module]:
    torch.manual_seed(3)
    model = net()
    optimizer = Adam(model.parameters())

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return losses(step, data), model


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_steps_are_those_of_an_eager_loop_and_most_are_replays() -> None:
    data = batches(12)
    step, stand_in, model = make()
    expected, plain = eager(data)
    assert losses(step, data) == expected
    assert same(model, plain)
    assert (stand_in.warmed_up, stand_in.recorded, stand_in.replayed) == (WARM_UP, 1, 12 - WARM_UP)


def test_an_uneven_batch_runs_eagerly_between_replays() -> None:
    data = batches(15, sizes=(50, 50, 20))
    step, stand_in, model = make()
    expected, plain = eager(data)
    assert losses(step, data) == expected
    assert same(model, plain)
    # Two in three are large: the fourth of them is recorded, as batch 5 of the list.
    assert (stand_in.recorded, stand_in.replayed) == (1, 7)
    assert stand_in.warmed_up == 4  # one of them small


def test_gradients_of_the_recording_are_back_after_an_eager_step() -> None:
    step, _, model = make()
    losses(step, batches(WARM_UP + 1))
    recorded = [p.grad for p in model.parameters()]
    step._gradients = [(p, g) for p, g in zip(model.parameters(), recorded, strict=True)]
    step(*toy(7))
    assert all(p.grad is not g for p, g in zip(model.parameters(), recorded, strict=True))
    seen = []
    replay = step._replay
    step._replay = lambda: (seen.extend(p.grad for p in model.parameters()), replay())
    step(*toy(50))
    assert all(one is other for one, other in zip(seen, recorded, strict=True))


def test_the_rate_may_change_at_every_step_and_stays_a_number() -> None:
    data = batches(10)
    step, stand_in, model = make()
    optimizer = step._optimizer
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for x, y in data:
        step(x, y)
        scheduler.step()
        assert isinstance(optimizer.param_groups[0]["lr"], float)
    torch.manual_seed(3)
    plain = net()
    usual = Adam(plain.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(usual, 1, gamma=0.5)
    for x, y in data:
        usual.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        usual.step()
        scheduler.step()
    assert same(model, plain)
    assert stand_in.recorded == 1


def change_wires(step: GraphedStep, model: Any) -> None:
    model[1].indices_a.copy_(model[1].indices_a.flip(0))


def change_decay(step: GraphedStep, model: Any) -> None:
    step._optimizer.param_groups[0]["weight_decay"] = 0.5


def freeze(step: GraphedStep, model: Any) -> None:
    model[1].weights.requires_grad_(False)


def change_temperature(step: GraphedStep, model: Any) -> None:
    model[1].sampler.temperature = 0.5


@pytest.mark.parametrize("change", [change_wires, change_decay, freeze, change_temperature])
def test_what_changes_beside_tensors_is_recorded_anew(change: Callable[[GraphedStep, Any], None]) -> None:
    step, stand_in, model = make()
    losses(step, batches(6))
    change(step, model)
    losses(step, batches(WARM_UP))
    assert not step.recorded
    losses(step, batches(2))
    assert step.recorded
    assert (stand_in.recorded, stand_in.warmed_up) == (2, 2 * WARM_UP)


def test_a_step_that_always_changes_becomes_eager() -> None:
    step, stand_in, model = make()
    for _ in range(MAX_RECORDINGS):
        losses(step, batches(WARM_UP + 1))
        change_wires(step, model)
    with pytest.warns(UserWarning, match="without a CUDA graph: the step changed 10 times"):
        losses(step, batches(WARM_UP + 1))
    assert step.failed
    assert stand_in.recorded == MAX_RECORDINGS


def test_a_failed_recording_warns_once_and_trains_on(recwarn: pytest.WarningsRecorder) -> None:
    data = batches(8)
    step, stand_in, model = make(error="operation not permitted\nwhen stream is capturing")
    expected, plain = eager(data)
    assert losses(step, data) == expected
    assert same(model, plain)
    assert stand_in.replayed == 0
    told = [str(w.message) for w in recwarn if "CUDA graph" in str(w.message)]
    assert told == ["cuda_graph: the training step runs without a CUDA graph: operation not permitted"]


def test_counters_of_a_checkpoint_move_to_the_parameters() -> None:
    model = net().to("meta")
    optimizer = torch.optim.Adam(model.parameters())
    parameter = next(model.parameters())
    optimizer.state[parameter]["step"] = torch.tensor(5.0)
    step = GraphedStep(model, lambda x, y: x, optimizer, StandIn())
    assert optimizer.param_groups[0]["capturable"]
    assert optimizer.state[parameter]["step"].device.type == "meta"
    state = optimizer.state_dict()
    step.clean(state)
    assert not state["param_groups"][0]["capturable"]
    assert optimizer.param_groups[0]["capturable"]
    step.close()
    assert not optimizer.param_groups[0]["capturable"]


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (partial(torch.optim.Adam, fused=True), None),
        (torch.optim.AdamW, None),
        (partial(torch.optim.SGD, lr=0.1, fused=True), None),
        (partial(torch.optim.SGD, lr=0.1), "SGD keeps its state or its learning rate on the host; use Adam"),
        (partial(torch.optim.Adam, lr=torch.tensor(0.1)), "the learning rate of Adam is a tensor"),
        (partial(torch.optim.Adam, differentiable=True), "Adam is differentiable"),
    ],
)
def test_optimizers(optimizer: Any, reason: str | None) -> None:
    given = optimizer_reason([optimizer(net().parameters())])
    assert given is None if reason is None else reason in str(given)


def test_two_optimizers() -> None:
    one = Adam(net().parameters())
    assert optimizer_reason([one, one]) == "there are 2 optimizers"


def test_nets() -> None:
    model = net()
    assert net_reason(model) is None
    model[1].register_forward_hook(lambda *_: None)
    assert net_reason(model) == "1 has hooks, which a replay would not call"
    model = net()
    model[1].to("meta")
    assert net_reason(model) == "the net lies on cpu, meta"
    learned = LogicMLP((1, 2, 3), 2, 12, 1, connections="learned")
    assert (net_reason(learned) or "").startswith("1 chooses other wires at every step, for which only straight-thr")
    learned = LogicMLP((1, 2, 3), 2, 12, 1, connections="learned", sampler="straight_through")
    assert net_reason(learned) is None
    trees = LogicTreeNet((1, 4, 4), 2, [4], [20], tree_connections="learned")
    assert net_reason(trees) is None


# Under Lightning.


def classifier(**arguments: Any) -> LogicClassifier:
    torch.manual_seed(3)
    return LogicClassifier(net(), 2, **{"optimizer": Adam, "cuda_graph": True, **arguments})


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Every fit trains by a stand-in of a graph, unless something but the device is against it."""
    made = StandIn()
    monkeypatch.setattr(lgn_lightning.training.graph_rules, "_device_reason", lambda device: None)
    monkeypatch.setattr(lgn_lightning.training.classifier, "GraphedStep", partial(GraphedStep, recorder=made))
    return made


def fit(tmp_path: Path, model: LogicClassifier, checkpoint: str | None = None, **settings: Any) -> pl.Trainer:
    run = trainer(tmp_path, **{"max_epochs": 3, "log_every_n_steps": 1, **settings})
    run.fit(model, loader(230), loader(130, seed=1), ckpt_path=checkpoint)  # four batches of 50 and one of 30
    return run


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []
        self.gradients: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(outputs["loss"].item())
        self.gradients.append(sum(p.grad.norm().item() for p in pl_module.parameters()))
        assert trainer.callback_metrics["train/loss"].item() == self.seen[-1]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fit_with_a_graph_is_the_fit_without(tmp_path: Path, stand_in: StandIn, precision: Any) -> None:
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    results = []
    for graph in (True, False):
        model, watch = classifier(cuda_graph=graph, lr_scheduler=schedule), Losses()
        run = fit(tmp_path, model, callbacks=[watch], precision=precision)
        results.append((model, watch, run))
    (graphed, seen, run), (plain, expected, other) = results
    assert seen.seen == expected.seen
    assert seen.gradients == expected.gradients
    assert same(graphed, plain)
    assert run.global_step == other.global_step == 15
    assert run.optimizers[0].param_groups[0]["lr"] == other.optimizers[0].param_groups[0]["lr"] == RATE / 2**15
    assert {k: v.item() for k, v in run.callback_metrics.items()} == {
        k: v.item() for k, v in other.callback_metrics.items()
    }
    assert stand_in.recorded == 1
    assert stand_in.replayed == 12 - WARM_UP


def test_checkpoints_resume_with_and_without_a_graph(tmp_path: Path, stand_in: StandIn) -> None:
    whole = classifier(cuda_graph=False)
    fit(tmp_path, whole)
    checkpoint = ModelCheckpoint(tmp_path / "kept", save_last=True)
    fit(tmp_path, classifier(), max_epochs=2, callbacks=[checkpoint], enable_checkpointing=True)
    path = str(tmp_path / "kept" / "last.ckpt")
    (state,) = torch.load(path, weights_only=True)["optimizer_states"]
    assert state["param_groups"][0]["capturable"] is False
    assert state["param_groups"][0]["lr"] == RATE
    for graph in (True, False):
        resumed = classifier(cuda_graph=graph)
        assert fit(tmp_path, resumed, checkpoint=path).global_step == 15
        assert same(resumed, whole)


class _Watcher(pl.Callback):
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("settings", "module", "reason"),
    [
        ({"accumulate_grad_batches": 2}, {}, "gradients are accumulated over 2 batches"),
        ({"callbacks": [GradientAccumulationScheduler({1: 2})]}, {}, "GradientAccumulationScheduler accumulates"),
        ({"gradient_clip_val": 0.5}, {}, r"gradients are clipped \(gradient_clip_val=0.5\)"),
        ({"detect_anomaly": True}, {}, "detect_anomaly looks at every value"),
        ({"callbacks": [_Watcher()]}, {}, "the callback _Watcher has on_before_optimizer_step"),
        ({}, {"optimizer": partial(torch.optim.SGD, lr=0.1)}, "SGD keeps its state"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_reasons_against(tmp_path: Path, stand_in: StandIn, settings: Any, module: Any, reason: str) -> None:
    with pytest.warns(UserWarning, match=f"runs without a CUDA graph: {reason}") as told:
        run = fit(tmp_path, classifier(**module), max_epochs=1, **settings)
    assert run.global_step in (3, 5)
    assert sum("CUDA graph" in str(warning.message) for warning in told) == 1
    assert stand_in.warmed_up == 0


def test_reason_against_a_loss_scaler(tmp_path: Path, stand_in: StandIn) -> None:
    run = trainer(tmp_path)
    run.precision_plugin.scaler = object()  # type: ignore[attr-defined]
    assert "precision 16-mixed" in str(reason_against(run, classifier()))


def test_reason_against_several_devices(tmp_path: Path, stand_in: StandIn) -> None:
    run = trainer(tmp_path, strategy="ddp_spawn", devices=2)
    assert reason_against(run, classifier()) == "DDPStrategy trains on several devices"


def test_the_cpu_has_no_graphs(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the net is on cpu; a CUDA GPU is needed"):
        assert fit(tmp_path, classifier()).global_step == 15


class _Own(LogicClassifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)


def test_a_training_step_of_a_subclass_still_trains(tmp_path: Path, stand_in: StandIn) -> None:
    torch.manual_seed(3)
    own = _Own(net(), 2, optimizer=Adam, cuda_graph=True)
    fit(tmp_path, own)
    plain = classifier(cuda_graph=False)
    fit(tmp_path, plain)
    assert same(own, plain)
