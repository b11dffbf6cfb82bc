"""The LightningModules by what they are trained for; a recipe says it by ``model.target``."""

from typing import Any

from torch import nn

from lgn_lightning.training.module import LogicModule
from lgn_lightning.training.targets import Target


class LogicClassifier(LogicModule):
    """Trains a net as a classifier: one class of many, unless another ``target`` is given.

    Labels are int64 ``[batch]``, or distributions over the classes, floats ``[batch, num_classes]``, whose likeliest
    class counts for the accuracy. Arguments and metrics are those of :class:`LogicModule`, with ``acc`` the accuracy.
    """


class LogicRegressor(LogicModule):
    """Trains a net to say a number, or several.

    Labels are floats ``[batch]``, or ``[batch, k]`` for *k* numbers, each a group sum of the net with a scale and an
    offset, which come from the labels of the training.

    Args:
        net: Maps a batch to scores ``[batch, num_classes]``.
        num_classes: Numbers a sample.
        loss: Loss of standardized numbers, such as ``nn.L1Loss()`` or ``nn.HuberLoss()``; the squared error by default.
        target: The target.
        **kwargs: Arguments of :class:`LogicModule`.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int = 1,
        loss: nn.Module | None = None,
        target: str | Target = "number",
        **kwargs: Any,
    ) -> None:
        super().__init__(net, num_classes, loss=loss, target=target, **kwargs)
