"""Losses beyond those of torch, by the names that recipes give them."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.base.padding import IGNORED
from lgn_lightning.training.checkpoint import load_net
from lgn_lightning.training.image_loss import ImageLoss

__all__ = ["DistillationLoss", "FocalLoss", "GrowthLoss", "ImageLoss"]


class FocalLoss(nn.Module):
    """Cross-entropy that turns away from what is easy: −(1 − p)^γ · log p, averaged (Lin et al., ICCV 2017).

    *p* is the probability of the right class. For scores ``[batch, classes]`` and int64 labels it is the softmax, with
    float labels of the scores' shape the sigmoid of each score, as targets of yes or no and of several labels have it.
    Labels of -100 do not count.

    Args:
        gamma: γ; 0 gives the cross-entropy.
        weight: Weight of each class; of sigmoids, of the labels that are 1.

    Raises:
        ValueError: If ``gamma`` is negative.
    """

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"FocalLoss(gamma={gamma}): must not be negative")
        self.gamma = gamma
        self.weight: Tensor | None
        self.register_buffer("weight", weight)

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Gives the loss of a batch; see the class."""
        if labels.is_floating_point():
            costs = functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")
        else:
            costs = functional.cross_entropy(scores, labels, reduction="none", ignore_index=IGNORED)
        weights = self._weights(labels)
        hard = (-torch.expm1(-costs)).clamp_min(1e-7) ** self.gamma  # at 0 the gradient of a power below 1 is infinite
        return (weights * hard * costs).sum() / weights.sum()

    def mean_over(self, labels: Tensor) -> Tensor:
        """The sum of the labels' weights, which the loss of a batch is divided by."""
        return self._weights(labels).sum()

    def _weights(self, labels: Tensor) -> Tensor:
        if labels.is_floating_point():
            return torch.ones_like(labels) if self.weight is None else 1 + (self.weight - 1) * labels
        counts = labels != IGNORED
        return counts.float() if self.weight is None else self.weight[labels.where(counts, 0)] * counts

    def extra_repr(self) -> str:
        """γ."""
        return f"gamma={self.gamma}"


class GrowthLoss(ImageLoss):
    """Cross-entropy of a pattern that a cellular automaton grows, at every step of the training.

    After each step, a cell that the first grid's live cells have reached by then (a step reaches the eight neighbours)
    shall be as the pattern says, and any other one off. That leads the net from step to step: from the last one alone
    the gradient passes all steps before it. In ``.eval()`` mode it is the plain cross-entropy after the last step.

    Takes scores ``[batch, steps, cells]``, as :class:`~lgn_lightning.models.LogicCA` gives with ``every``, labels
    ``[batch, cells]`` of 0 and 1, and the first grids ``[batch, channels, rows, columns]``.
    """

    def forward(self, scores: Tensor, labels: Tensor, images: Tensor | None = None) -> Tensor:
        """Gives the loss of a batch; see the class."""
        if not self.training:
            return functional.binary_cross_entropy_with_logits(scores, labels)
        if images is None or scores.ndim != 3:
            raise ValueError(
                f"GrowthLoss got scores {list(scores.shape)}: it takes the first grids and the scores of every step, "
                "[batch, steps, cells]; set every of LogicCA"
            )
        reached = (images > 0).any(1, keepdim=True).float()
        goals = []
        for _ in range(scores.shape[1]):
            reached = functional.max_pool2d(reached, 3, 1, 1)
            goals.append(labels * reached.flatten(1))
        return functional.binary_cross_entropy_with_logits(scores, torch.stack(goals, 1))


class DistillationLoss(ImageLoss):
    """Cross-entropy with the soft labels of a teacher (Hinton et al., 2015).

    Petersen et al. (NeurIPS 2024) train their large nets with it.

    The loss is (1 − w) · CE(scores, labels) + w · T² · CE(softmax(scores / T), softmax(teacher(images) / T)). In
    ``.eval()`` mode it is the plain cross-entropy of the labels, so that validation losses can be compared with those
    of other runs.

    The teacher is frozen, in ``.eval()`` mode, and no part of this module: neither the optimizer nor checkpoints get
    its parameters. It sees the same images as the student, augmented if those are.

    Args:
        teacher: A checkpoint or the folder of a run, as :func:`~lgn_lightning.load_net` takes it, which is read when
            training starts; or a net that maps images to logits, such as
            :class:`~lgn_lightning.models.TorchvisionNet`.
        weight: Share w of the soft labels, in (0, 1].
        temperature: T; above 1 the teacher's labels are softer.

    Raises:
        ValueError: If ``weight`` or ``temperature`` is out of range; when called, if the teacher has other classes.
        CheckpointError: When called, if the teacher's checkpoint cannot be used.
    """

    def __init__(self, teacher: str | nn.Module, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 < weight <= 1:
            raise ValueError(f"DistillationLoss(weight={weight}): the share of the soft labels must be in (0, 1]")
        if not temperature > 0:
            raise ValueError(f"DistillationLoss(temperature={temperature}): must be positive")
        self.weight = weight
        self.temperature = temperature
        # In tuples, so that the teacher's parameters are not this module's.
        self._source = (teacher,)
        self._teacher: tuple[nn.Module] | None = None

    def _labels(self, images: Tensor, classes: int) -> Tensor:
        if self._teacher is None:
            self._teacher = (_load(*self._source),)
        teacher = self._teacher[0].to(images.device)
        with torch.no_grad():
            logits: Tensor = teacher(images).float()
        if logits.ndim != 2 or logits.shape[1] != classes:
            raise ValueError(
                f"the teacher gives {list(logits.shape[1:])} logits an image and the net {classes} scores: both need "
                "the same classes"
            )
        return torch.softmax(logits / self.temperature, dim=1)

    def forward(self, scores: Tensor, labels: Tensor, images: Tensor | None = None) -> Tensor:
        """Gives the loss of a batch; see the class."""
        if not self.training:
            return functional.cross_entropy(scores, labels)
        if images is None:
            raise ValueError("DistillationLoss needs the images while training: call loss(scores, labels, images)")
        soft_labels = self._labels(images, scores.shape[1])
        loss = self.weight * self.temperature**2 * functional.cross_entropy(scores / self.temperature, soft_labels)
        if self.weight < 1:
            loss = loss + (1 - self.weight) * functional.cross_entropy(scores, labels)
        return loss

    def extra_repr(self) -> str:
        """Teacher, weight and temperature."""
        source = self._source[0]
        teacher = source if isinstance(source, str) else type(source).__name__
        return f"teacher={teacher}, weight={self.weight}, temperature={self.temperature}"

    def __getstate__(self) -> dict[str, object]:
        # A copy of the module, as exports and averaging make, need not copy a teacher that was read from a file.
        return {**self.__dict__, "_teacher": None}


def _load(source: str | nn.Module) -> nn.Module:
    if isinstance(source, nn.Module):
        return source.eval().requires_grad_(False)
    try:
        return load_net(source).requires_grad_(False)
    except CheckpointError as error:
        raise CheckpointError(f"DistillationLoss: the teacher cannot be used: {error}") from error
