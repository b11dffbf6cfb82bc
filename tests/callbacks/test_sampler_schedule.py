import math

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning.callbacks import SamplerSchedule
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn.samplers import Sampler, StraightThrough
from lgn_lightning.training.classifier import LogicClassifier


@pytest.mark.parametrize(
    ("schedule", "half"),
    [("linear", 0.75), ("cosine", 0.75), ("exponential", math.sqrt(0.5))],
)
def test_values(schedule: str, half: float) -> None:
    callback = SamplerSchedule(1.0, 0.5, schedule=schedule, until=0.8)
    assert callback.value(0.0) == 1.0
    assert callback.value(0.4) == pytest.approx(half)
    assert callback.value(0.8) == callback.value(1.0) == pytest.approx(0.5)
    quarter = {"linear": 0.875, "cosine": 1 - 0.25 * (1 - math.cos(math.pi / 4)), "exponential": 0.5**0.25}
    assert callback.value(0.2) == pytest.approx(quarter[schedule])


def test_a_step_holds_until_it_ends() -> None:
    callback = SamplerSchedule(1.0, 0.5, schedule="step", until=0.8)
    assert [callback.value(progress) for progress in (0.0, 0.4, 0.79, 0.8, 1.0)] == [1.0, 1.0, 1.0, 0.5, 0.5]


class Watch(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        self.seen.append(pl_module.net[1].sampler.noise)  # type: ignore[union-attr, index]


def fit(schedule: SamplerSchedule, sampler: str | Sampler, steps: int = 11) -> tuple[list[float], pl.Trainer]:
    net = LogicMLP((1, 4, 4), 2, width=20, depth=2, parametrization="sigmoid", sampler=sampler)
    data = TensorDataset(torch.randint(256, (40, 1, 4, 4), dtype=torch.uint8), torch.randint(2, (40,)))
    watch = Watch()
    trainer = pl.Trainer(
        max_epochs=-1,
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        callbacks=[schedule, watch],
    )
    trainer.fit(LogicClassifier(net, num_classes=2), DataLoader(data, batch_size=8))
    return watch.seen, trainer


def test_moves_the_shared_sampler_and_logs() -> None:
    sampler = StraightThrough(noise=1.0)
    seen, trainer = fit(SamplerSchedule(1.0, 0.0, parameter="noise", until=0.5), sampler)
    assert seen == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert sampler.noise == 0.0
    assert trainer.logged_metrics["sampler/noise"] == 0.0


def test_refuses_what_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"no sampler of the net has a noise .*Soft"):
        fit(SamplerSchedule(1.0, 0.0, parameter="noise"), "soft")
    with pytest.raises(ValueError, match="set max_steps or max_epochs"):
        fit(SamplerSchedule(1.0, 0.5), "soft", steps=-1)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="'steps' is not one of 'linear', 'cosine', 'exponential', 'step'"):
        SamplerSchedule(1.0, 0.5, schedule="steps")
    with pytest.raises(ValueError, match="in \\(0, 1\\]"):
        SamplerSchedule(1.0, 0.5, until=0.0)
    with pytest.raises(ValueError, match="both must be positive"):
        SamplerSchedule(1.0, 0.0, schedule="exponential")
