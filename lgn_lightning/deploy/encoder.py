"""The encoder of a table's rows alone: a circuit whose scores are the bits, and the layer of a net."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.columns import Comparisons
from lgn_lightning.circuit import Circuit

if TYPE_CHECKING:
    from torch import nn


def encoder_circuit(comparisons: Comparisons) -> Circuit:
    """A circuit without gates, each of whose classes is one comparison."""
    none, bits = np.zeros(0, np.int32), np.arange(len(comparisons), dtype=np.int32)
    return Circuit(len(bits), none.astype(np.uint8), none, none, bits, len(bits), comparisons=comparisons)


def encoder_scores(net: nn.Module, rows: NDArray[Any]) -> NDArray[np.int32]:
    """What the net's `Columns` make of rows, int32 ``[N, bits]``."""
    import torch  # takes seconds, and a circuit file can be verified without

    from lgn_lightning.nn import Columns

    layer = next(module for module in net.modules() if isinstance(module, Columns))
    with torch.no_grad():
        bits = layer(torch.from_numpy(rows).to(layer.constant.device))
    return np.asarray(bits.cpu().numpy(), np.int32)
