"""The states of recurrent layers while a net runs, soft and hard: for callbacks and reports."""

import math

import torch
from torch import Tensor, nn

from lgn_lightning.nn.recurrent import LogicRecurrent, Steps
from lgn_lightning.nn.sequential import soft_gates


@torch.no_grad()
def states_of(net: nn.Module, x: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """Name, hard and soft states ``[batch, steps, state]`` of each recurrent layer of a net in ``.eval()`` mode."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, LogicRecurrent)}
    inputs: dict[str, Tensor | Steps] = {}
    handles = [
        layer.register_forward_pre_hook(lambda _module, args, name=name: inputs.update({name: args[0]}))
        for name, layer in layers.items()
    ]
    try:
        if layers:
            net(x)
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for name, layer in layers.items():
        hard = layer.states(inputs[name])
        with soft_gates(layer):
            found.append((name, hard, layer.states(inputs[name])))
    return found


def state_entropy(hard: Tensor) -> Tensor:
    """Mean entropy of a state bit over the sequences, in bits: states ``[batch, steps, state]`` to ``[steps]``."""
    ones = hard.mean(0)
    return -(torch.xlogy(ones, ones) + torch.xlogy(1 - ones, 1 - ones)).mean(1) / math.log(2)
