"""convlogic: convolutions with trees of depth three and their pooling, dense layers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lgn_lightning.models.layer_list import LayerList
from lgn_lightning.models.peers import parts
from lgn_lightning.models.peers.parts import Assembly, Shape

_ENDS = ("weights", "selection", "indices_")


def import_state_dict(state: Mapping[str, Tensor], shape: Shape) -> LayerList:
    """The net of a state dict, on bits: ``ConvLogicLayer(complete=True)``, each with its pooling of 2, dense layers.

    Kernels are 3 and paddings 1 unless ``shape`` says otherwise, as its MNIST nets need: ``kernels=(5, 3, 3)``,
    ``paddings=(0, 1, 1)``.

    Raises:
        ValueError: If there are no layers of gates, or sizes do not fit one another.
    """
    net = Assembly(shape)
    for name, tensors in parts.modules_of(state, _ENDS).items():
        weights = tensors["weights"]
        if "selection" in tensors:
            if weights.shape[1] != 7:
                raise ValueError(f"{name} has no whole trees: only layers with complete=True are imported")
            packed = parts.whole(tensors["selection"]).long()
            leaves = torch.stack([packed >> 16 & 0xFFFF, packed >> 8 & 0xFF, packed & 0xFF])
            net.tree(leaves, weights, "softmax", (3, 1, 2))
        else:
            net.dense(torch.stack([tensors["indices_0"], tensors["indices_1"]]), weights, "softmax")
    return net.net()
