"""What a net is trained to say: one class of many, yes or no, several labels, a number, or a level."""

import math
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import CohenKappa, MeanAbsoluteError, MeanSquaredError, Metric, R2Score
from torchmetrics.classification import MulticlassAccuracy

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.errors import DataError
from lgn_lightning.base.padding import IGNORED
from lgn_lightning.training.label_check import check_labels, described
from lgn_lightning.training.target import Target
from lgn_lightning.training.thresholds import Labels, YesNo

__all__ = [
    "TARGETS",
    "Classes",
    "Labels",
    "Number",
    "Ordinal",
    "StepClasses",
    "Target",
    "YesNo",
    "make_target",
    "num_scores_of",
]


class SmoothedInTraining(nn.CrossEntropyLoss):
    """Validation and test measure the cross-entropy itself."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        smoothing = self.label_smoothing if self.training else 0.0
        return functional.cross_entropy(input, target, self.weight, label_smoothing=smoothing)


class Classes(Target):
    """One class of many: the highest score. Labels are int64 ``[batch]``, or distributions over the classes."""

    main = "acc"
    usual = 10
    _hint = "a classifier tells 2 classes or more apart; for one output take target: yes_no, which has one score"

    def usual_loss(self, label_smoothing: float = 0.0) -> nn.Module:
        return SmoothedInTraining(label_smoothing=label_smoothing)

    def check(self, y: Tensor, ignored: int | None = None) -> None:
        check_labels(y, self.num_classes, ignored)

    def outputs(self, scores: Tensor) -> Tensor:
        return scores

    def counts(self, scores: Tensor, hard: bool) -> Tensor:
        """The scores: which is the highest does not depend on tau."""
        return scores

    def decide(self, counts: Tensor) -> Tensor:
        return counts.argmax(1)

    def metrics(self) -> dict[str, Metric]:
        return {"acc": MulticlassAccuracy(self.num_classes, average="micro")}

    def update(self, metrics: Any, counts: Tensor, y: Tensor) -> None:
        """Of distributions the likeliest class counts."""
        metrics["acc"].update(counts, y.argmax(1) if y.is_floating_point() else y)

    def decoding(self) -> dict[str, Any]:
        return {"kind": "argmax"}


class StepClasses(Classes):
    """A class at every step of a sequence. Labels are int64 ``[batch, steps]``; those of -100 do not count.

    The net gives scores ``[batch, num_classes, steps]``, as `LogicRNN` does with ``readout: every``.
    """

    def check(self, y: Tensor, ignored: int | None = None) -> None:
        if y.ndim != 2 or y.is_floating_point():
            raise DataError(f"labels are {described(y)}: give int64 [batch, steps], a class at every step, or -100")
        check_labels(y.flatten(), self.num_classes, IGNORED)

    def outputs(self, scores: Tensor) -> Tensor:
        """A ValueError if they are of whole sequences."""
        if scores.ndim != 3:
            raise ValueError(f"the net gives scores {list(scores.shape)} and none of every step: set readout to every")
        return scores

    def metrics(self) -> dict[str, Metric]:
        return {"acc": MulticlassAccuracy(self.num_classes, average="micro", ignore_index=IGNORED)}


class Number(Target):
    """Numbers, one a score: mean + spread · reach · (count − middle) / middle.

    Mean and spread (standard deviation) of the training's labels are part of the checkpoint. The loss is that of
    standardized numbers. Logged are ``rmse`` and ``mae`` in the labels' unit, and ``r2``, that of standardized numbers
    where there are several. The net's tau does not matter.

    Args:
        reach: Standard deviations from the mean to the least and greatest number that the bits of a sum can make. Few
            lead to finer numbers, of which more bits must agree: nets then generalise better, as the average of many.
    """

    main = "r2"
    senseless_losses = (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss)
    mean: Tensor
    spread: Tensor
    fitted: Tensor

    def __init__(self, reach: float = 10.0) -> None:
        super().__init__()
        if not 0 < reach < math.inf:
            raise ValueError(f"Number(reach={reach}): must be positive")
        self.reach, self.options = reach, {"reach": reach}

    def prepare(self, num_classes: int | None, net: nn.Module) -> None:
        """Begins with the mean 0 and the spread 1."""
        super().prepare(1 if num_classes is None else num_classes, net)
        self.register_buffer("mean", torch.zeros(self.num_classes, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(self.num_classes, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))

    def usual_loss(self, label_smoothing: float = 0.0) -> nn.Module:
        return nn.MSELoss()

    def check(self, y: Tensor, ignored: int | None = None) -> None:
        wanted = "[batch]" if self.num_classes == 1 else f"[batch, {self.num_classes}]"
        if not y.is_floating_point() or (y[:, None] if y.ndim == 1 else y).shape[1:] != (self.num_classes,):
            raise DataError(f"labels are {described(y)}: give floats {wanted}")
        if not y.isfinite().all():
            raise DataError(f"a label is {y[~y.isfinite()][0].item()}: leave samples without a number out")

    @property
    def needs_labels(self) -> bool:
        return not self.fitted

    def fit(self, y: Tensor) -> None:
        """Takes mean and spread."""
        y = y.double().reshape(len(y), -1)
        self.mean.copy_(y.mean(0))
        spread = y.std(0, correction=0)
        if not spread.isfinite().all():
            raise DataError(f"labels reach {y.abs().max():.3g}, of which float64 holds no squares: divide them")
        self.spread.copy_(spread.clamp_min(torch.finfo(torch.float32).tiny))
        self.fitted.fill_(True)

    def labels(self, y: Tensor) -> Tensor:
        """Standardized, ``[batch, num_classes]``."""
        return ((y.double().reshape(len(y), -1) - self.mean) / self.spread).float()

    def decide(self, counts: Tensor) -> Tensor:
        """Numbers, float64 ``[batch]``, or ``[batch, num_classes]`` if there are several."""
        numbers = self._offset + self._scale * counts.double()
        return numbers.squeeze(1) if self.num_classes == 1 else numbers

    def outputs(self, scores: Tensor) -> Tensor:
        """Standardized numbers."""
        return super().outputs(scores) * self._gain

    @property
    def _gain(self) -> float:
        return self.reach * self.tau / self.middle if self.middle else 1.0

    @property
    def _scale(self) -> Tensor:
        return self.spread * self._gain / self.tau

    @property
    def _offset(self) -> Tensor:
        return self.mean - self._scale * self.middle

    def metrics(self) -> dict[str, Metric]:
        return {"r2": R2Score(), "rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError()}

    def update(self, metrics: Any, counts: Tensor, y: Tensor) -> None:
        """R² of standardized numbers, whose sums of squares do not lose digits."""
        numbers = self.decide(counts)
        metrics["r2"].update(self.labels(numbers).flatten(), self.labels(y).flatten())
        for name in ("rmse", "mae"):
            metrics[name].update(numbers.flatten(), y.double().flatten())

    def compute(self, metrics: Any) -> dict[str, Tensor]:
        """R² of a single number is NaN."""
        values = {name: metrics[name].compute() for name in ("rmse", "mae")}
        # torchmetrics raises an error for less than two, in the sanity check of a small data set, too
        total = metrics["r2"].total
        few = torch.as_tensor(total).sum() < 2 and not torch.distributed.is_initialized()
        return {"r2": torch.tensor(math.nan, device=self.mean.device) if few else metrics["r2"].compute()} | values

    def decoding(self) -> dict[str, Any]:
        return {"kind": "numbers", "scale": self._scale.tolist(), "offset": self._offset.tolist()}


class Ordinal(Target):
    """Levels in an order, by one score that trained cut points divide: the proportional odds model (McCullagh, 1980).

    Labels are int64 ``[batch]``, 0 the lowest level. The chance of a level above *j* is σ(score − cut *j*). Logged are
    ``kappa`` (Cohen's, with quadratic weights), ``acc`` and ``mae``, the mean distance in levels.
    """

    main = "kappa"
    senseless_losses = (nn.CrossEntropyLoss, nn.NLLLoss)
    cuts: nn.Parameter
    fitted: Tensor

    def prepare(self, num_classes: int | None, net: nn.Module) -> None:
        """Begins with evenly spaced cut points."""
        super().prepare(num_classes, net)
        if self.num_classes < 2:
            raise ValueError(f"Ordinal: num_classes={self.num_classes}, but there are 2 levels or more; set it")
        self.cuts = nn.Parameter(torch.linspace(-1, 1, self.num_classes - 1))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def num_scores(self) -> int:
        return 1

    def usual_loss(self, label_smoothing: float = 0.0) -> nn.Module:
        """Binary cross-entropy of being above each cut point."""
        return nn.BCEWithLogitsLoss()

    def check(self, y: Tensor, ignored: int | None = None) -> None:
        if y.is_floating_point():
            raise DataError(f"labels are {described(y)}: give int64 [batch], 0 to {self.num_classes - 1}")
        check_labels(y, self.num_classes)

    @property
    def needs_labels(self) -> bool:
        return not self.fitted

    def fit(self, y: Tensor) -> None:
        """Puts the cut points where an untrained score has each level as often as the training."""
        shares = torch.bincount(y, minlength=self.num_classes).cumsum(0)[:-1] / len(y)
        with torch.no_grad():
            self.cuts.copy_(torch.logit(shares, eps=0.01))
        self.fitted.fill_(True)

    def _ordered(self) -> Tensor:
        # Steps of Adam may swap neighbours, which would leave the level between them empty.
        return self.cuts.cummax(0).values

    def outputs(self, scores: Tensor) -> Tensor:
        """Logits of being above each cut point, ``[batch, num_classes - 1]``."""
        return super().outputs(scores) - self._ordered()

    def labels(self, y: Tensor) -> Tensor:
        """Whether the level is above each cut point, floats ``[batch, num_classes - 1]``."""
        return (y.unsqueeze(1) > torch.arange(self.num_classes - 1, device=y.device)).float()

    @property
    def _thresholds(self) -> Tensor:
        thresholds = self._ordered().detach() * self.tau + self.middle
        return thresholds.ceil() if self.whole else thresholds

    def decide(self, counts: Tensor) -> Tensor:
        """The number of thresholds that the count reaches."""
        return (counts >= self._thresholds).sum(1)

    def metrics(self) -> dict[str, Metric]:
        return {
            "kappa": CohenKappa(task="multiclass", num_classes=self.num_classes, weights="quadratic"),
            "acc": MulticlassAccuracy(self.num_classes, average="micro"),
            "mae": MeanAbsoluteError(),
        }

    def decoding(self) -> dict[str, Any]:
        offsets = (-self.middle / self.tau - self._ordered()).tolist()
        logits = {"scale": [1 / self.tau], "offset": offsets}
        return {"kind": "levels", "thresholds": self.listed(self._thresholds), **logits}


#: Targets by the words of recipes.
TARGETS: Final[dict[str, type[Target]]] = {
    "classes": Classes,
    "yes_no": YesNo,
    "labels": Labels,
    "number": Number,
    "ordinal": Ordinal,
    "steps": StepClasses,
}


def num_scores_of(target: str, num_classes: int) -> int:
    """Scores that a net must give for a target of one of the words."""
    return 1 if issubclass(TARGETS[target], YesNo | Ordinal) else num_classes


def describe_target(target: Target) -> str | dict[str, Any]:
    """A target as recipes say it."""
    word = next((word for word, kind in TARGETS.items() if type(target) is kind), None)
    if word is not None and not target.options:
        return word
    return {"class_path": f"{type(target).__module__}.{type(target).__qualname__}", "init_args": target.options}


def make_target(target: str | Target | dict[str, Any]) -> Target:
    """A target by its word, as `describe_target` gives it, or as it is; a ValueError if there is no such word."""
    if isinstance(target, Target):
        return target
    if isinstance(target, dict):  # of a checkpoint, which may not say what code runs
        name = str(target.get("class_path")).rpartition(".")[2]
        kind = next((kind for kind in TARGETS.values() if kind.__name__ == name), None)
        if kind is None:
            raise ValueError(f"{target.get('class_path')} is none of the targets {', '.join(TARGETS)}; give target=…")
        return kind(**target.get("init_args", {}))
    check_choice("target", target, TARGETS)
    return TARGETS[target]()
