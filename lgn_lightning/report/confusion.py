"""Where the discrete net errs: the confusion matrix and the images behind its largest entries."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit import ARGMAX, Decoding


@dataclass(frozen=True)
class Confusion:
    """Scores and predicted classes of the test images, and how many of a class (row) are in which predicted one."""

    matrix: NDArray[np.int64]
    scores: NDArray[Any]
    predicted: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of images on the diagonal."""
        return float(np.trace(self.matrix) / self.matrix.sum())

    def largest(self, count: int) -> list[tuple[int, int, int]]:
        """The largest entries off the diagonal: class, predicted class, images."""
        off = self.matrix - np.diag(np.diag(self.matrix))
        order = np.argsort(off, axis=None, kind="stable")[::-1][:count]
        pairs = [divmod(int(index), len(off)) for index in order]
        return [(true, guess, int(off[true, guess])) for true, guess in pairs if off[true, guess]]

    def examples(self, labels: NDArray[np.int64], true: int, guess: int, count: int) -> list[int]:
        """Indices of images of one entry, those that the net was surest about first."""
        members = np.flatnonzero((labels == true) & (self.predicted == guess))
        if self.scores.shape[1] == len(self.matrix):
            margin = self.scores[members, guess] - self.scores[members, true]
        else:  # levels of one score
            margin = self.scores[members, 0] * (1 if guess > true else -1)
        return [int(index) for index in members[np.argsort(-margin, kind="stable")][:count]]


def confusion(scores: NDArray[Any], labels: NDArray[np.int64], decoding: Decoding = ARGMAX) -> Confusion:
    """Counts classes and predictions of scores ``[N, groups]`` and labels, int64 ``[N]``."""
    classes = decoding.num_names(scores.shape[1])
    predicted = decoding.decide(scores).astype(np.int64)
    matrix = np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    return Confusion(matrix, scores, predicted)
