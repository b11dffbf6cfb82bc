"""CompactLogic: gates that chose among slots, each a gate with a pair of wires."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lgn_lightning.models.layer_list import LayerList
from lgn_lightning.models.peers import parts
from lgn_lightning.models.peers.parts import Assembly, Shape

_ENDS = ("weights", "indices", "gate_sequence", "offsets_", "w")


def import_state_dict(state: Mapping[str, Tensor], shape: Shape) -> LayerList:
    """The net of a state dict, on bits, with the gates and wires that it settled on.

    A gate of a convolution is a tree of depth one. Paddings and kernels are the smallest that hold all slots unless
    ``shape`` says otherwise, and there is no pooling.

    The slots that were not chosen are left out. Where the last layer does not divide into the classes, gates that are
    always zero make it do so, as the library's sums do.

    Raises:
        ValueError: If there are no layers of gates, or sizes do not fit one another.
    """
    layers = list(parts.modules_of(state, _ENDS).values())
    net = Assembly(shape)
    for number, tensors in enumerate(layers):
        slot = parts.whole(tensors["w"] if "w" in tensors else tensors["weights"].argmax(1)).long()[:, None]
        gates = parts.whole(tensors["gate_sequence"]).long().gather(1, slot).squeeze(1)
        if "offsets_ch" in tensors:
            _add_convolution(net, tensors, slot, gates)
            continue
        wires = torch.stack([part.gather(1, slot).squeeze(1) for part in tensors["indices"]])
        if number == len(layers) - 1 and (missing := -len(gates) % shape.classes):
            gates = torch.cat([gates, gates.new_zeros(missing)])
            wires = torch.cat([wires, wires.new_zeros(2, missing)], 1)
        net.dense(wires, parts.certain(gates), "softmax")
    return net.net()


def _add_convolution(net: Assembly, tensors: Mapping[str, Tensor], slot: Tensor, gates: Tensor) -> None:
    channels, rows, columns = (tensors[f"offsets_{axis}"].long() for axis in ("ch", "h", "w"))
    places = torch.stack([rows, columns])  # from the unpadded image's corner
    padding = net.shape.of("paddings", net.convolutions, max(0, -int(places.min())))
    chosen = slot.expand(2, -1, -1)
    leaves = torch.stack([part.gather(2, chosen).squeeze(2).t() for part in (channels, *places + padding)])
    kernel = int(places.max()) + padding + 1
    net.tree(leaves, parts.certain(gates)[:, None], "softmax", (kernel, padding, 0))
