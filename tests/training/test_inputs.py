"""Nets of several inputs, and nets that give no tensor, in a training."""

from __future__ import annotations

import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lgn_lightning import GroupSum, LogicClassifier, LogicLayer
from lgn_lightning.base.errors import TrainingError
from lgn_lightning.callbacks import DiscretizationGap, ExportCircuit, ScoreSaturation
from lgn_lightning.circuit import Circuit
from lgn_lightning.deploy.trial import hard_counts
from tests.circuit.build.own_nets import TwoImages


class Pairs(Dataset[tuple[tuple[Tensor, Tensor], Tensor]]):
    """Two words of bits, and whether their first bits differ."""

    def __init__(self) -> None:
        self.left, self.right = (torch.rand(256, size).round() for size in (12, 8))

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        left, right = self.left[index], self.right[index]
        return (left, right), (left[0] != right[0]).long()


class Differ(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = LogicLayer(12, 40), LogicLayer(8, 40)
        self.sum = GroupSum(2, 3.0)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.left(left), self.right(right)
        return self.sum(a + b - 2 * a * b)


def trainer(folder: Path, **options: object) -> pl.Trainer:
    checkpoints = ModelCheckpoint(folder / "checkpoints", monitor="val/acc_hard", mode="max", filename="best")
    callbacks = [checkpoints, ExportCircuit(), DiscretizationGap(), ScoreSaturation()]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=callbacks, **quiet, **options)  # type: ignore[arg-type]


def test_a_net_of_two_inputs_trains_and_ships(tmp_path: Path) -> None:
    pl.seed_everything(1)
    loader = DataLoader(Pairs(), 32)
    module = LogicClassifier(Differ(), 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*no gradient|.*cannot become a circuit")
        fitted = trainer(tmp_path)
        fitted.fit(module, loader, loader)
    exported = ExportCircuit.exported_for(tmp_path / "checkpoints" / "best.ckpt")
    assert exported is not None
    assert exported.library is not None
    (left, right), _ = next(iter(loader))
    circuit = Circuit.from_module(module.net)
    module.eval()
    expected = (module((left, right)) * 3).round().int().numpy()
    assert np.array_equal(circuit.scores(torch.cat([left, right], 1).bool()), expected)
    assert fitted.predict(module, loader)[0].shape == (32,)
    assert torch.equal(module(torch.cat([left, right], 1)), module((left, right)))


def test_two_images_are_told_apart_again() -> None:
    torch.manual_seed(0)
    net = TwoImages().eval()
    circuit = Circuit.from_module(net)
    pixels = torch.randint(0, 256, (40, 2, 8, 8), dtype=torch.uint8)
    assert np.array_equal(hard_counts(circuit, net, pixels.numpy()), circuit.scores(pixels))


def test_what_gives_no_tensor_is_named(tmp_path: Path) -> None:
    class Named(Differ):
        def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            return {"scores": super().forward(left, right)}

    with pytest.raises(TrainingError, match=r"Named gives a dict with the keys scores.*return it alone"):
        trainer(tmp_path, num_sanity_val_steps=0).fit(LogicClassifier(Named(), 2), DataLoader(Pairs(), 32))


def test_layers_that_no_gradient_reaches_are_named(tmp_path: Path) -> None:
    class Bools(Differ):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.sum(torch.cat([self.left(left), (self.right(right) > 0.5).float()], 1))

    with pytest.warns(UserWarning, match="no gradient reaches right, so"):
        trainer(tmp_path, limit_train_batches=2).fit(LogicClassifier(Bools(), 2), DataLoader(Pairs(), 32))
