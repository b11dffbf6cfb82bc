"""The graph-replayed training step, with a stand-in that replays by calling the function again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning.training.graphed_step import MAX_RECORDINGS, WARM_UP, GraphedStep
from tests.training.graph_toy import Adam, StandIn, same
from tests.training.toy import net, toy


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
