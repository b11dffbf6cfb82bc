"""What nets of gates have in common: sizes that must fit, an option a layer, and their dense layers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

from lgn_lightning.nn import LogicLayer, LutLayer
from lgn_lightning.nn.gate_order import order_gates

T = TypeVar("T")


def check_classes(num_classes: int, last_width: int) -> None:
    """Refuses a last layer that does not divide into the classes, one or more, by a ValueError."""
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes}: a classifier has at least 1 class")
    if last_width % num_classes:
        raise ValueError(
            f"the last layer's width {last_width} does not divide into {num_classes} classes; "
            f"take {-(-last_width // num_classes) * num_classes}"
        )


def per_layer(name: str, value: T | Sequence[T], layers: Sequence[object], what: str) -> list[T]:
    """One value a layer, of an argument that is one for all of them or a list; a ValueError on another length."""
    values: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value] * len(layers)
    if len(values) != len(layers):
        raise ValueError(f"{name}={values}: give one value, or one for each of the {len(layers)} {what}")
    return values


def dense_layers(
    widths: Sequence[int], connections: Sequence[str], num_candidates: int, arity: int = 2, **options: Any
) -> list[LogicLayer] | list[LutLayer]:
    """Makes dense layers of these widths, inputs first; two-input gates lie in the order that trains fastest."""
    dims = list(zip(connections, pairwise(widths), strict=True))
    if arity != 2:
        return [LutLayer(*dim, arity, connections=kind, **options) for kind, dim in dims]
    layers = [LogicLayer(*dim, connections=kind, num_candidates=num_candidates, **options) for kind, dim in dims]
    order_gates(layers)
    return layers
