"""Labels that a classifier would fail on, or get wrong in silence."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning import LogicClassifier
from lgn_lightning.base.errors import DataError
from lgn_lightning.training.label_check import check_labels
from tests.training.toy import loader, net, toy, trainer

GOOD = torch.tensor([0, 2, 1])
ROWS = nn.functional.one_hot(GOOD, 3)


@pytest.mark.parametrize(
    ("labels", "facts"),
    [
        (GOOD.int(), ("int32", "int64 [batch]", ".long()")),
        (GOOD[:, None], ("int64 [3, 1]", "flatten")),
        (ROWS, ("int64 [3, 3]", "argmax(1)")),
        (GOOD.float(), ("float32 [3]", "floats [batch, 3]")),
        (ROWS[:, :2].float(), ("float32 [3, 2]",)),
        (torch.tensor([[1.0, 1.0, 0.0]]), ("[1.0, 1.0, 0.0]", "several labels")),
        (torch.tensor([[2.0, -1.0, 0.0]]), ("-1.0", "several labels")),
        (torch.full((1, 3), torch.nan), ("nan",)),
        (GOOD + 1, ("a label is 3", "0 to 2")),
        (GOOD - 1, ("a label is -1", "0 to 2")),
    ],
)
def test_bad_labels_are_one_message(labels: Tensor, facts: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as error:
        check_labels(labels, 3)
    assert all(fact in str(error.value) for fact in facts), error.value


def test_good_ones_pass() -> None:
    for labels in (GOOD, ROWS.float(), torch.softmax(torch.randn(50, 3), 1).bfloat16()):
        check_labels(labels, 3)
    check_labels(torch.tensor([0, -100, 2]), 3, ignored=-100)


def test_distributions_train_and_their_likeliest_class_counts(tmp_path: Path) -> None:
    x, y = toy()
    soft = DataLoader(TensorDataset(x, nn.functional.one_hot(y, 2) * 0.9 + 0.05), 50)
    logged = []
    for data in (loader(), soft):
        torch.manual_seed(0)
        run = trainer(tmp_path, max_epochs=5)
        run.fit(LogicClassifier(net(), 2, optimizer=lambda p: torch.optim.Adam(p, lr=0.1)), data, data)
        logged.append(run.callback_metrics["val/acc_hard"].item())
    assert logged[1] > 0.75
    assert logged[1] == pytest.approx(logged[0], abs=0.1)


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_the_first_batch_of_a_stage_is_checked(stage: str, tmp_path: Path) -> None:
    x, y = toy()
    module = LogicClassifier(net(), 2)
    with pytest.raises(DataError, match="a label is 2"):
        getattr(trainer(tmp_path), stage)(module, DataLoader(TensorDataset(x, y + 1), 50))
    assert all(p.grad is None for p in module.parameters())  # before the first step
