"""Facts of each layer of gates: which gates it chose, how certain the choices are, and how often outputs are on."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lgn_lightning.gates import NUM_GATES
from lgn_lightning.nn import GateLayer, GroupSum, LogicLayer, LutLayer, PackBitsTensor, logic_layers
from lgn_lightning.nn.watching import watching

#: Images that go through the net at once, and how many at most through layers that take no packed bits.
_BLOCK = 1024
_UNPACKED_IMAGES = 2048
_ONES = np.array([byte.bit_count() for byte in range(256)], np.uint8)


@dataclass(frozen=True)
class LayerFacts:
    """One layer of gates, by its path in the net: what it is, and what its gates are.

    Attributes:
        soft: What a gate is while it is soft, and in brackets the parametrization.
        entropy: Mean entropy of the gate distributions, in bits.
        counts: How many gates chose each of the 16, int64 ``[16]``; zeros if gates have more than two inputs.
        on: Share of the images for which each output is 1, float64 ``[outputs]``; None without images.
    """

    name: str
    kind: str
    gates: int
    arity: int
    soft: str
    entropy: float
    counts: NDArray[np.int64]
    on: NDArray[np.float64] | None = None

    @property
    def ones(self) -> float | None:
        """Mean share of ones over all outputs."""
        return None if self.on is None else float(self.on.mean())

    @property
    def constant(self) -> int | None:
        """Outputs that never changed over the images."""
        return None if self.on is None else int(((self.on == 0) | (self.on == 1)).sum())


def layer_facts(net: nn.Module, images: NDArray[np.uint8] | None) -> tuple[list[LayerFacts], int]:
    """Facts of every layer of gates of a net in ``.eval()`` mode, and the number of images that activity is of."""
    layers = logic_layers(net)
    activity, measured = ({}, 0) if images is None else _activity(net, layers, images)
    facts = []
    for name, layer in layers.items():
        what = name, type(layer).__name__, layer.num_neurons, layer.arity
        soft = f"{layer.parametrization.soft_gate} ({layer.parametrization.name})"
        facts.append(LayerFacts(*what, soft, float(layer.entropy().mean()), _counts(layer), activity.get(name)))
    return facts, measured


def _counts(layer: GateLayer) -> NDArray[np.int64]:
    if layer.arity != 2:  # too many kinds of gates to count
        return np.zeros(NUM_GATES, np.int64)
    return layer.gate_counts().numpy()


@torch.inference_mode()
def _activity(
    net: nn.Module, layers: dict[str, GateLayer], images: NDArray[np.uint8]
) -> tuple[dict[str, NDArray[np.float64]], int]:
    packed = _takes_packed_bits(net, layers)
    count = len(images) if packed else min(len(images), _UNPACKED_IMAGES)
    ones: dict[str, NDArray[np.int64]] = {}
    seen = dict.fromkeys(layers, 0)  # of a recurrent net every step

    def add(name: str, _: Any, output: Tensor | PackBitsTensor) -> None:
        block = _ones_of(output)
        seen[name] += output.shape[0]
        ones[name] = ones[name] + block if name in ones else block

    with ExitStack() as hooks:
        hooks.enter_context(watching(layers, add))
        if packed and layers:
            first = next(iter(layers.values()))
            hooks.enter_context(first.register_forward_pre_hook(lambda _, x: (PackBitsTensor(x[0] > 0.5), *x[1:])))
        for start in range(0, count, _BLOCK):
            net(torch.from_numpy(images[start : min(start + _BLOCK, count)]))
    return {name: total / seen[name] for name, total in ones.items()}, count


def _takes_packed_bits(net: nn.Module, layers: dict[str, GateLayer]) -> bool:
    """Whether everything from the first gates on computes on packed bits, which is some 30 times faster."""
    if not isinstance(net, nn.Sequential):
        return False
    modules = list(net)
    if not {id(layer) for layer in layers.values()} <= {id(module) for module in modules}:
        return False
    first = next((index for index, module in enumerate(modules) if isinstance(module, GateLayer)), len(modules))
    return all(type(module) in (LogicLayer, LutLayer, GroupSum) for module in modules[first:])


def _ones_of(output: Tensor | PackBitsTensor) -> NDArray[np.int64]:
    """Ones of each output over a batch, int64 ``[outputs]``."""
    if not isinstance(output, PackBitsTensor):
        return (output > 0.5).flatten(1).sum(0).cpu().numpy()
    words = np.array(output.t.cpu().numpy().T, order="C")  # [outputs, words], a copy: the next layer reads the bits
    bits = 8 * words.itemsize
    if unused := -output.batch % bits:  # bits beyond the batch may hold anything
        mask = np.array([(1 << (bits - unused)) - 1], f"u{words.itemsize}").view(words.dtype)
        words[:, -1] &= mask
    ones: NDArray[np.int64] = _ONES[words.view(np.uint8)].sum(1, dtype=np.int64)
    return ones
