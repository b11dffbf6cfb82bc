"""Logic gate networks as estimators of scikit-learn: arrays and frames in, predictions of the verified circuit out."""

from lgn_lightning.sklearn.estimators import LogicGateClassifier, LogicGateRegressor

__all__ = ["LogicGateClassifier", "LogicGateRegressor"]
