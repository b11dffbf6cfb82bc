import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.cli.main import main
from lgn_lightning.losses import DistillationLoss, GrowthLoss
from lgn_lightning.models import LogicMLP
from lgn_lightning.training.classifier import LogicClassifier

SCORES = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], requires_grad=True)
LABELS = torch.tensor([1, 0])


class Teacher(nn.Module):
    """Logits from the mean of a channel: depends on the images and has a mode and a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return x.float().mean((2, 3)) * self.scale


IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("weight", "temperature"), [(1.0, 1.0), (0.7, 3.0)])
def test_is_the_formula(weight: float, temperature: float) -> None:
    loss = DistillationLoss(Teacher(), weight, temperature)
    p = torch.softmax(IMAGES.mean((2, 3)) * 2 / temperature, 1)
    soft = -(p * torch.log_softmax(SCORES / temperature, 1)).sum(1).mean()
    expected = (1 - weight) * functional.cross_entropy(SCORES, LABELS) + weight * temperature**2 * soft
    torch.testing.assert_close(loss(SCORES, LABELS, IMAGES), expected)


def test_validation_is_plain_cross_entropy() -> None:
    loss = DistillationLoss(Teacher()).eval()
    assert torch.equal(loss(SCORES, LABELS), functional.cross_entropy(SCORES, LABELS))


def test_the_teacher_is_frozen_and_nobody_elses() -> None:
    teacher = Teacher()
    loss = DistillationLoss(teacher)
    module = LogicClassifier(LogicMLP((3, 4, 4), 3, 30, 2), num_classes=3, loss=loss)
    net_parameters = len(list(module.net.parameters()))
    assert len(list(module.parameters())) == net_parameters
    assert not any("scale" in name for name in module.state_dict())
    loss(SCORES, LABELS, IMAGES).backward()
    assert teacher.scale.grad is None
    copied = copy.deepcopy(loss)
    assert torch.equal(copied(SCORES, LABELS, IMAGES), loss(SCORES, LABELS, IMAGES))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"weight=0\.0"):
        DistillationLoss(Teacher(), weight=0.0)
    with pytest.raises(ValueError, match="temperature=0"):
        DistillationLoss(Teacher(), temperature=0)
    with pytest.raises(ValueError, match="needs the images"):
        DistillationLoss(Teacher())(SCORES, LABELS)
    with pytest.raises(ValueError, match=r"the teacher gives \[3\] logits an image and the net 2 scores"):
        DistillationLoss(Teacher())(SCORES[:, :2], LABELS, IMAGES)
    with pytest.raises(CheckpointError, match=r"the teacher cannot be used: .*gone\.ckpt"):
        DistillationLoss("gone.ckpt")(SCORES, LABELS, IMAGES)


RECIPE = """
model:
  num_classes: 10
  net: {net}
  loss: {loss}
data: {{class_path: lgn_lightning.data.Digits, init_args: {{batch_size: 100}}}}
trainer: {{max_steps: 2, max_epochs: -1, val_check_interval: 1, enable_progress_bar: false, logger: false}}
"""
STUDENT = "{class_path: lgn_lightning.models.LogicMLP, init_args: {in_shape: [1, 8, 8], num_classes: 10, width: 100, depth: 2}}"  # noqa: E501
CNN = "{class_path: lgn_lightning.models.TorchvisionNet, init_args: {name: squeezenet1_1, in_shape: [1, 8, 8], num_classes: 10, resize: 32}}"  # noqa: E501


def test_a_torchvision_teacher_is_trained_and_distilled_by_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("teacher.yaml").write_text(RECIPE.format(net=CNN, loss="null"))
    assert main(["fit", "teacher.yaml"]) == 0
    (teacher,) = Path("runs/teacher").glob("version_0/checkpoints/*.ckpt")
    teacher = teacher.rename(tmp_path / "teacher.ckpt")
    loss = f"{{class_path: lgn_lightning.losses.DistillationLoss, init_args: {{teacher: {teacher}, weight: 0.9}}}}"
    Path("student.yaml").write_text(RECIPE.format(net=STUDENT, loss=loss))
    assert main(["fit", "student.yaml"]) == 0
    (student,) = Path("runs/student").glob("version_0/checkpoints/*.ckpt")
    teacher.unlink()  # the student does not need it any more
    assert main(["export", str(student), "--out", "circuit"]) == 0


def test_growth_asks_for_what_the_seed_has_reached() -> None:
    grid = torch.zeros(1, 2, 5, 5, dtype=torch.uint8)
    grid[0, 1, 2, 2] = 255
    labels = torch.ones(1, 25)
    goal = torch.zeros(5, 5)
    goal[1:4, 1:4] = 1
    scores = torch.stack([goal.flatten(), labels[0]])[None] * 40 - 20
    assert GrowthLoss()(scores, labels, grid) < 1e-6
    assert GrowthLoss()(scores.flip(1), labels, grid) == 20 * 16 * 2 / 50
    assert GrowthLoss().eval()(scores[:, 1], labels) < 1e-6
    for wrong in ((scores[:, 0], labels, grid), (scores, labels)):
        with pytest.raises(ValueError, match="every"):
            GrowthLoss()(*wrong)
