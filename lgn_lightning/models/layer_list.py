"""A net of any layers one after the other, described by plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from torch import nn

from lgn_lightning.base.choice import check_choice
from lgn_lightning.models.arguments import KnowsArguments
from lgn_lightning.nn import (
    EdgeChannels,
    GroupSum,
    LogicLayer,
    LogicSequential,
    LogicTreeConv2d,
    LutLayer,
    OrPool2d,
    Threshold,
    logic_layers,
)

#: What a layer may be.
LAYERS: Final[dict[str, Callable[..., nn.Module]]] = {
    kind.__name__: kind
    for kind in (
        *(EdgeChannels, GroupSum, LogicLayer, LogicTreeConv2d, LutLayer, OrPool2d, Threshold),
        *(nn.Flatten, nn.Identity),
    )
}


class LayerList(KnowsArguments, LogicSequential):
    """Layers one after the other, each a mapping of its class and arguments; imported nets are of this class.

    Args:
        layers: Such as ``{layer: LogicLayer, in_dim: 64, out_dim: 100}``; ``layer`` is one of EdgeChannels, Flatten,
            GroupSum, Identity, LogicLayer, LogicTreeConv2d, LutLayer, OrPool2d and Threshold.

        in_shape: Shape of a sample, where no encoder says it: ``(channels, height, width)`` of images of bits.

    Raises:
        ValueError: If there is no layer, or none of that name, or its arguments do not fit; the message says which.
    """

    def __init__(self, layers: Sequence[dict[str, Any]], in_shape: Sequence[int] | None = None) -> None:
        if not layers:
            raise ValueError("layers=[]: give at least one layer")
        made = []
        for number, given in enumerate(layers):
            arguments = dict(given)
            kind = arguments.pop("layer", None)
            check_choice(f"layers[{number}]: layer", kind, sorted(LAYERS))
            try:
                made.append(LAYERS[kind](**arguments))
            except (TypeError, ValueError) as error:
                raise ValueError(f"layers[{number}] ({kind}): {error}") from error
        super().__init__(*made)
        if in_shape is not None:
            self.in_shape = tuple(int(size) for size in in_shape)
        #: Of each layer of gates, as it was built.
        self.parametrizations = [layer.parametrization.name for layer in logic_layers(self).values()]
