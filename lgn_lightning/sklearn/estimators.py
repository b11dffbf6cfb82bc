"""The classifier and the regressor."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array
from torch import nn

from lgn_lightning.sklearn.base import LogicGateEstimator
from lgn_lightning.training.targets import SmoothedInTraining


class LogicGateClassifier(ClassifierMixin, LogicGateEstimator):  # type: ignore[misc]  # likewise
    """A logic gate network that tells classes apart, trained straight-through on threshold bits of the columns.

    Numbers are compared with quantiles of the training rows; frames may have columns of texts or categories, and
    missing values. What predicts is the circuit. Early stopping, validation and seeds work as in scikit-learn.

    Args:
        width: Gates a layer; more where it could not read all bits or gates before it.
        depth: Layers.
        thresholds: Most thresholds a column.
        learned_layers: Layers, from the first on, whose gates choose what they read.
        num_candidates: Inputs that they choose among.
        steps: Steps of the optimizer; None for 64 passes over the rows, at least 200 and at most 3,000 steps.
        batch_size: Rows a step.
        learning_rate: The highest; it falls to 0 by a cosine.
        loss: A loss other than the usual one of the target, such as `lgn_lightning.losses.FocalLoss`.
        validation_fraction: Share of the rows that chooses the net; 0 takes the last one.
        patience: Validations without a lower loss after which training stops; there are 20.
        random_state: Seed of split, wires, weights and order.
        class_weight: ``"balanced"``, or a weight by class.
        label_smoothing: Share of a label that the usual loss spreads over all classes, in training.

    Attributes:
        classes_: The classes.
        circuit_: The circuit, gate for gate as the net; ``circuit_.optimize()`` is smaller, ``to_c()`` its C.
        net_: The net.
        engine_: What predicts.
        columns_: What each column holds.
        n_iter_: Steps taken.
    """

    def __init__(
        self,
        width: int = 4000,
        depth: int = 3,
        thresholds: int = 32,
        learned_layers: int = 1,
        num_candidates: int = 16,
        steps: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 0.1,
        loss: nn.Module | None = None,
        validation_fraction: float = 0.15,
        patience: int | None = None,
        random_state: Any = None,
        class_weight: Any = None,
        label_smoothing: float = 0.1,
    ) -> None:
        of_net = width, depth, thresholds, learned_layers, num_candidates
        super().__init__(*of_net, steps, batch_size, learning_rate, loss, validation_fraction, patience, random_state)
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing

    def fit(self, X: Any, y: ArrayLike) -> "LogicGateClassifier":  # noqa: N803 - scikit-learn's name
        """Trains on rows ``[N, columns]`` and classes ``[N]``."""
        rows, y = self._rows(X, y, fitting=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"the rows have one class, {self.classes_[0]!r}: there is nothing to tell apart")
        loss = self.loss
        if self.class_weight is not None:
            if loss is not None:
                raise ValueError("class_weight is that of the usual loss: give the other loss its weights")
            weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
            loss = SmoothedInTraining(torch.tensor(weights, dtype=torch.float32), label_smoothing=self.label_smoothing)
        labels, smoothing = torch.from_numpy(codes.astype(np.int64)), self.label_smoothing
        self._train(rows, labels, "classes", len(self.classes_), loss, smoothing)
        names = [str(name) for name in self.classes_]
        if len(set(names)) == len(names) and all(name and name.isprintable() for name in names):
            self.circuit_ = self.circuit_.with_class_names(names)
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Classes ``[N]``."""
        scores = self._scores(X)
        return np.asarray(self.classes_[self.circuit_.decoding.decide(scores)])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Probabilities ``[N, classes]``, as the training's loss takes the scores."""
        scores = self._scores(X)
        found = self.circuit_.decoding.probabilities(scores, self.circuit_.tau)
        assert found is not None
        return found

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Scores ``[N, classes]``; of two classes how far the second is ahead, ``[N]``."""
        counts = self._scores(X)
        scores = counts / self.circuit_.tau
        return np.asarray(scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores)


class LogicGateRegressor(RegressorMixin, MultiOutputMixin, LogicGateEstimator):  # type: ignore[misc]  # likewise
    """A logic gate network that says a number, or several; see `LogicGateClassifier` for arguments and attributes."""

    def fit(self, X: Any, y: ArrayLike) -> "LogicGateRegressor":  # noqa: N803
        """Trains on rows ``[N, columns]`` and numbers ``[N]`` or ``[N, k]``."""
        rows, y = self._rows(X, y, fitting=True)
        numbers = check_array(y, ensure_2d=False, dtype=np.float64)
        self._single = numbers.ndim == 1
        labels = torch.from_numpy(numbers.astype(np.float64))
        self._train(rows, labels, "number", 1 if self._single else numbers.shape[1], self.loss)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Numbers ``[N]`` or ``[N, k]``."""
        scores = self._scores(X)
        numbers = self.circuit_.decoding.decide(scores)
        return np.asarray(numbers[:, 0] if self._single else numbers)
