"""torchlogix: dense layers and trees of raw, light and warp gates, lookup tables, learned wires, thermometer codes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from lgn_lightning.models.layer_list import LayerList
from lgn_lightning.models.peers import parts
from lgn_lightning.models.peers.parts import Assembly, Part, Shape

_ENDS = ("weight", "connections.", "tree_weights.", "thresholds", "raw_diffs")
#: Layers of a residual block, which is one of several in a row.
_BLOCK: Final = re.compile(r"(^|\.)(\d+\.main\.\d+|shortcut\.\d+)$")


def import_state_dict(state: Mapping[str, Tensor], shape: Shape) -> LayerList:
    """The net of a state dict: encoder, convolutions with their poolings, dense layers, group sum.

    Args:
        state: ``model.state_dict()`` of a net whose layers follow one another.
        shape: What it does not say. Kernels are by default the smallest that hold all leaves.

    Raises:
        ValueError: If there are no layers of gates, or sizes do not fit one another.
    """
    named = parts.modules_of(state, _ENDS)
    blocks = [name for name in named if _BLOCK.search(name)]
    if blocks:
        raise ValueError(f"{blocks[0]} is part of a ResidualLogicBlock, and nets of layers in a row alone are imported")
    found = list(named.values())
    net = Assembly(shape)
    order: Tensor | None = None  # of our features, where the next layer counts them otherwise
    if "thresholds" in found[0] or "raw_diffs" in found[0]:
        levels = _levels(found.pop(0))
        if net.image is None:
            raise ValueError("the net begins with thresholds of pixels: give the shape of an image, in_shape")
        is_image, count = any("tree_weights.0" in tensors for tensors in found), levels.shape[-1]
        net.parts.append(_encoder(levels, net.image, is_image))
        order = _order(count, net.image, is_image)
        net.image, net.bits = (net.image[0] * count, *net.image[1:]), math.prod(net.image) * count
    for tensors in found:
        if "tree_weights.0" in tensors:
            _add_tree(net, next(name for name, part in named.items() if part is tensors), tensors, order)
        else:
            _add_dense(net, tensors, order)
        order = None
    return net.net()


def import_module(module: nn.Module) -> LayerList:
    """The net of a live module of torchlogix, whose layers follow one another; see `import_state_dict`."""
    layers: list[Any] = [
        part for part in _leaves(module) if type(part).__name__ not in ("Flatten", "Identity", "Dropout")
    ]
    sums: Any = None
    kernels, paddings, strides, pools = list[int](), list[int](), list[int](), list[int]()
    given: dict[str, Any] = {}
    for part in layers:
        name = type(part).__name__
        if name == "GroupSum":
            sums = part
        elif name == "LogicConv2d":
            kernels.append(int(part.receptive_field_size[0]))
            paddings.append(int(part.padding))
            strides.append(int(part.stride))
            pools.append(0)
            if len(kernels) == 1:
                given["in_shape"] = (int(part.channels), *map(int, part.in_dim))
        elif name == "OrPooling2d":
            if part.kernel_size != part.stride or part.padding not in (0, (0, 0)) or not pools:
                raise ValueError("a pooling whose windows overlap, or without a convolution before it, is not imported")
            pools[-1] = int(part.kernel_size)
        elif not hasattr(part, "get_thresholds") and name != "LogicDense":
            raise ValueError(f"{name} is no layer that is imported: import the state dict of the layers around it")
        if hasattr(part, "parametrization"):
            kind = type(part.parametrization).__name__.removesuffix("LUTParametrization").lower()
            given |= {"parametrization": kind, "temperature": float(part.parametrization.temperature)}
    if sums is None:
        raise ValueError("the module has no GroupSum")
    given |= {"kernels": kernels, "paddings": paddings, "strides": strides, "pools": pools}
    shape = Shape(int(sums.k), float(sums.tau), float(sums.beta), **given)
    first = layers[0]
    if hasattr(first, "get_thresholds") and first.thresholds is not None:
        bits = int(first.thresholds.shape[-1])
        if shape.in_shape is not None:
            shape = replace(shape, in_shape=(shape.in_shape[0] // bits, *shape.in_shape[1:]))
        else:
            pixels = int(layers[1].in_dim) // bits
            shape = replace(shape, in_shape=(1, 1, pixels))
    return import_state_dict(module.state_dict(), shape)


def _leaves(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [leaf for part in module for leaf in _leaves(part)]
    children = list(module.children())
    is_layer = hasattr(module, "connections") or hasattr(module, "get_thresholds")
    if len(children) == 1 and not is_layer:  # a module that holds one net
        return _leaves(children[0])
    return [module]


def _levels(tensors: Mapping[str, Tensor]) -> Tensor:
    """Thresholds of intensities, ``[T]`` or ``[channels, T]``."""
    return tensors["raw_diffs"].cumsum(-1) if "raw_diffs" in tensors else tensors["thresholds"]


def _encoder(levels: Tensor, size: tuple[int, ...], is_image: bool) -> Part:
    if levels.ndim > 1 and levels.shape[0] not in (1, size[0]):
        raise ValueError(f"thresholds {list(levels.shape)} are none of all pixels, nor of {size[0]} channels")
    whole = torch.floor(255 * levels.double() + 1e-6)
    if not ((whole >= 0) & (whole < 255)).all():
        raise ValueError("thresholds must be intensities in [0, 1), of pixels that were divided by 255")
    own = levels.ndim > 1 and levels.shape[0] > 1
    if not own and not (whole.flatten().diff() > 0).all():
        raise ValueError(f"thresholds {levels.flatten().tolist()} do not increase by a level of pixels, 1 / 255")
    count = levels.shape[-1]
    common: dict[str, Any] = {"layer": "Threshold", "in_shape": list(size), "flatten": not is_image}
    tensors = {"levels": (whole.t() if own else whole.flatten()).to(torch.uint8)}
    if own:
        return Part({**common, "thresholds": count, "spacing": "quantile"}, tensors)
    middle = [(float(level) + 0.5) / 255 for level in whole.flatten()]
    return Part({**common, "thresholds": middle}, tensors)


def _order(count: int, size: tuple[int, ...], is_image: bool) -> Tensor:
    """Our number of each of their features, or channels: they count the bits of a feature one after the other."""
    features = size[0] if is_image else math.prod(size)
    return torch.arange(count * features).view(count, features).t().flatten()


def _gates(weights: Tensor, shape: Shape, arity: int) -> tuple[Tensor, str]:
    """Weights and parametrization of ours; equal tables, soft and hard."""
    weights = weights.float() / shape.temperature
    kind = shape.parametrization or ("raw" if arity == 2 and weights.shape[-1] == 16 else None)
    if kind == "raw":
        return weights, "softmax"
    if kind == "light":
        return weights, "sigmoid"
    if kind == "warp":
        return -weights * parts.flips(weights.shape[-1]), "warp"
    raise ValueError("the weights of light and warp look alike: say parametrization='light' or 'warp'")


def _add_dense(net: Assembly, tensors: Mapping[str, Tensor], order: Tensor | None) -> None:
    wires = tensors["connections.indices"]
    weights, parametrization = _gates(tensors["weight"], net.shape, wires.shape[-2])
    wires = wires if order is None else order[wires]
    if "connections.weights" not in tensors:
        net.dense(wires, weights, parametrization)
        return
    candidates, logits = (part.permute(1, 2, 0) for part in (wires, tensors["connections.weights"]))  # [K, …] there
    net.learned(candidates, logits, weights, parametrization)


def _add_tree(net: Assembly, name: str, tensors: Mapping[str, Tensor], order: Tensor | None) -> None:
    places = tensors["connections._indices_L0"][:, :, 0]  # [inputs, trees, gates, (row, column, channel)]
    if places.shape[-1] != 3:
        raise ValueError(f"{name} is a convolution over volumes, and those over images alone are imported")
    row, column, channel = (part.permute(1, 2, 0).flatten(1) for part in places.unbind(-1))
    channel = channel if order is None else order[channel]
    levels = [tensors[f"tree_weights.{level}"] for level in range(len(tensors)) if f"tree_weights.{level}" in tensors]
    weights, parametrization = _gates(torch.cat(levels).transpose(0, 1), net.shape, len(places))
    smallest = int(torch.maximum(row.max(), column.max())) + 1
    net.tree(torch.stack([channel, row, column]), weights, parametrization, (smallest, 0, 0), len(places))
