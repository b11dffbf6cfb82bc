"""How much the loss of a batch counts in the mean over batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric


def loss_weight(loss: nn.Module, labels: Tensor) -> Tensor | int:
    """What the loss of a batch is a mean over: the mean of batches by these weights does not depend on their size.

    Cross-entropy leaves labels out (``ignore_index``), as of steps behind the end of a sequence, and divides by the
    weights of the others' classes. Losses that are not known count by samples.

    Args:
        loss: The loss. One of one's own may say what it is a mean over, by a method ``mean_over(labels)``.
        labels: What it takes as labels, ``[batch, …]``.
    """
    own = getattr(loss, "mean_over", None)
    if own is not None:
        weight: Tensor | int = own(labels)
        return weight
    # Distributions over the classes torch averages over samples, too.
    if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or loss.reduction != "mean" or labels.is_floating_point():
        return len(labels)
    counts = labels != loss.ignore_index
    return counts.sum() if loss.weight is None else (loss.weight[labels.where(counts, 0)] * counts).sum()


def add_loss(mean: MeanMetric, value: Tensor, loss: nn.Module, labels: Tensor) -> None:
    """Adds the loss of a batch to the mean over all of them; one in which no label counts adds nothing."""
    weight = loss_weight(loss, labels)
    if isinstance(weight, Tensor):
        value = torch.where(weight > 0, value, 0)  # torch's mean over no label is NaN
    mean.update(value, weight=weight)
