"""The states of recurrent layers and of automata while a net runs: for callbacks and reports."""

import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lgn_lightning.nn.automaton import LogicAutomaton
from lgn_lightning.nn.recurrent import LogicRecurrent
from lgn_lightning.nn.sequential import soft_gates
from lgn_lightning.nn.watching import watching


@torch.no_grad()
def states_of(net: nn.Module, x: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """Name, hard and soft states ``[batch, steps, state]`` of each recurrent layer of a net in ``.eval()`` mode."""
    layers, inputs = _inputs_of(net, x, LogicRecurrent)
    found = []
    for name, layer in layers.items():
        hard = layer.states(inputs[name])
        with soft_gates(layer):
            found.append((name, hard, layer.states(inputs[name])))
    return found


@torch.no_grad()
def grids_of(net: nn.Module, x: Tensor, steps: int) -> Tensor | None:
    """The grids of a net's automaton, hard, before it and after each step, ``[batch, 1 + steps, channels, H, W]``.

    An automaton of several steps goes as many, whatever ``steps``; None without one.
    """
    layers, inputs = _inputs_of(net, x, LogicAutomaton)
    for name, layer in layers.items():
        return torch.stack([inputs[name], *layer.grids(inputs[name], layer.steps if layer.steps > 1 else steps)], 1)
    return None


_Layer = TypeVar("_Layer", bound=nn.Module)


def _inputs_of(net: nn.Module, x: Tensor, kind: type[_Layer]) -> tuple[dict[str, _Layer], dict[str, Any]]:
    """The layers of a kind by name, and what each is given when the net runs."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, kind)}
    inputs: dict[str, Any] = {}
    if layers:
        with watching(layers, lambda name, given, _: inputs.update({name: given[0]})):
            net(x)
    return layers, inputs


def state_entropy(hard: Tensor) -> Tensor:
    """Mean entropy of a state bit over the sequences, in bits: states ``[batch, steps, state]`` to ``[steps]``."""
    ones = hard.mean(0)
    return -(torch.xlogy(ones, ones) + torch.xlogy(1 - ones, 1 - ones)).mean(1) / math.log(2)
