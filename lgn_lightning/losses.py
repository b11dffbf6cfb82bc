"""Losses beyond those of torch, by the names that recipes give them."""

from lgn_lightning.training.distillation import DistillationLoss
from lgn_lightning.training.losses import ImageLoss

__all__ = ["DistillationLoss", "ImageLoss"]
