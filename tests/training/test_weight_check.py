"""Weights that are NaN stop a training, and are neither saved nor exported."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, WeightAveraging
from torch import Tensor, nn

from lgn_lightning import LogicClassifier
from lgn_lightning.base.errors import TrainingError
from lgn_lightning.training.weight_check import check_weights
from tests.training.toy import loader, net, trainer


class _OneBadStep(nn.CrossEntropyLoss):
    """NaN in the third step of training, as one bad batch would make it."""

    calls = 0

    def forward(self, scores: Tensor, y: Tensor) -> Tensor:
        self.calls += torch.is_grad_enabled()
        return super().forward(scores, y) * (torch.nan if torch.is_grad_enabled() and self.calls == 3 else 1)


@pytest.mark.parametrize(
    ("options", "validates", "step"),
    [
        ({"log_every_n_steps": 4}, False, 3),  # within the logged step, before it counts
        ({"log_every_n_steps": 5}, False, 4),
        ({"log_every_n_steps": 50, "val_check_interval": 4}, True, 4),
    ],
)
def test_training_stops_where_it_next_looks(
    options: dict[str, int], validates: bool, step: int, tmp_path: Path
) -> None:
    module = LogicClassifier(net(), 2, loss=_OneBadStep())
    # Planned to be long: a run that is shorter than the interval logs more often.
    with pytest.raises(TrainingError, match=rf"at step {step} there is nan in weights of layer 1 ") as error:
        trainer(tmp_path, max_epochs=300, **options).fit(module, loader(), loader() if validates else None)
    assert "learning rate" in str(error.value)


def test_checkpoints_of_such_weights_are_not_written(tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1)
    run = trainer(tmp_path, max_epochs=300, log_every_n_steps=50, enable_checkpointing=True, callbacks=[kept])
    module = LogicClassifier(net(), 2, loss=_OneBadStep())
    with pytest.raises(TrainingError, match="at step 4 "):
        run.fit(module, loader())
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["epoch=0-step=2.ckpt"]
    with pytest.raises(TrainingError):
        run.save_checkpoint(tmp_path / "mine.ckpt")
    with pytest.raises(TrainingError):
        run.test(module, loader(), verbose=False)


def test_half_precision_without_an_eps_is_caught(tmp_path: Path) -> None:
    module = LogicClassifier(net(), 2, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    run = trainer(tmp_path, max_epochs=5, precision="16-true", log_every_n_steps=1)
    with pytest.raises(TrainingError, match="eps"):
        run.fit(module, loader())


@pytest.mark.parametrize(("value", "refused"), [(torch.nan, True), (torch.inf, True), (-torch.inf, False)])
def test_minus_infinity_alone_is_a_weight(value: float, refused: bool) -> None:
    made = net()
    with torch.no_grad():
        made[1].weights[3, 5] = value
    if not refused:
        check_weights(made, 1)
        return
    with pytest.raises(TrainingError, match=f"{value} in weights of layer 1"):
        check_weights(made, 1)


def test_a_net_without_weights_passes() -> None:
    check_weights(nn.Flatten(), 1)


@pytest.mark.parametrize("kind", [WeightAveraging, EMAWeightAveraging])
def test_averages_of_wires_are_refused(kind: type[WeightAveraging], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} averages buffers, and wires are some: give it use_buffers"):
        trainer(tmp_path, callbacks=[kind()]).fit(LogicClassifier(net(), 2), loader())
    trainer(tmp_path, callbacks=[kind(use_buffers=False)]).fit(LogicClassifier(net(), 2), loader())
