"""The sizes of nets by the arguments of their classes: known, and checked, before torch is imported."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from lgn_lightning.base.sizes import (
    ConvGeometry,
    check_classes,
    check_image_shape,
    check_thresholds,
    check_widths,
    choices_of,
    per_layer,
)

#: Candidates of learned connections, unless told.
_CANDIDATES: Final = 8


class Block(NamedTuple):
    """A convolution and the pooling behind it: its own of the arguments of `LogicTreeNet`, and its sizes.

    Attributes:
        channels: Of its input.
        places: Height and width of its output.
        pooled: The same after the pooling.
    """

    trees: int
    kernel_size: int
    padding: int
    connections: str
    groups: int
    channels: int
    places: tuple[int, int]
    pooled: tuple[int, int]


def mlp_widths(
    in_shape: Sequence[int],
    num_classes: int,
    width: int | list[int],
    depth: int | None = None,
    thresholds: Sequence[float] | str = (0.5,),
    arity: int = 2,
    connections: str | list[str] = "",
    edges: list[int] | None = None,
    num_candidates: int = _CANDIDATES,
    grey_in_training: bool = False,
    learnable_thresholds: bool = False,
    **_: Any,
) -> list[int]:
    """Inputs of a `LogicMLP`, then the gates of each layer; takes its arguments.

    Raises:
        ValueError: If they do not fit one another or the number of classes.
    """
    widths = layer_widths(width, depth)
    check_classes(num_classes, widths[-1])
    kinds = per_layer("connections", connections, widths, "layers")
    check_thresholds(thresholds)
    check_image_shape(in_shape)
    for name, given in {"grey_in_training": grey_in_training, "learnable_thresholds": learnable_thresholds}.items():
        if edges and given:
            raise ValueError(f"edges={edges} are gates on bits, which pass no gradient on: leave {name} out")
    widths = [bits_per_value(thresholds, edges) * math.prod(in_shape), *widths]
    _check_layers(widths, arity, kinds, num_candidates)
    return widths


def bits_per_value(thresholds: Sequence[float] | str | int, edges: list[int] | None = None) -> int:
    """Bits that the encoder of a net makes of a channel of a pixel, `EdgeChannels` included."""
    return (thresholds if isinstance(thresholds, int) else len(thresholds)) + 8 * len(edges or ())


def skip_widths(
    in_shape: Sequence[int],
    num_classes: int,
    width: int,
    depth: int,
    skip: str = "concat",
    thresholds: Sequence[float] | str = (0.5,),
    connections: str = "",
    **_: Any,
) -> list[int]:
    """Inputs of each layer of a `LogicSkipNet`, then its outputs; takes its arguments, and errors as `mlp_widths`."""
    bits, *widths = mlp_widths(in_shape, num_classes, width, depth, thresholds, connections=connections)
    if skip != "concat":
        return [bits, *widths]
    choices = choices_of(connections, _CANDIDATES)
    for layer in range(2, depth):
        check_widths(f"LogicLayer({layer * width}, {width}) with all before it", layer * width, width, 2, choices)
    return [bits, *(layer * width for layer in range(1, depth + 1))]


def layer_widths(width: int | list[int], depth: int | None) -> list[int]:
    """Gates of each layer, of one width and a depth, or of a list; a ValueError if they do not fit one another."""
    if isinstance(width, int):
        if depth is None or depth < 1:
            raise ValueError(f"depth={depth}: give the number of layers, at least 1, or a list of widths")
        return [width] * depth
    if not width or depth not in (None, len(width)):
        raise ValueError(f"depth={depth} does not fit the {len(width)} widths {width}; leave depth out")
    return list(width)


def tree_sizes(
    in_shape: Sequence[int],
    num_classes: int,
    channels: list[int],
    dense: list[int],
    kernel_size: int | list[int] = 3,
    padding: int | list[int] = 1,
    pool: int = 2,
    thresholds: Sequence[float] | int | str = (0.5,),
    edges: list[int] | None = None,
    connections: str | list[str] = "",
    tree_connections: str | list[str] = "",
    arity: int = 2,
    groups: int | list[int] = 1,
    num_candidates: int = _CANDIDATES,
    **_: Any,
) -> tuple[list[Block], list[int]]:
    """Sizes of a `LogicTreeNet`: its convolutions, and the inputs and gates of its dense layers; takes its arguments.

    Raises:
        ValueError: If they do not fit one another or the number of classes; the message names the layer.
    """
    if not channels or not dense:
        raise ValueError(f"channels={channels}, dense={dense}: give at least one layer of each")
    check_classes(num_classes, dense[-1])
    kinds = per_layer("connections", connections, dense, "dense layers")
    if not isinstance(thresholds, int):
        check_thresholds(thresholds)
    check_image_shape(in_shape)
    width, size = bits_per_value(thresholds, edges) * in_shape[0], (in_shape[1], in_shape[2])
    given = {"kernel_size": kernel_size, "padding": padding, "tree_connections": tree_connections, "groups": groups}
    each: list[Any] = [per_layer(name, value, channels, "convolutions") for name, value in given.items()]
    blocks = []
    for number, (out, kernel, border, leaves, parts) in enumerate(zip(channels, *each, strict=True), 1):
        if parts < 1 or width % parts or out % parts:
            raise ValueError(f"convolution {number}: groups={parts} do not divide its {width} and {out} channels")
        geometry = ConvGeometry((kernel, kernel), padding=(border, border))
        try:
            geometry.check(size)
        except ValueError as error:
            raise ValueError(f"convolution {number}: {error}") from None
        places = geometry.output_size(size)
        if not 1 <= pool <= min(places):
            raise ValueError(
                f"convolution {number}: pooling {pool}x{pool} does not fit its {places[0]}x{places[1]} outputs; change "
                "its padding or kernel, or the pooling"
            )
        size = (places[0] // pool, places[1] // pool)
        blocks.append(Block(out, kernel, border, leaves, parts, width, places, size))
        width = out
    widths = [width * size[0] * size[1], *dense]
    _check_layers(widths, arity, kinds, num_candidates)
    return blocks, widths


def _check_layers(widths: list[int], arity: int, connections: list[str], num_candidates: int) -> None:
    for kind, (in_dim, out_dim) in zip(connections, pairwise(widths), strict=True):
        name = f"LogicLayer({in_dim}, {out_dim})" if arity == 2 else f"LutLayer({in_dim}, {out_dim}, arity={arity})"
        check_widths(name, in_dim, out_dim, arity, choices_of(kind, num_candidates))


#: What checks the arguments of a net, by the name of its class.
SIZES: Final[dict[str, Callable[..., object]]] = {
    "LogicMLP": mlp_widths,
    "LogicSkipNet": skip_widths,
    "LogicTreeNet": tree_sizes,
}
