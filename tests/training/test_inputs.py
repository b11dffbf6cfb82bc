"""Nets of several inputs, and nets that give no tensor, in a training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import cast

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

    def bits(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.left(left), self.right(right)
        return a + b - 2 * a * b

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.sum(self.bits(left, right))


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


class TwoHeads(Differ):
    """Scores of the classes, and of something else."""

    def __init__(self) -> None:
        super().__init__()
        self.other = GroupSum(4, tau=3)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        bits = self.bits(left, right)
        return self.sum(bits), self.other(bits)


class OfTwoHeads(LogicClassifier):
    """What `scores_of` tells one to write."""

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return cast(Tensor, self.net(*x)[0])

    def training_loss(self, x: tuple[Tensor, Tensor], y: Tensor) -> Tensor:  # type: ignore[override]
        classes, other = self.net(*x)
        return self.loss_of(classes, y) + nn.functional.cross_entropy(other, 2 * y)


def test_a_net_of_two_heads_trains_and_is_exported(tmp_path: Path) -> None:
    module, loader = OfTwoHeads(TwoHeads(), 2), DataLoader(Pairs(), 32)
    trainer(tmp_path).fit(module, loader, loader)
    exported = ExportCircuit.exported_for(tmp_path / "checkpoints" / "best.ckpt")
    assert exported is not None
    (left, right), _ = next(iter(loader))
    circuit = Circuit.from_module(module.net.eval())
    assert circuit.num_classes == 6
    expected = (torch.cat(module.net(left, right), 1) * circuit.tau).round().int().numpy()
    assert np.array_equal(circuit.scores(torch.cat([left, right], 1).bool()), expected)
    assert np.array_equal(exported.compiled().scores(torch.cat([left, right], 1).bool()), expected)


def test_another_number_of_scores_than_the_target_s_is_named(tmp_path: Path) -> None:
    class Many(TwoHeads):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:  # type: ignore[override]
            return torch.cat(super().forward(left, right), 1)

    with pytest.raises(TrainingError, match=r"Many gives 6 scores of a sample, and the target has 2: .*training_loss"):
        trainer(tmp_path, num_sanity_val_steps=0).fit(LogicClassifier(Many(), 2), DataLoader(Pairs(), 32))


def test_layers_that_no_gradient_reaches_are_named(tmp_path: Path) -> None:
    class Bools(Differ):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.sum(torch.cat([self.left(left), (self.right(right) > 0.5).float()], 1))

    with pytest.warns(UserWarning, match="no gradient reaches right, so"):
        trainer(tmp_path, limit_train_batches=2).fit(LogicClassifier(Bools(), 2), DataLoader(Pairs(), 32))
