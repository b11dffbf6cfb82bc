"""The dense layers of nets of gates."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from lgn_lightning.base.sizes import per_layer
from lgn_lightning.nn import LogicLayer, LutLayer, SlotLayer
from lgn_lightning.nn.dense_layer import DenseLayer
from lgn_lightning.nn.gate_order import order_gates


def dense_layers(
    widths: Sequence[int], connections: str | list[str], num_candidates: int, arity: int = 2, **options: Any
) -> Sequence[DenseLayer]:
    """Makes dense layers of these widths, inputs first; two-input gates lie in the order that trains fastest."""
    dims = list(zip(per_layer("connections", connections, widths[1:], "layers"), pairwise(widths), strict=True))
    options["num_candidates"] = num_candidates
    if arity != 2:
        return [LutLayer(*dim, arity, connections=kind, **options) for kind, dim in dims]
    layers = [(SlotLayer if kind == "slots" else LogicLayer)(*dim, connections=kind, **options) for kind, dim in dims]
    order_gates(layers)
    return layers
