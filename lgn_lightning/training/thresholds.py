"""Targets that thresholds decide: several labels at once, and yes or no; validation chooses the thresholds."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_f1_score,
    binary_precision,
    binary_recall,
)
from torchmetrics.utilities import dim_zero_cat

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.errors import DataError
from lgn_lightning.training.label_check import described
from lgn_lightning.training.target import Target


class Labels(Target):
    """Several labels at once, each by a score of its own. Labels are 0 or 1, bool, int or float ``[batch, labels]``.

    Logged are ``acc``, ``f1``, ``precision`` and ``recall`` over all labels, the mean ``auc`` (area under the ROC
    curve) of the labels that some samples have and some have not, and ``exact``, the share of samples with all right.

    Args:
        choose: How each validation chooses the thresholds, on the hard net: the highest ``"accuracy"`` or ``"f1"`` of a
            label, or ``"recall"``: the highest threshold that reaches ``recall``. ``"half"`` chooses none: half of the
            bits make a yes.
        recall: The recall to reach, in (0, 1].
    """

    def __init__(self, choose: Literal["accuracy", "f1", "recall", "half"] = "f1", recall: float = 0.9) -> None:
        super().__init__()
        check_choice("choose", choose, ("accuracy", "f1", "recall", "half"))
        if not 0 < recall <= 1:
            raise ValueError(f"recall={recall} is not in (0, 1]")
        self.by, self.recall, self.options = choose, recall, {"choose": choose, "recall": recall}
        self.main = {"accuracy": "acc", "recall": "precision"}.get(choose, "f1")
        self.threshold: Tensor

    def prepare(self, num_classes: int | None, net: nn.Module) -> None:
        """Begins with half of the bits as thresholds."""
        super().prepare(num_classes, net)
        self.register_buffer("threshold", torch.full((self.num_scores,), float(math.ceil(self.middle))))

    def usual_loss(self, label_smoothing: float = 0.0) -> nn.Module:
        """Binary cross-entropy of the logits, which are 0 where half of the bits are one."""
        return nn.BCEWithLogitsLoss()

    def check(self, y: Tensor, ignored: int | None = None) -> None:
        if y.ndim != 2 or y.shape[1] != self.num_classes:
            raise DataError(f"labels are {described(y)}: give 0 or 1, [batch, {self.num_classes}], one a label")
        _check_bits(y)

    def labels(self, y: Tensor) -> Tensor:
        return y.float()

    def decide(self, counts: Tensor) -> Tensor:
        """Whether each count reaches its threshold."""
        return counts >= self.threshold

    def metrics(self) -> dict[str, Metric]:
        """All counts and labels: the thresholds are chosen when all are there."""
        return {"seen": _Seen()}

    def update(self, metrics: Any, counts: Tensor, y: Tensor) -> None:
        metrics["seen"].update(counts, self.labels(y))

    def choose(self, metrics: Any) -> None:
        if self.by == "half":
            return
        for label, (counts, y) in enumerate(zip(*(part.T for part in metrics["seen"].compute()), strict=True)):
            best = best_threshold(counts, y, self.by, self.recall, self.middle)
            self.threshold[label] = math.ceil(best) if self.whole else best

    def compute(self, metrics: Any) -> dict[str, Tensor]:
        counts, y = metrics["seen"].compute()
        decisions, truth = counts >= self.threshold, y > 0.5
        flat = decisions.flatten().int(), truth.flatten().int()
        # torchmetrics takes what is not in [0, 1] for logits and rounds them; only the order counts here.
        # Of a label that all samples have, or none, there is no curve.
        pairs = [(c, t) for c, t in zip(counts.T, truth.T, strict=True) if t.any() and not t.all()]
        auc = [binary_auroc(_ranked(c), t.int()) for c, t in pairs] or [torch.tensor(math.nan, device=counts.device)]
        values = {
            "acc": binary_accuracy(*flat),
            "f1": binary_f1_score(*flat),
            "precision": binary_precision(*flat),
            "recall": binary_recall(*flat),
            "auc": torch.stack(auc).mean(),
        }
        return values | ({"exact": (decisions == truth).all(1).float().mean()} if self.num_scores > 1 else {})

    def decoding(self) -> dict[str, Any]:
        return self._decoding("labels")

    def _decoding(self, kind: str) -> dict[str, Any]:
        count = self.num_scores
        logits = {"scale": [1 / self.tau] * count, "offset": [-self.middle / self.tau] * count}
        return {"kind": kind, "thresholds": self.listed(self.threshold), **logits}


class YesNo(Labels):
    """Yes or no by one score, which a threshold divides. Labels are 0 or 1, int64, bool or float ``[batch]``.

    ``auc``, ``f1``, ``precision`` and ``recall`` are those of the class 1. The arguments are those of `Labels`.
    """

    usual = 2
    senseless_losses = (nn.CrossEntropyLoss, nn.NLLLoss)  # of one class alone they are zero
    _hint = "yes and no are two classes"

    def __init__(self, choose: Literal["accuracy", "f1", "recall", "half"] = "accuracy", recall: float = 0.9) -> None:
        super().__init__(choose, recall)
        if choose == "half":
            self.main = "acc"

    def prepare(self, num_classes: int | None, net: nn.Module) -> None:
        super().prepare(num_classes, net)
        if self.num_classes != 2:
            raise ValueError(f"YesNo: num_classes={self.num_classes}, but yes and no are two classes; set 2")

    @property
    def num_scores(self) -> int:
        return 1

    def check(self, y: Tensor, ignored: int | None = None) -> None:
        if y.ndim != 1:
            raise DataError(f"labels are {described(y)}: give 0 or 1, [batch], here labels.flatten()")
        _check_bits(y)

    def labels(self, y: Tensor) -> Tensor:
        return y.float().unsqueeze(1)

    def decide(self, counts: Tensor) -> Tensor:
        """Class 1 where the count reaches the threshold."""
        return super().decide(counts).squeeze(1).long()

    def decoding(self) -> dict[str, Any]:
        return self._decoding("levels")


def best_threshold(counts: Tensor, y: Tensor, by: str, recall: float, usual: float) -> float:
    """The threshold that divides counts ``[N]`` of labels 0 or 1 best: those that reach it are taken for 1.

    ``by`` and ``recall`` are those of `Labels`; of equally good thresholds the nearest to the ``usual`` one is taken.
    """
    values, place = torch.unique(counts.double(), return_inverse=True)
    ones = torch.zeros_like(values).index_add_(0, place, (y > 0.5).double())
    all_of = torch.zeros_like(values).index_add_(0, place, torch.ones_like(y, dtype=torch.float64))
    # Threshold i is reached by the values from the i-th on; the last one by none.
    tp, reached = (functional.pad(part.flip(0).cumsum(0).flip(0), (0, 1)) for part in (ones, all_of))
    edges = torch.cat([values[:1], (values[1:] + values[:-1]) / 2, values[-1:] + 1])
    positives = ones.sum()
    if by == "recall":
        enough = tp >= recall * positives - 1e-9
        return float(edges[enough.nonzero().max()])
    quality = 2 * tp - reached if by == "accuracy" else 2 * tp / (reached + positives).clamp_min(1)
    best = edges[quality == quality.max()]
    return float(best[(best - usual).abs().argmin()])


class _Seen(Metric):
    """Keeps counts and labels of all samples, of all ranks."""

    full_state_update = False
    counts: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, counts: Tensor, labels: Tensor) -> None:
        self.counts.append(counts.detach())
        self.labels.append(labels)

    def compute(self) -> tuple[Tensor, Tensor]:
        return dim_zero_cat(self.counts), dim_zero_cat(self.labels)


def _ranked(counts: Tensor) -> Tensor:
    """Numbers in [0, 1] of the same order."""
    lowest, highest = counts.min().double(), counts.max().double()
    return (counts.double() - lowest) / (highest - lowest).clamp_min(1e-30)


def _check_bits(y: Tensor) -> None:
    wrong = y[(y != 0) & (y != 1)]
    if len(wrong):
        raise DataError(f"a label is {wrong[0].item()}, but 0 and 1 are all there are")
