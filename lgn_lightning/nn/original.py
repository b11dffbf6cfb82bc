"""Import of nets that were trained with the original difflogic library."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lgn_lightning.nn.logic_layer import LogicLayer


def load_difflogic_state_dict(
    net: nn.Module, state_dict: Mapping[str, Tensor], indices: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Loads a checkpoint of the original library, whose connections are not part of its state dict.

    Save them there with ``[layer.indices for layer in model if isinstance(layer, LogicLayer)]``.

    Args:
        net: A net with logic layers of the same widths, in the same order.
        state_dict: The original's ``model.state_dict()``: one ``….weights [out, 16]`` a layer.
        indices: The original's ``layer.indices`` of each layer, in order: two integer tensors ``[out]`` each.

    Raises:
        ValueError: If the number of layers, a shape or an index does not fit; the net is left as it was.
    """
    layers = {name: module for name, module in net.named_modules() if isinstance(module, LogicLayer)}
    weights = [value for key, value in state_dict.items() if key.rsplit(".", 1)[-1] == "weights"]
    if not len(layers) == len(weights) == len(indices):
        raise ValueError(
            f"the net has {len(layers)} logic layers, the checkpoint {len(weights)} and `indices` {len(indices)}; "
            "all three must be equal"
        )
    for (name, layer), weight, (a, b) in zip(layers.items(), weights, indices, strict=True):
        if weight.shape != layer.weights.shape or not a.shape == b.shape == (layer.out_dim,):
            raise ValueError(
                f"layer {name} is {layer.in_dim} → {layer.out_dim}, but the checkpoint has weights "
                f"{list(weight.shape)} and indices {list(a.shape)}, {list(b.shape)}"
            )
        if min(int(a.min()), int(b.min())) < 0 or max(int(a.max()), int(b.max())) >= layer.in_dim:
            raise ValueError(f"the indices of layer {name} reach outside its {layer.in_dim} inputs")
    with torch.no_grad():
        for layer, weight, (a, b) in zip(layers.values(), weights, indices, strict=True):
            layer.weights.copy_(weight)
            for own, original in zip(layer.indices, (a, b), strict=True):
                own.copy_(original)
