"""Looks at labels before torch and torchmetrics do, whose errors name no remedy."""

import torch
from torch import Tensor

from lgn_lightning.base.errors import DataError


def described(y: Tensor) -> str:
    """Type and shape of labels, for messages."""
    return f"{str(y.dtype).removeprefix('torch.')} {list(y.shape)}"


def check_labels(y: Tensor, num_classes: int, ignored: int | None = None) -> None:
    """Refuses labels that a classifier would fail on, or get wrong in silence, by a DataError; leaves out ``ignored``.

    They are int64 ``[batch]`` below ``num_classes`` or distributions, floats ``[batch, num_classes]`` with the sum 1.
    """
    are = f"labels are {described(y)}"
    wanted = f"give int64 [batch], 0 to {num_classes - 1}, or distributions, floats [batch, {num_classes}]"
    if y.is_floating_point():
        if y.ndim != 2 or y.shape[1] != num_classes:
            raise DataError(f"{are}: {wanted}")
        wrong = y[((y.float().sum(1) - 1).abs() < 0.02).logical_not() | (y < 0).any(1)]  # NaN is, too
        if len(wrong):
            raise DataError(
                f"{are}, but no distributions over the classes: a row is {wrong[0].tolist()}; for several labels an "
                "image write a LightningModule with a loss and metrics of your own"
            )
        return
    if y.ndim != 1 or y.dtype != torch.int64:
        mend = "labels.flatten().long()"
        if y.ndim == 2 and y.shape[1] > 1:
            mend = "labels.argmax(1), or target: steps if they are the classes of steps"
        raise DataError(f"{are}: {wanted}, here {mend}")
    wrong = y[(y < 0) | (y >= num_classes)]
    wrong = wrong if ignored is None else wrong[wrong != ignored]
    if len(wrong):
        raise DataError(
            f"a label is {int(wrong[0])}, but classes go from 0 to {num_classes - 1}: number them from 0 on, "
            "or set num_classes of net and LogicClassifier"
        )
