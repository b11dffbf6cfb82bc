"""Nets whose wires the callbacks on wires move, and images for them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import callback_toy as toy
import torch
from lightning.pytorch import Callback

from lgn_lightning.models import LogicMLP
from lgn_lightning.nn.samplers import StraightThrough
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
