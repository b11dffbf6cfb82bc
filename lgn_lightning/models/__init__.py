"""Nets that recipes name."""

from lgn_lightning.models.mlp import MLP, LogicMLP
from lgn_lightning.models.table import TableMLP
from lgn_lightning.models.torchvision_net import TorchvisionNet
from lgn_lightning.models.tree import LogicTreeNet

__all__ = ["MLP", "LogicMLP", "LogicTreeNet", "TableMLP", "TorchvisionNet"]
