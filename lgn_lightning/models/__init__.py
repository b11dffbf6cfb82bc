"""Nets that recipes name."""

from typing import TYPE_CHECKING

from lgn_lightning.base.lazy import lazy_names

if TYPE_CHECKING:
    from lgn_lightning.models.automaton import LogicCA
    from lgn_lightning.models.layer_list import LayerList
    from lgn_lightning.models.mlp import MLP, LogicMLP
    from lgn_lightning.models.recurrent import LogicRNN
    from lgn_lightning.models.skip import LogicSkipNet
    from lgn_lightning.models.table import TableMLP
    from lgn_lightning.models.torchvision_net import TorchvisionNet
    from lgn_lightning.models.tree import LogicTreeNet

__all__ = [
    "MLP",
    "LayerList",
    "LogicCA",
    "LogicMLP",
    "LogicRNN",
    "LogicSkipNet",
    "LogicTreeNet",
    "TableMLP",
    "TorchvisionNet",
]

# Imported on first use: sizes are checked without torch.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "LayerList": "layer_list",
        "MLP": "mlp",
        "LogicMLP": "mlp",
        "LogicCA": "automaton",
        "LogicRNN": "recurrent",
        "LogicSkipNet": "skip",
        "TableMLP": "table",
        "TorchvisionNet": "torchvision_net",
        "LogicTreeNet": "tree",
    },
)
