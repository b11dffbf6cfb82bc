"""The loss of a validation is that of all labels at once, whatever the batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

from lgn_lightning import LogicModule
from lgn_lightning.losses import FocalLoss
from lgn_lightning.models import LogicRNN
from lgn_lightning.training.loss_weight import add_loss, loss_weight
from tests.training import toy

WEIGHT = torch.tensor([1.0, 5.0, 0.25])
LOSSES = {
    "plain": nn.CrossEntropyLoss(),
    "weighted": nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1),
    "nll": nn.NLLLoss(WEIGHT),
    "focal": FocalLoss(2.0),
    "weighted focal": FocalLoss(2.0, WEIGHT),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("steps", [(), (6,)])
def test_a_mean_over_batches_is_that_of_all_at_once(loss: nn.Module, steps: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    scores, y = torch.randn(20, 3, *steps).log_softmax(1), torch.randint(3, (20, *steps))
    if steps:
        y[torch.arange(6) >= torch.randint(1, 7, (20, 1))] = -100
    y[14:] = -100  # the last batch has no label that counts
    wanted = loss(scores, y)
    assert wanted.isfinite()
    for batch in (1, 3, 7, 20):
        mean = MeanMetric(nan_strategy="error")
        for part, labels in zip(scores.split(batch), y.split(batch), strict=True):
            add_loss(mean, loss(part, labels), loss, labels)
        torch.testing.assert_close(mean.compute(), wanted)


def test_other_losses_count_by_samples() -> None:
    distributions = torch.rand(5, 3)
    assert loss_weight(nn.CrossEntropyLoss(WEIGHT), distributions) == 5
    assert loss_weight(nn.BCEWithLogitsLoss(), distributions) == 5
    assert loss_weight(nn.CrossEntropyLoss(WEIGHT, reduction="sum"), torch.zeros(4).long()) == 4
    y = (distributions > 0.5).float()
    loss = FocalLoss(1.0, WEIGHT)
    scores = torch.randn(5, 3)
    weights = [loss_weight(loss, part) for part in (y[:2], y[2:])]
    parts = loss(scores[:2], y[:2]) * weights[0] + loss(scores[2:], y[2:]) * weights[1]
    torch.testing.assert_close(parts / sum(weights), loss(scores, y))


def test_focal_loss_leaves_out_steps_that_do_not_count() -> None:
    scores, y = torch.randn(4, 3, 5), torch.randint(3, (4, 5))
    padded = functional.pad(y, (0, 3), value=-100)
    for loss in (FocalLoss(2.0), FocalLoss(2.0, WEIGHT)):
        torch.testing.assert_close(loss(functional.pad(scores, (0, 3)), padded), loss(scores, y))


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_validation_does_not_depend_on_the_size_of_its_batches(weight: torch.Tensor | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randint(2, (40, 6, 3)).to(torch.uint8), torch.randint(3, (40, 6))
    ended = torch.arange(6) >= torch.randint(1, 7, (40, 1))
    x[ended], y[ended] = 255, -100
    rnn = LogicRNN(3, in_bits=3, state=6, width=20, out=12, readout="every")
    for parameter in rnn.parameters():
        nn.init.normal_(parameter)
    made = LogicModule(rnn, 3, target="steps", loss=nn.CrossEntropyLoss(weight))
    run = toy.trainer(tmp_path)
    wanted = functional.cross_entropy(rnn.eval()(x), y, weight).item()
    for batch in (40, 7, 1):
        found = run.validate(made, DataLoader(TensorDataset(x, y), batch), verbose=False)[0]
        assert found["val/loss_hard"] == pytest.approx(wanted, rel=1e-5)
