"""The average of the weights is what is validated, tested and shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lgn_lightning.callbacks import AverageWeights
from lgn_lightning.data import Digits
from lgn_lightning.models import LogicMLP
from lgn_lightning.training.module import LogicModule


def train(
    tmp_path: Path, steps: int, ckpt: str | None = None
) -> tuple[pl.Trainer, LogicModule, AverageWeights, Digits]:
    pl.seed_everything(0)
    options: dict[str, Any] = {"connections": "learned", "parametrization": "sigmoid", "sampler": "straight_through"}
    net = LogicMLP((1, 8, 8), 10, 300, 2, tau=3, init="residual", **options)
    module = LogicModule(net, num_classes=10, optimizer=lambda parameters: torch.optim.Adam(parameters, 0.1))
    data = Digits(batch_size=200)
    saver = ModelCheckpoint(dirpath=tmp_path, filename=f"{steps}", every_n_train_steps=steps)
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(max_steps=steps, callbacks=[AverageWeights(decay=0.5), saver], accelerator="cpu", **quiet)
    trainer.fit(module, data, ckpt_path=ckpt, weights_only=True if ckpt else None)
    return trainer, module, data


def weights(module: Any) -> torch.Tensor:
    return module.net[1].weights.detach().clone()


def test_wires_stay_whole_and_a_test_measures_the_average(tmp_path: Path) -> None:
    trainer, module, data = train(tmp_path, 6)
    saved = torch.load(tmp_path / "6.ckpt", weights_only=True)
    last, mean = (saved[name]["net.1.weights"] for name in ("current_model_state", "state_dict"))
    assert not torch.equal(last, mean)
    wires = "net.1.learned.candidates"
    assert torch.equal(saved["state_dict"][wires], saved["current_model_state"][wires])
    assert torch.equal(weights(module), mean)
    trainer.test(module, data, ckpt_path=tmp_path / "6.ckpt", verbose=False, weights_only=True)
    assert torch.equal(weights(module), mean)


def test_a_resumed_training_ends_with_the_same_average(tmp_path: Path) -> None:
    whole = weights(train(tmp_path / "a", 8)[1])
    train(tmp_path / "b", 4)
    resumed = weights(train(tmp_path / "b", 8, str(tmp_path / "b" / "4.ckpt"))[1])
    torch.testing.assert_close(resumed, whole)


def test_a_decay_out_of_range_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"decay=1\.0"):
        AverageWeights(decay=1.0)
